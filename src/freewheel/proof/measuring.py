"""The benchmarks of a release on both of its wheels; the figures are kept for its certificate."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from freewheel import files
from freewheel.console import Board
from freewheel.machine import facts
from freewheel.machine.interpreter import find_interpreter
from freewheel.proof import scaling
from freewheel.proof.cases import Case, environments_of
from freewheel.proof.kept import Kept
from freewheel.proof.scaling import Figure
from freewheel.proof.services import running_services, services_of
from freewheel.workspace import Workspace


def measure(
    workspace: Workspace, cases: Sequence[Case], board: Board, *, rounds: int, seconds: float
) -> list[tuple[Case, list[Figure]]]:
    """Measure each case's benchmarks on both wheels; kept for the certificate.

    ``seconds`` is how long one measurement works; there are six in a round of each case.
    """
    interpreter = find_interpreter(workspace)
    programs = [program for case in cases for program in case.programs.benchmarks]
    processor = facts.look().processor
    kept = Kept(workspace.proof)
    found = []
    with (
        files.locked(workspace.locks / "proof.lock", what="a proof"),
        running_services(programs) as services,
    ):
        for case in cases:
            scratch = files.empty_directory(workspace.work / f"bench-{case.slug}")
            environments = environments_of(case, scratch, interpreter)
            figures = []
            for program in case.programs.benchmarks:
                with board.stage(case.title, program.name):
                    measured = list(
                        scaling.measure(
                            program,
                            environments,
                            scratch,
                            rounds=rounds,
                            seconds=seconds,
                            services=services_of(program, services),
                        )
                    )
                subject = scaling.subject(program, environments, processor)
                kept.write(subject, scaling.to_json(measured))
                figures += measured
            found.append((case, figures))
            shutil.rmtree(scratch)
    return found
