"""The command line: reads the words, calls the pipeline, says what came of it, and exits."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from freewheel import __version__
from freewheel.base import console
from freewheel.base.errors import FreewheelError
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build import buildinfo, finished, known_good, pipeline
from freewheel.build.check import VerifiedWheel
from freewheel.commands import proof as proof_commands
from freewheel.commands import release as release_commands
from freewheel.commands import selection
from freewheel.commands import upkeep as upkeep_commands
from freewheel.commands.doctor import examine
from freewheel.commands.outcomes import show_error, show_outcomes
from freewheel.publish import install_lines, server
from freewheel.recipe.recipe import load_recipes
from freewheel.trust import provenance, rebuild, reproduce, verify
from freewheel.upkeep import locks


def main() -> NoReturn:
    """Run the command line; the exit code is 0, the error's own, or 130 when interrupted."""
    try:
        code = commands.main(standalone_mode=False)
    except FreewheelError as error:
        show_error(error)
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
@selection.release_option
@selection.all_releases_option
@selection.target_option
@click.option("--baseline", is_flag=True, help="Without patches, into wheels/baseline/.")
def build(
    projects: tuple[str, ...],
    versions: tuple[str, ...],
    *,
    all_releases: bool,
    baseline: bool,
    target: str | None,
) -> int:
    """Build the wheels of PROJECTS (all recipes when none is named)."""
    started = time.monotonic()
    workspace = find_workspace()
    jobs = selection.plan(
        workspace,
        projects,
        versions,
        all_releases=all_releases,
        baseline=baseline,
        target=target,
    )
    with console.Board() as board:
        outcomes = pipeline.build(workspace, jobs, board)
    for outcome in outcomes:
        if outcome.changed:
            console.note(f"{outcome.job.title}: built anew, changed: {', '.join(outcome.changed)}")
    show_outcomes(outcomes)
    _show_judgements(outcomes)
    console.say(f"{console.duration(time.monotonic() - started)} in all")
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed:
        return failed[0].exit_code
    if not baseline:
        _show_install_lines(workspace, outcomes)
    return 0


def _show_judgements(outcomes: Sequence[pipeline.Outcome]) -> None:
    """Say which wheels the lock does not have, and which it has by other inputs."""
    unknown = []
    for outcome in outcomes:
        judged = outcome.known_good
        if judged and judged.differing:
            inputs = ", ".join(judged.differing)
            console.note(f"{outcome.job.title}: the known-good bytes; changed since: {inputs}")
        elif judged and not judged.known:
            unknown.append(outcome.job.title)
    if unknown:
        console.note(
            f"not among the known-good wheels: {', '.join(unknown)} "
            "(nox -s freewheel -- lock-wheels)"
        )


@commands.command(name="reproduce")
@click.argument("projects", nargs=-1)
@selection.release_option
@selection.all_releases_option
@selection.target_option
def reproduce_wheels(
    projects: tuple[str, ...], versions: tuple[str, ...], *, all_releases: bool, target: str | None
) -> int:
    """Build the wheels of PROJECTS (all recipes when none is named) twice, and compare."""
    started = time.monotonic()
    workspace = find_workspace()
    jobs = selection.plan(
        workspace,
        projects,
        versions,
        all_releases=all_releases,
        baseline=False,
        target=target,
    )
    with console.Board() as board:
        reproductions = reproduce.reproduce(workspace, jobs, board)
    _show_reproductions(reproductions)
    console.say(f"{console.duration(time.monotonic() - started)} in all")
    return max(each.error.exit_code if each.error else 0 for each in reproductions)


def _show_reproductions(reproductions: Sequence[reproduce.Reproduction]) -> None:
    for variation in reproductions[0].variations:
        console.say(str(variation))
    console.say()
    for each in reproductions:
        if each.error:
            show_error(each.error)
    rows = [
        (
            each.job.recipe.name,
            each.job.version,
            " ".join(dict.fromkeys(build.sha256 for build in each.builds)),
            " and ".join(f"{build.seconds:.0f}" for build in each.builds),
            each.verdict,
        )
        for each in reproductions
    ]
    console.table(("project", "version", "SHA-256", "seconds", "verdict"), rows)


def _show_install_lines(workspace: Workspace, outcomes: Sequence[pipeline.Outcome]) -> None:
    built = [outcome.wheel for outcome in outcomes if isinstance(outcome.wheel, VerifiedWheel)]
    install_lines.write_requirements(workspace.wheels / "requirements.txt", built)
    lines = install_lines.install_lines(built, workspace.simple.as_uri() + "/")
    console.say()
    console.say("Install what is in wheels/requirements.txt into a cp314t environment with either")
    console.say(f"  {lines.pip}")
    console.say(f"  {lines.uv}")


@commands.command()
@click.option("--port", type=int, help="Port on loopback; the one used last, 3141 at first.")
def serve(port: int | None) -> None:
    """Run the private index as a server on this machine, until interrupted."""
    server.serve(find_workspace(), port=port)


@commands.command(name="verify")
@click.argument("wheels", nargs=-1, required=True, type=click.Path(path_type=Path))
def verify_wheels(wheels: tuple[Path, ...]) -> None:
    """Check WHEELS again, with the buildinfo and the attestation beside each."""
    for path in wheels:
        found = verify.verify_file(path)
        signed = f"signed by {', '.join(found.signers)}" if found.signers else "not signed"
        proven = f"{found.certified.kind} certificate" if found.certified else "no certificate"
        console.say(f"{path.name}: good, {signed}, {proven}")


@commands.command()
@click.argument("projects", nargs=-1)
def attest(projects: tuple[str, ...]) -> None:
    """Sign in-toto provenance for the wheels of PROJECTS (all when none is named)."""
    for record in _verified_records(find_workspace(), projects):
        console.say(f"{provenance.attest(record)}")


@commands.command(name="rebuild")
@click.argument("wheel")
def rebuild_wheel(wheel: str) -> None:
    """Build WHEEL, a path or a URL, again from what it records, and compare."""
    workspace = find_workspace()
    recipes = load_recipes(workspace.recipes, workspace.patches)
    made = rebuild.rebuild(workspace, recipes, wheel)
    console.say(f"{made.name}: identical, {made.sha256}")


@commands.command(name="lock-wheels")
@click.argument("projects", nargs=-1)
def lock_wheels(projects: tuple[str, ...]) -> None:
    """Take the wheels of PROJECTS (all when none is named) into the lock of known-good wheels."""
    workspace = find_workspace()
    changed = known_good.accept(workspace.known_good, _verified_records(workspace, projects))
    for entry in changed:
        console.say(f"{entry.wheel}: {entry.sha256}")
    console.say(f"{len(changed)} entries of {workspace.known_good.name} are new")


def _verified_records(workspace: Workspace, projects: Sequence[str]) -> list[buildinfo.Record]:
    """The records of the wheels in wheels/, all of which still have the bytes they name."""
    chosen = selection.chosen_recipes(workspace, projects)
    verified = {wheel.path for wheel in finished.verified_wheels(workspace, chosen)}
    records = buildinfo.read_records(workspace.wheels)
    return [record for record in records if record.wheel in verified]


@commands.command(name="update-pins")
@click.option("--keep", is_flag=True, help="Keep the versions that still fit.")
def update_pins(*, keep: bool) -> None:
    """Resolve every lock in src/freewheel/pins/ again, and say what changed."""
    changes = locks.update(find_workspace(), upgrade=not keep)
    rows = [(c.lock, c.package, c.before or "-", c.after or "-") for c in changes]
    if rows:
        console.table(("lock", "package", "was", "is"), rows)
    console.say(f"{len(rows)} changes")


@commands.command()
@click.argument("wheel", type=click.Path(path_type=Path))
def explain(wheel: Path) -> None:
    """Say what WHEEL is made of: upstream's release, the patches and why, the pins, the digest."""
    # Imported here: it brings in what reads SBOMs, which the other commands need not wait for.
    from freewheel.trust import explain as explaining  # noqa: PLC0415

    for line in explaining.explain(wheel, root=explaining.find_checkout()):
        console.say(line)


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


for command in (*proof_commands.ALL, *release_commands.ALL, *upkeep_commands.ALL):
    commands.add_command(command)
