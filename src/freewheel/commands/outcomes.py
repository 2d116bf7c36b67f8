"""What came of builds, told to a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from freewheel.base import console
from freewheel.base.errors import FreewheelError
from freewheel.recipe.pythons import DEFAULT

if TYPE_CHECKING:  # the verbs that build nothing need not wait for what builds need
    from freewheel.build import pipeline
    from freewheel.build.job import Job


def show_outcomes(outcomes: Sequence[pipeline.Outcome]) -> None:
    """Each error with the line that tries again, and a table of the wheels."""
    for outcome in outcomes:
        if outcome.error:
            show_error(outcome.error)
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


def _again(job: Job) -> str:
    words = ["--release", job.release.version]
    if job.python != DEFAULT:
        words += ["--python", job.python.tag]
    if job.baseline:
        words.append("--baseline")
    return f"nox -s build-{job.recipe.name} -- {' '.join(words)}"


def show_error(error: FreewheelError) -> None:
    """The error with its hint, after what the command behind it printed."""
    if error.output.strip():
        console.replay("what the command printed", error.output.rstrip())
    console.fail(str(error))
