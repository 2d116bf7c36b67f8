"""Stage *soak*: the stress programs of a release at work for a long time, on the patched wheel.

A proof lets them work for a minute or less. What is lost now and then, or goes wrong once in a
million times, shows in an hour. It is no part of a certificate, because it takes so long.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from freewheel.base import files
from freewheel.base.console import Board
from freewheel.base.workspace import Workspace
from freewheel.build.check import KnownWheel
from freewheel.build.job import titled
from freewheel.machine.interpreter import find_interpreter
from freewheel.proof.control import ending
from freewheel.proof.programs import Outcome, Stress, load_programs
from freewheel.proof.running import Run, make_environment, run_stress
from freewheel.proof.services import running_services
from freewheel.recipe.pythons import Python


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaked:
    """How a stress program ended on a wheel after working for ``work`` seconds."""

    python: Python
    wheel: KnownWheel
    stress: Stress
    work: float
    run: Run

    @property
    def title(self) -> str:
        title = titled(self.wheel.project, self.wheel.version, self.python)
        return f"{title}: {self.stress.name}"

    @property
    def problem(self) -> str:
        """What was wrong, with the end of what the program printed; "" if nothing was."""
        if self.run.outcome is Outcome.PASS:
            return ""
        return f"{self.title}: {ending(self.run)}: {self.run.said}"


def soak(
    workspace: Workspace,
    wheels: Sequence[tuple[Python, KnownWheel]],
    board: Board,
    *,
    seconds: float,
) -> list[Soaked]:
    """Let each stress program of each wheel's project work for ``seconds``, one after the other.

    They run under the limits that they declare: on memory, and on the time beyond ``seconds``.
    """
    interpreters = {python: find_interpreter(workspace, python) for python, _ in wheels}
    pairs = [
        (python, wheel, stress)
        for python, wheel in wheels
        for stress in load_programs(workspace.probes, wheel.project).stress
    ]
    found = []
    board.expect(len(pairs))
    with files.locked(workspace.locks / "proof.lock", what="a proof"):
        for python, wheel, stress in pairs:
            scratch = files.empty_directory(workspace.work / f"soak-{wheel.path.stem}")
            made = make_environment(scratch / "patched", wheel.path, interpreters[python])
            with (
                board.stage(titled(wheel.project, wheel.version, python), stress.name),
                running_services([stress], {"patched": made}, scratch) as (placed, services),
            ):
                environment = placed["patched"]
                run = run_stress(stress, environment, scratch, work=seconds, services=services)
            found.append(Soaked(python=python, wheel=wheel, stress=stress, work=seconds, run=run))
            shutil.rmtree(scratch)
    return found
