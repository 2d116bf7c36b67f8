"""What the patches cost and gain: benchmarks on both wheels, in one thread, several, and processes.

Machines are noisy, so nothing is judged by a single time. The wheels take turns, each round is a
set of measurements made within seconds of each other, and what counts are the ratios within a
round, with their median and their extremes over all rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import TypeAdapter

from freewheel.base import files, process
from freewheel.base.errors import ProofError
from freewheel.proof.cases import WheelName
from freewheel.proof.form import Figure, Ratio
from freewheel.proof.programs import Benchmark
from freewheel.proof.result_cache import Subject
from freewheel.proof.running import Environment

RATE = Path(__file__).with_name("rate.py")

WHEELS: tuple[WheelName, ...] = ("baseline", "patched")
# The baseline may die, or hang, in a measurement of the very thing that the patches fix. So it is
# given more than one attempt, and the figures tell how many failed: greenlet 3.5.6 died in half of
# them on a busy machine. The patched wheel must not fail.
_ATTEMPTS: Mapping[WheelName, int] = {"baseline": 20, "patched": 1}
_PATIENCE = 120.0  # seconds, after which there is no further attempt: a hang takes long
_Name = TypeVar("_Name")
FIGURES = TypeAdapter(list[Figure])  # as they are kept


def ratio_of(ratios: Sequence[float]) -> Ratio:
    """What those of all rounds come to."""
    return Ratio(median=statistics.median(ratios), lowest=min(ratios), highest=max(ratios))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the work is shared out."""

    workers: int
    kind: Literal["threads", "processes"]

    @property
    def name(self) -> str:
        return f"{self.workers} {self.kind if self.workers > 1 else 'thread'}"


def in_turn(contenders: Sequence[_Name], number: int) -> Sequence[_Name]:
    """The order of a round: each other one is the other way round, so that none is always first."""
    return contenders if number % 2 else contenders[::-1]


def counts_of_workers() -> tuple[int, ...]:
    """How many threads "several" are on this machine: two, and as many as there are processors."""
    return tuple(sorted({2, os.cpu_count() or 2}))


def measure(
    benchmark: Benchmark,
    environments: Mapping[WheelName, Environment],
    scratch: Path,
    *,
    rounds: int,
    seconds: float,
    services: Mapping[str, str],
) -> Iterator[Figure]:
    """Every case of a benchmark, for each number of workers.

    ``environments`` are by "baseline" and "patched". ``seconds`` is how long each measurement
    works. Raises ProofError where one fails, of the baseline each attempt.
    """

    def take(case: str, shape: Shape, wheel: WheelName) -> tuple[float, int]:
        return _rate_in(
            _ATTEMPTS[wheel],
            lambda: rate_of(
                benchmark,
                case,
                shape,
                environments[wheel],
                scratch,
                seconds=seconds,
                services=services,
            ),
        )

    for case in benchmark.cases:
        for workers in counts_of_workers():
            shapes = (
                Shape(workers=1, kind="threads"),
                Shape(workers=workers, kind="threads"),
                Shape(workers=workers, kind="processes"),
            )
            taken = [
                {
                    (wheel, shape.name): take(case, shape, wheel)
                    for shape in shapes
                    for wheel in in_turn(WHEELS, number)
                }
                for number in range(rounds)
            ]
            rates: list[dict[tuple[str, str], float]] = [
                {key: rate for key, (rate, _) in one.items()} for one in taken
            ]
            failed = sum(failures for one in taken for _, failures in one.values())
            yield _figure(benchmark, case, shapes, rates, failed)


def _rate_in(attempts: int, take: Callable[[], float]) -> tuple[float, int]:
    """The rate that ``take`` measures, and how many of the ``attempts`` failed before."""
    give_up = time.monotonic() + _PATIENCE
    failed = 0
    while failed < attempts - 1 and time.monotonic() < give_up:
        with suppress(ProofError):
            return take(), failed
        failed += 1
    return take(), failed


def _figure(
    benchmark: Benchmark,
    case: str,
    shapes: Sequence[Shape],
    taken: Sequence[Mapping[tuple[str, str], float]],
    failed: int,
) -> Figure:
    alone, threads, processes = (shape.name for shape in shapes)

    def ratio(above: tuple[str, str], below: tuple[str, str]) -> Ratio:
        return ratio_of([rates[above] / rates[below] for rates in taken])

    return Figure(
        program=benchmark.name,
        case=case,
        title=benchmark.cases[case],
        workers=shapes[1].workers,
        rounds=len(taken),
        one=ratio(("patched", alone), ("baseline", alone)),
        several=ratio(("patched", threads), ("baseline", threads)),
        baseline_scaling=ratio(("baseline", threads), ("baseline", processes)),
        patched_scaling=ratio(("patched", threads), ("patched", processes)),
        rates={
            wheel: {
                shape.name: statistics.median(rates[wheel, shape.name] for rates in taken)
                for shape in shapes
            }
            for wheel in WHEELS
        },
        failed=failed,
    )


def rate_of(
    benchmark: Benchmark,
    case: str,
    shape: Shape,
    environment: Environment,
    scratch: Path,
    *,
    seconds: float,
    services: Mapping[str, str],
) -> float:
    """One measurement, in a process of its own."""
    ended = environment.jail.watch(
        [
            *(environment.python, "-W", "ignore", RATE, benchmark.path, case),
            *(str(shape.workers), shape.kind, f"{seconds:g}"),
        ],
        cwd=scratch,
        env={**process.confined(scratch / "no-home"), **services},
        timeout=benchmark.seconds + seconds,
    )
    lines = ended.said.splitlines()
    try:
        return float(json.loads(lines[-1])["rate"])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        how = "took too long" if ended.returncode is None else f"ended with {ended.returncode}"
        raise ProofError(
            f"{benchmark.project}/{benchmark.path.name} {case}, {shape.name}: {how}",
            problems=[f"in the environment {environment.python.parents[1].name}"],
            output=ended.said,
            hint="read what it printed above; docs/benchmarks.md explains what a case must do",
        ) from error


# ------------------------------------------------------------------------------------ keeping


def subject(
    benchmark: Benchmark, environments: Mapping[WheelName, Environment], processor: str
) -> Subject:
    """What figures are about: unlike outcomes, they hold for one kind of processor only."""
    return Subject(
        kind=f"{benchmark.project}-{benchmark.name}",
        facts={
            **{wheel: environments[wheel].wheel_sha256 for wheel in WHEELS},
            "program": files.sha256(benchmark.path),
            "interpreter": environments["patched"].interpreter.build,
            "harness": files.sha256(RATE),
            "processor": f"{os.cpu_count()} of {processor}",
        },
    )
