"""The benchmarks of a release on both of its wheels; the figures are kept for its certificate."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from freewheel.base import files
from freewheel.base.console import Board
from freewheel.base.workspace import Workspace
from freewheel.machine import facts
from freewheel.machine.interpreter import find_interpreter
from freewheel.proof.cases import Case, WheelName, environments_of
from freewheel.proof.form import Figure
from freewheel.proof.programs import Benchmark
from freewheel.proof.result_cache import ResultCache
from freewheel.proof.running import Environment
from freewheel.proof.services import running_services, services_of
from freewheel.proof.speed import scaling

_Name = TypeVar("_Name")
_Figure = TypeVar("_Figure")


def measure(
    workspace: Workspace, cases: Sequence[Case], board: Board, *, rounds: int, seconds: float
) -> list[tuple[Case, list[Figure]]]:
    """Measure each case's benchmarks on both wheels; kept for the certificate.

    ``seconds`` is how long one measurement works; there are six in a round of each case.
    """
    interpreters = {case.python: find_interpreter(workspace, case.python) for case in cases}
    processor = facts.look().processor
    kept = ResultCache(workspace.proof)

    def take(
        program: Benchmark,
        environments: dict[WheelName, Environment],
        scratch: Path,
        services: Mapping[str, str],
    ) -> list[Figure]:
        measured = list(
            scaling.measure(
                program, environments, scratch, rounds=rounds, seconds=seconds, services=services
            )
        )
        subject = scaling.subject(program, environments, processor)
        kept.write(subject, scaling.FIGURES, measured)
        return measured

    return of_each(
        workspace,
        cases,
        board,
        lambda case, scratch: environments_of(case, scratch, interpreters[case.python]),
        take,
    )


def of_each(
    workspace: Workspace,
    cases: Sequence[Case],
    board: Board,
    environments_in: Callable[[Case, Path], Mapping[_Name, Environment]],
    take: Callable[
        [Benchmark, dict[_Name, Environment], Path, Mapping[str, str]], Iterable[_Figure]
    ],
) -> list[tuple[Case, list[_Figure]]]:
    """What ``take`` finds of each benchmark of each case, with nothing else of ours at work.

    ``environments_in`` makes those of a case in a scratch directory. ``take`` is given a program,
    these, that directory, and the variables of the services that the program needs.
    """
    found = []
    board.expect(sum(len(case.programs.benchmarks) for case in cases))
    with files.locked(workspace.locks / "proof.lock", what="a proof"):
        for case in cases:
            scratch = files.empty_directory(workspace.work / f"bench-{case.slug}")
            made, programs = environments_in(case, scratch), case.programs.benchmarks
            figures: list[_Figure] = []
            with running_services(programs, made, scratch, readable=[scaling.RATE]) as (
                environments,
                services,
            ):
                for program in programs:
                    with board.stage(case.title, program.name):
                        given = services_of(program, services)
                        figures += take(program, environments, scratch, given)
            found.append((case, figures))
            shutil.rmtree(scratch)
    return found
