"""The verbs that build: call the pipeline, and say what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import click

from freewheel.base import console
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build import buildinfo, check, known_good, pipeline
from freewheel.commands import selection
from freewheel.commands.outcomes import show_error, show_outcomes
from freewheel.publish import install_lines
from freewheel.trust import reproduce


@click.command(
    short_help="Build wheels, and the local index of them.",
    epilog="Example: freewheel build asyncpg --release 0.31.0",
)
@selection.options(targets=True)
@click.option("--baseline", is_flag=True, help="Without patches, into wheels/baseline/.")
@click.option(
    "--compiler-cache", is_flag=True, help="Compile nothing that was compiled before; same bytes."
)
def build(choice: selection.Choice, *, baseline: bool, compiler_cache: bool) -> int:
    """Build the wheels of PROJECTS (all recipes when none is named)."""
    started = time.monotonic()
    workspace = find_workspace()
    planned = selection.plan(workspace, choice, baseline=baseline)
    jobs = [replace(job, compiler_cache=compiler_cache) for job in planned]
    with console.Board() as board:
        outcomes = pipeline.build(workspace, jobs, board)
    for outcome in outcomes:
        if outcome.changed:
            console.note(f"{outcome.job.title}: built again, changed: {', '.join(outcome.changed)}")
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


@click.command(
    name="reproduce",
    short_help="Build each wheel twice, all else varied, and compare.",
    epilog="Example: freewheel reproduce httptools",
)
@selection.options(targets=True)
def reproduce_wheels(choice: selection.Choice) -> int:
    """Build the wheels of PROJECTS (all recipes when none is named) twice, and compare."""
    started = time.monotonic()
    workspace = find_workspace()
    jobs = selection.plan(workspace, choice, baseline=False)
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
            each.job.target,
            " ".join(dict.fromkeys(build.sha256 for build in each.builds)),
            " and ".join(f"{build.seconds:.0f}" for build in each.builds),
            each.verdict,
        )
        for each in reproductions
    ]
    console.table(("project", "version", "target", "SHA-256", "seconds", "verdict"), rows)


def _show_install_lines(workspace: Workspace, outcomes: Sequence[pipeline.Outcome]) -> None:
    made = {(outcome.job.recipe.name, outcome.job.version) for outcome in outcomes}
    # With the digests of the same version's wheels for other targets, which serve as before.
    built = [
        wheel
        for record in buildinfo.read_records(workspace.wheels)
        if (record.project, record.version) in made
        and (
            wheel := check.recall(
                record.wheel, project=record.project, version=record.version, sha256=record.sha256
            )
        )
    ]
    install_lines.write_requirements(workspace.wheels / "requirements.txt", built)
    lines = install_lines.install_lines(built, workspace.simple.as_uri() + "/")
    console.say()
    console.say("Install what is in wheels/requirements.txt into an environment with either")
    console.say(f"  {lines.pip}")
    console.say(f"  {lines.uv}")


@click.command(
    name="lock-wheels",
    short_help="Record the wheels as known good.",
    epilog="Example: freewheel lock-wheels greenlet",
)
@selection.projects_argument
def lock_wheels(projects: tuple[str, ...]) -> None:
    """Take the wheels of PROJECTS (all when none is named) into the lock of known-good wheels."""
    workspace = find_workspace()
    records = selection.verified_records(workspace, projects)
    changed = known_good.accept(workspace.known_good, records)
    for entry in changed:
        console.say(f"{entry.wheel}: {entry.sha256}")
    console.say(f"{len(changed)} entries of {workspace.known_good.name} are new")
