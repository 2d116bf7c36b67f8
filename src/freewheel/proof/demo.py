"""One probe on the public wheel and on ours, side by side, for a person to see."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from freewheel.base import files, process
from freewheel.base.console import Board
from freewheel.base.errors import CommandFailed, ProbeError
from freewheel.base.workspace import Workspace
from freewheel.machine.interpreter import Interpreter
from freewheel.proof.programs import Outcome, Probe, load_programs
from freewheel.proof.running import Run, make_environment, run_program
from freewheel.proof.services import running_services
from freewheel.recipe.recipe import Release

RUNS = 3  # at most, of each wheel: a demonstration, and no proof
_DOWNLOAD_TIMEOUT = 300.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a demonstration saw of one wheel."""

    wheel: str
    runs: tuple[Run, ...]

    @property
    def failures(self) -> int:
        return sum(run.outcome is not Outcome.PASS for run in self.runs)


def choose_probe(workspace: Workspace, release: Release, defect: str = "") -> Probe:
    """The probe of that defect, or the one that shows most: a crash in supported use.

    Raises ProbeError where the release has no such defect.
    """
    programs = load_programs(workspace.probes, release.project)
    concerned = [one for one in programs.probes if Version(release.version) in one.releases]
    chosen = [one for one in concerned if defect in {"", one.defect}]
    if not chosen:
        raise ProbeError(
            f"no probe shows {defect or 'a defect'} of {release.project} {release.version}",
            hint=f"there are {', '.join(one.defect for one in concerned) or 'none'}",
        )
    return min(chosen, key=_order)


def _order(probe: Probe) -> tuple[bool, bool, bool, float, str]:
    """What is misuse, does not crash, or needs a server comes later."""
    return (
        probe.use != "supported",
        Outcome.CRASH not in probe.fails_by,
        bool(probe.needs),
        probe.seconds,
        probe.defect,
    )


def public_wheel(release: Release, interpreter: Interpreter, directory: Path) -> Path | None:
    """The wheel of that release that pip finds for the interpreter; None where there is none."""
    files.empty_directory(directory)
    python = ".".join(interpreter.version.split(".")[:2])
    try:
        process.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--only-binary", ":all:", "--implementation", "cp", "--python-version", python),
                *("--abi", f"cp{python.replace('.', '')}t", "--dest", directory),
                f"{release.project}=={release.version}",
            ],
            timeout=_DOWNLOAD_TIMEOUT,
        )
    except CommandFailed:
        return None
    return next(directory.glob("*.whl"), None)


def demonstrate(
    workspace: Workspace,
    probe: Probe,
    wheels: Sequence[Path],
    interpreter: Interpreter,
    board: Board,
) -> list[Seen]:
    """Run the probe on each wheel in turn: until one has failed, and ``RUNS`` times at most."""
    scratch = files.empty_directory(workspace.work / f"demo-{probe.project}")
    places = [scratch / str(number) for number in range(len(wheels))]
    with board.stage(probe.project, "environments"):
        environments = [
            make_environment(place / "environment", wheel, interpreter)
            for place, wheel in zip(places, wheels, strict=True)
        ]
    runs: list[list[Run]] = [[] for _ in wheels]
    numbered = dict(enumerate(environments))
    with running_services([probe], numbered, scratch) as (placed, services):
        for number in range(1, RUNS + 1):
            with board.stage(probe.project, f"{probe.defect}, run {number} of {RUNS} at most"):
                for one, place, kept in zip(placed.values(), places, runs, strict=True):
                    kept.append(run_program(probe, one, place, services=services))
            if any(one[-1].outcome is not Outcome.PASS for one in runs):
                break
    return [
        Seen(wheel=wheel.name, runs=tuple(taken)) for wheel, taken in zip(wheels, runs, strict=True)
    ]
