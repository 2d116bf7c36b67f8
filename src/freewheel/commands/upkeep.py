"""The commands of upkeep: what is said of them on a terminal."""

from __future__ import annotations

from pathlib import Path

import click

from freewheel.audit.available import Index
from freewheel.base import console, process
from freewheel.base.errors import ProbeError
from freewheel.base.workspace import find_workspace
from freewheel.build import pipeline
from freewheel.build.job import Job
from freewheel.build.source import configured_places
from freewheel.build.wheel import host_target
from freewheel.commands import selection
from freewheel.commands.outcomes import show_outcomes
from freewheel.fill import shelf
from freewheel.proof import cases
from freewheel.recipe.building import Place
from freewheel.recipe.recipe import choose_recipe, load_recipes
from freewheel.upkeep import docs, locks, new_recipe, refresh, watch, watch_report
from freewheel.upkeep.upstream import offer_of


@click.command(
    name="watch",
    short_help="Say what upstream has released since.",
    epilog="Example: freewheel watch greenlet",
)
@selection.projects_argument
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where report.md and report.json go; a directory in the cache by default.",
)
def watch_upstream(projects: tuple[str, ...], output: Path | None) -> None:
    """Say what upstream has released since of PROJECTS (all recipes when none is named).

    Newer releases are built without patches and put to the probes. What is seen is not an error:
    the exit code is 0 whether or not there is something to do.
    """
    process.end_by_sigterm()
    workspace = find_workspace()
    with console.Board() as board:
        seen = watch.watch(workspace, selection.chosen_recipes(workspace, projects), board)
    directory = output or workspace.cache / "watch"
    watch_report.write(directory, seen)
    console.say()
    console.say(watch_report.markdown(seen))
    console.note(f"report: {directory / watch_report.REPORT}")
    index = Index(configured_places(), workspace.cache / "audit" / "index")
    for wheel, instead in shelf.retired(workspace, index).items():
        console.note(f"{wheel} was built to fill a gap: the index has {instead} now; fill again")


@click.command(
    name="refresh",
    short_help="Carry patches over to another release.",
    epilog="Example: freewheel refresh asyncpg 0.33.0",
)
@selection.project_argument
@click.argument("version")
@click.option("--continue", "proceed", is_flag=True, help="Go on after conflicts were solved.")
def refresh_series(project: str, version: str, *, proceed: bool) -> None:
    """Carry PROJECT's newest patches over to its release VERSION, and add that to the recipe."""
    workspace = find_workspace()
    recipe = choose_recipe(load_recipes(workspace.recipes, workspace.patches), project)
    release = offer_of(recipe.name, version).as_release()
    done = refresh.refresh(workspace, recipe, release, proceed=proceed)
    for name in done.written:
        console.say(f"{done.directory.relative_to(workspace.root) / name}")
    for name in done.upstream:
        console.say(f"{name}: left out, upstream has its changes, or it was skipped")
    if recipe.default_release.vendored:
        console.warn("versions of vendored parts were taken over; look them up in the sources")
    renewed = choose_recipe(load_recipes(workspace.recipes, workspace.patches), project)
    try:
        cases.check_probes(workspace, [(renewed, renewed.release(release.version))])
    except ProbeError as error:
        for problem in error.problems:
            console.warn(
                f"{problem}: drop the patch; or, if the probe fails there, name the release"
            )
    console.say(f"Next: nox -s build-{recipe.name} -- --release {release.version}, then prove it")


@click.command(
    name="new-recipe",
    short_help="Write a recipe from the index and the sdist, and build it.",
    epilog="Example: freewheel new-recipe msgpack 1.1.2",
)
@click.argument("name")
@click.argument("version")
@click.option("--import-name", metavar="PACKAGE", help="The package that is imported.")
@click.option("--version-file", metavar="FILE", help="The file that sets the version.")
@click.option("--version-pattern", metavar="TEXT", help="How it does, with {version}.")
def begin_recipe(
    name: str,
    version: str,
    *,
    import_name: str | None,
    version_file: str | None,
    version_pattern: str | None,
) -> int:
    """Write a recipe for VERSION of the project NAME, and build the release without patches.

    What the index and the sdist tell is written; what they do not is reported, with what to write.
    """
    if bool(version_file) != bool(version_pattern):
        raise click.UsageError("--version-file and --version-pattern belong together")
    place = None
    if version_file and version_pattern:
        place = Place(file=version_file, pattern=version_pattern)
    workspace = find_workspace()
    begun = new_recipe.begin(workspace, name, version, import_name=import_name, place=place)
    recipe = begun.recipe
    console.say(f"{recipe.path.relative_to(workspace.root)}: read it, and correct what is not so")
    for note in begun.notes:
        console.warn(note)
    for change in locks.add_missing(workspace, recipe):
        console.say(f"{change.lock}: {change.package} {change.after}")
    job = Job(
        recipe=recipe,
        release=recipe.default_release,
        baseline=True,
        target=host_target(recipe, recipe.default_release),
    )
    with console.Board() as board:
        (outcome,) = pipeline.build(workspace, [job], board)
    show_outcomes([outcome])
    if outcome.error:
        console.say(f"Next: correct the recipe, then nox -s build-{recipe.name} -- --baseline")
        return outcome.error.exit_code
    console.say(f"Next: nox -s build-{recipe.name}; docs/recipes.md goes on")
    return 0


@click.command(
    name="update-pins",
    short_help="Renew the locks.",
    epilog="Example: freewheel update-pins --keep",
)
@click.option("--keep", is_flag=True, help="Keep the versions that still fit.")
def update_pins(*, keep: bool) -> None:
    """Resolve every lock in src/freewheel/pins/ again, and say what changed."""
    changes = locks.update(find_workspace(), upgrade=not keep)
    rows = [(c.lock, c.package, c.before or "-", c.after or "-") for c in changes]
    if rows:
        console.table(("lock", "package", "was", "is"), rows)
    console.say(f"{len(rows)} changes")


@click.command(
    name="docs",
    short_help="Renew the tables of the documentation.",
    epilog="Example: freewheel docs",
)
def renew_docs() -> None:
    """Make the tables of README.md and docs/ again from recipes, probes and platforms."""
    workspace = find_workspace()
    for path in docs.renew(workspace):
        console.say(f"{path.relative_to(workspace.root)}: renewed")
