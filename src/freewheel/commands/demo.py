"""The verb that shows a defect: one probe on the public wheel and on ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from freewheel.base import console, process
from freewheel.base.workspace import find_workspace
from freewheel.build import pipeline
from freewheel.build.job import Job
from freewheel.commands import selection
from freewheel.commands.outcomes import show_outcomes
from freewheel.machine.interpreter import find_interpreter
from freewheel.proof import demo as showing
from freewheel.proof.control import ending
from freewheel.recipe.pythons import DEFAULT, Python


@click.command(
    short_help="Show one defect on the public wheel and on ours.",
    epilog="Example: freewheel demo asyncpg --probe P2",
)
@selection.project_argument
@click.option("--release", "version", metavar="X", help="A release; the newest by default.")
@click.option("--probe", "defect", default="", metavar="ID", help="The defect, such as P2.")
@selection.python_option
def demo(project: str, version: str | None, defect: str, tag: str | None) -> int:
    """Run one probe of PROJECT on the public wheel and on ours, and say what it saw.

    Ours is built first where it is not there. Where no public wheel exists, the release is built
    without patches instead. A demonstration is no proof: `freewheel prove` runs every probe often.
    """
    process.end_by_sigterm()
    workspace = find_workspace()
    choice = selection.Choice(
        projects=(project,),
        versions=(version,) if version else (),
        targets=(Python(tag or DEFAULT.tag),),
    )
    (job,) = selection.plan(workspace, choice, baseline=False)
    probe = showing.choose_probe(workspace, job.release, defect)
    with console.Board() as board:
        ours = _built(job, board)
        if ours is None:
            return 1
        interpreter = find_interpreter(workspace, job.python)
        with board.stage(job.recipe.name, "public wheel"):
            directory = workspace.work / f"public-{job.recipe.name}"
            public = showing.public_wheel(job.release, interpreter, directory)
        if public is None:
            console.note("no public wheel for this interpreter; built without patches instead")
            public = _built(replace(job, baseline=True), board)
            if public is None:
                return 1
        seen = showing.demonstrate(workspace, probe, [public, ours], interpreter, board)
    console.say(f"{probe.defect}: {probe.title}")
    console.say()
    rows = [
        (one.wheel, f"{one.failures} of {len(one.runs)} fail", ending(one.runs[-1])) for one in seen
    ]
    console.table(("wheel", "runs", "how the last one ended"), rows)
    for one in seen:
        if one.failures and one.runs[-1].said.strip():
            console.replay(f"what it printed on {one.wheel}", one.runs[-1].said.strip())
    console.say(f"The program: {probe.path.relative_to(workspace.root)}")
    return 0


def _built(job: Job, board: console.Board) -> Path | None:
    """The job's wheel; None, having said why, where it could not be built."""
    (outcome,) = pipeline.build(find_workspace(), [job], board)
    if outcome.error or outcome.wheel is None:
        show_outcomes([outcome])
        return None
    return outcome.wheel.path
