"""What a project's patches do in CPython's default build, and how the free-threaded one compares.

``nox -s bench -- default-build PROJECT`` runs it. Patches must not make the default build slower,
because its users gain nothing from them. One thread is measured; CPython's default build and the
wheels for it are built first. None of it is in a certificate.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from freewheel.base import console, process
from freewheel.base.console import Board
from freewheel.base.errors import FreewheelError
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build import patches
from freewheel.commands.outcomes import show_error
from freewheel.commands.proof import built_cases, ratio_text
from freewheel.commands.selection import Choice
from freewheel.machine.interpreter import find_interpreter
from freewheel.proof.cases import Case
from freewheel.proof.compiling import Compilation
from freewheel.proof.form import Ratio
from freewheel.proof.programs import Benchmark
from freewheel.proof.running import Environment, make_environment
from freewheel.proof.speed.measuring import of_each
from freewheel.proof.speed.scaling import Shape, in_turn, rate_of, ratio_of
from freewheel.recipe.pythons import DEFAULT, PYTHONS, Python
from tests.benchmarks.default_cpython import FLAGS, DefaultBuild, find_default_build, home_of

Contender = Literal["default build, baseline", "default build, patched", "without GIL, patched"]
# Without the baseline there: `measure` of scaling.py has it, and it may die of what patches mend.
CONTENDERS: tuple[Contender, ...] = (
    *("default build, baseline", "default build, patched"),
    "without GIL, patched",
)
_ALONE = Shape(workers=1, kind="threads")


@dataclass(frozen=True, slots=True, kw_only=True)
class GilFigure:
    """What one case of a benchmark came to in one thread.

    ``patched`` is the default build's rate with the patched wheel by that without patches.
    ``free_threaded`` is that of the free-threaded build with the patched wheel by the default
    build's without patches.
    """

    case: str
    title: str
    rounds: int
    patched: Ratio
    free_threaded: Ratio


def compare(
    workspace: Workspace, cases: Sequence[Case], board: Board, *, rounds: int, seconds: float
) -> list[tuple[Case, list[GilFigure]]]:
    """Measure each case's benchmarks on both builds of CPython, in one thread.

    What is not there is built: CPython, and the wheels for it. ``seconds`` is how long one
    measurement works; there are three in a round. Raises ProofError.
    """
    interpreters = {case.python: find_interpreter(workspace, case.python) for case in cases}
    with board.stage("CPython", "the default build"):
        defaults = {python: find_default_build(workspace, python) for python in interpreters}
    wheels: dict[str, dict[Contender, Path]] = {}
    for case in cases:  # all of it before the first measurement
        with board.stage(case.title, "compile for the default build"):
            wheels[case.slug] = _wheels(workspace, case, defaults[case.python])

    def environments_in(case: Case, scratch: Path) -> dict[Contender, Environment]:
        return {
            name: make_environment(
                scratch / name.replace(", ", "-").replace(" ", "-"),
                wheels[case.slug][name],
                defaults[case.python].interpreter
                if name.startswith("default")
                else interpreters[case.python],
            )
            for name in CONTENDERS
        }

    def take(
        program: Benchmark,
        environments: dict[Contender, Environment],
        scratch: Path,
        services: Mapping[str, str],
    ) -> Iterator[GilFigure]:
        return measure(
            program, environments, scratch, rounds=rounds, seconds=seconds, services=services
        )

    return of_each(workspace, cases, board, environments_in, take)


def measure(
    benchmark: Benchmark,
    environments: Mapping[Contender, Environment],
    scratch: Path,
    *,
    rounds: int,
    seconds: float,
    services: Mapping[str, str],
) -> Iterator[GilFigure]:
    """Every case of a benchmark, the contenders in turn. Raises ProofError."""
    for case in benchmark.cases:
        taken = [
            {
                name: rate_of(
                    benchmark,
                    case,
                    _ALONE,
                    environments[name],
                    scratch,
                    seconds=seconds,
                    services=services,
                )
                for name in in_turn(CONTENDERS, number)
            }
            for number in range(rounds)
        ]
        yield _figure(benchmark, case, taken)


def _figure(
    benchmark: Benchmark, case: str, taken: Sequence[Mapping[Contender, float]]
) -> GilFigure:
    def by_default(name: Contender) -> Ratio:
        return ratio_of([rates[name] / rates["default build, baseline"] for rates in taken])

    return GilFigure(
        case=case,
        title=benchmark.cases[case],
        rounds=len(taken),
        patched=by_default("default build, patched"),
        free_threaded=by_default("without GIL, patched"),
    )


def _wheels(workspace: Workspace, case: Case, default: DefaultBuild) -> dict[Contender, Path]:
    """The wheels of all contenders; those for the default build may have to be compiled."""
    return {
        "default build, baseline": _wheel(workspace, case, default, baseline=True),
        "default build, patched": _wheel(workspace, case, default, baseline=False),
        "without GIL, patched": case.patched.path,
    }


def _wheel(workspace: Workspace, case: Case, default: DefaultBuild, *, baseline: bool) -> Path:
    build = Compilation(
        workspace=workspace,
        recipe=case.recipe,
        release=case.release,
        target=case.target,
        baseline=baseline,
        series=() if baseline else patches.read_series(case.release),
        interpreter=default.interpreter,
        identity={"interpreter": default.key, "flags": "CPython's own"},
        variables=lambda _: dict.fromkeys(FLAGS),
        check=lambda _: None,
        how="for the default build",
        prefix="default",
    )
    return build.make(home_of(workspace)).path


def main() -> None:
    """Measure the projects that the words name, and show the ratios."""
    parser = argparse.ArgumentParser(prog="nox -s bench -- default-build", description=__doc__)
    parser.add_argument("projects", nargs="*", help="all recipes when none is named")
    parser.add_argument("--all-releases", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--python", choices=[p.tag for p in PYTHONS], default=DEFAULT.tag)
    options = parser.parse_args()
    choice = Choice(
        projects=tuple(options.projects),
        all_releases=options.all_releases,
        targets=(Python(options.python),),
    )
    process.end_by_sigterm()
    workspace = find_workspace()
    with Board() as board:
        chosen = built_cases(workspace, choice, board)
        compared = compare(workspace, chosen, board, rounds=options.rounds, seconds=options.seconds)
    columns = ("case", "default build, patched", "without GIL, patched")
    for case, figures in compared:
        console.say(f"{case.title}: rates by the default build's without patches, one thread")
        rows = [
            (figure.case, ratio_text(figure.patched), ratio_text(figure.free_threaded))
            for figure in figures
        ]
        console.table(columns, rows)


if __name__ == "__main__":
    try:
        main()
    except FreewheelError as error:
        show_error(error)
        sys.exit(error.exit_code)
