"""The command line: reads the words, calls the pipeline, says what came of it, and exits."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import click

from freewheel import __version__, console, consume, pipeline, server
from freewheel import publish as publishing
from freewheel.destination import resolve_destination
from freewheel.doctor import examine
from freewheel.errors import FreewheelError
from freewheel.recipe import Recipe, Release, choose_recipe, load_recipes
from freewheel.verify import VerifiedWheel
from freewheel.workspace import Workspace, find_workspace


def main() -> NoReturn:
    """Run the command line; the exit code is 0, the error's own, or 130 when interrupted."""
    try:
        code = commands.main(standalone_mode=False)
    except FreewheelError as error:
        _show(error)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        console.fail("interrupted; nothing half-written was left in wheels/")
        code = 130
    sys.exit(code or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands() -> None:
    """Build, verify and publish patched wheels for free-threaded CPython."""


@commands.command()
@click.argument("projects", nargs=-1)
@click.option("--release", "versions", multiple=True, metavar="X", help="A release; repeatable.")
@click.option("--all-releases", is_flag=True, help="Every release that the recipe carries.")
@click.option("--baseline", is_flag=True, help="Without patches, into wheels/baseline/.")
def build(
    projects: tuple[str, ...],
    versions: tuple[str, ...],
    *,
    all_releases: bool,
    baseline: bool,
) -> int:
    """Build the wheels of PROJECTS (all recipes when none is named)."""
    if versions and all_releases:
        raise click.UsageError("--release and --all-releases exclude each other")
    if versions and len(projects) != 1:
        raise click.UsageError("--release needs exactly one project")
    started = time.monotonic()
    workspace = find_workspace()
    recipes = load_recipes(workspace.recipes, workspace.patches)
    chosen = [choose_recipe(recipes, name) for name in projects] or list(recipes)
    choose = _chooser(versions, all_releases=all_releases)
    jobs = pipeline.plan(chosen, choose, baseline=baseline)
    with console.Board() as board:
        outcomes = pipeline.build(workspace, jobs, board)
    for outcome in outcomes:
        if outcome.changed:
            console.note(f"{outcome.job.title}: built anew, changed: {', '.join(outcome.changed)}")
    _show_outcomes(outcomes)
    console.say(f"{console.duration(time.monotonic() - started)} in all")
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed:
        return failed[0].exit_code
    if not baseline:
        _show_install_lines(workspace, outcomes)
    return 0


def _chooser(
    versions: Sequence[str], *, all_releases: bool
) -> Callable[[Recipe], Sequence[Release]]:
    if all_releases:
        return lambda recipe: recipe.releases
    if versions:
        return lambda recipe: [recipe.release(version) for version in versions]
    return lambda recipe: [recipe.default_release]


def _show_outcomes(outcomes: Sequence[pipeline.Outcome]) -> None:
    for outcome in outcomes:
        if outcome.error:
            _show(outcome.error)
            console.say(f"try again: {_again(outcome.job)}")
    rows = [
        (
            outcome.job.recipe.name,
            outcome.wheel.version,
            outcome.wheel.path.name,
            f"{outcome.wheel.size / 1024:.0f} KiB",
            "fresh" if outcome.fresh else f"{outcome.seconds:.0f}",
            outcome.wheel.sha256,
        )
        for outcome in outcomes
        if outcome.wheel
    ]
    if rows:
        console.table(("project", "version", "wheel", "size", "seconds", "SHA-256"), rows)


def _again(job: pipeline.Job) -> str:
    baseline = " --baseline" if job.baseline else ""
    return f"nox -s build-{job.recipe.name} -- --release {job.release.version}{baseline}"


def _show_install_lines(workspace: Workspace, outcomes: Sequence[pipeline.Outcome]) -> None:
    built = [outcome.wheel for outcome in outcomes if isinstance(outcome.wheel, VerifiedWheel)]
    consume.write_requirements(workspace.wheels / "requirements.txt", built)
    lines = consume.install_lines(built, workspace.simple.as_uri() + "/")
    console.say()
    console.say("Install what is in wheels/requirements.txt into a cp314t environment with either")
    console.say(f"  {lines.pip}")
    console.say(f"  {lines.uv}")


@commands.command()
@click.option("--port", type=int, help="Port on loopback; the one used last, 3141 at first.")
def serve(port: int | None) -> None:
    """Run the private index as a server on this machine, until interrupted."""
    server.serve(find_workspace(), port=port)


@commands.command()
@click.argument("projects", nargs=-1)
def publish(projects: tuple[str, ...]) -> None:
    """Upload the wheels of PROJECTS (all in wheels/ when none is named) and compare them."""
    workspace = find_workspace()
    recipes = load_recipes(workspace.recipes, workspace.patches)
    names = [choose_recipe(recipes, name).name for name in projects]
    wheels = pipeline.verified_wheels(workspace, names)
    destination = resolve_destination(workspace)
    published = publishing.publish(wheels, destination)
    rows = [
        (item.wheel.path.name, "uploaded" if item.uploaded else "was there", item.wheel.sha256)
        for item in published
    ]
    console.table(("wheel", "state", "SHA-256, read back"), rows)
    console.say()
    console.say("Install them, pinned and with hashes, with either")
    lines = consume.install_lines(wheels, destination.simple_url)
    console.say(f"  {lines.pip}")
    console.say(f"  {lines.uv}")


@commands.command()
def doctor() -> int:
    """Say what was found on this machine, what would be chosen and why, and what is missing."""
    findings = examine(find_workspace())
    for finding in findings:
        console.say(f"{finding.state:8} {finding.topic}: {finding.detail}")
        if finding.reason:
            console.say(f"{'':8}   {finding.reason}")
        if finding.remedy:
            console.say(f"{'':8}   Next: {finding.remedy}")
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def _show(error: FreewheelError) -> None:
    if error.output.strip():
        console.replay("what the command printed", error.output.rstrip())
    console.fail(str(error))
