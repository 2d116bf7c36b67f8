"""Measure the cases of a benchmark on several builds of a package that take turns in one process.

It stands alone, for it runs in the interpreter that a wheel is tested with: ``turns.py PROGRAM
CASE[,CASE] DIRECTORY...`` prints a line of JSON that has, for each case, the nanoseconds of
processor time of one operation with the package in each directory. layouts.py says what for.
"""

from __future__ import annotations

import gc
import json
import runpy
import sys
import time
from collections.abc import Callable, Generator

PIECE = 2_000_000  # nanoseconds of processor time that a piece of work takes, about
WARM_UP = 3  # pieces of each build before it counts
PIECES = 16  # of each build that count

Case = Callable[[], Generator[int]]


def load(directory: str, program: str) -> dict[str, Case]:
    """The functions of the program, bound to the package in ``directory`` and no other."""
    sys.path.insert(0, directory)
    try:
        return runpy.run_path(program)
    finally:
        sys.path.remove(directory)
        for name, module in list(sys.modules.items()):
            # Cython's modules share types by way of one that they make: the builds must not.
            if name.startswith("_cython_") or _is_in(directory, module):
                del sys.modules[name]


def _is_in(directory: str, module: object) -> bool:
    return (getattr(module, "__file__", None) or "").startswith(f"{directory}/")


def work(steps: Generator[int], number: int) -> tuple[int, int]:
    """Nanoseconds of processor time of that many steps, and the operations that they did."""
    started = time.thread_time_ns()
    operations = sum(next(steps) for _ in range(number))
    return time.thread_time_ns() - started, operations


def measure(cases: list[Case]) -> list[float]:
    """Nanoseconds of an operation in each; they do the same, each with another build.

    What disturbs a piece makes it longer, so the least but one is taken.
    """
    builds = [case() for case in cases]
    number = 1
    while (spent := work(builds[0], number)[0]) < PIECE:
        number = number * 2 if 2 * spent < PIECE else round(number * 1.1) + 1
    pieces: list[list[float]] = [[] for _ in builds]
    for turn in range(WARM_UP + PIECES):
        order = list(zip(builds, pieces, strict=True))
        for steps, kept in order if turn % 2 else order[::-1]:
            spent, operations = work(steps, number)
            kept.append(spent / operations)
    return [sorted(kept[WARM_UP:])[1] for kept in pieces]


def main() -> None:
    """Print the line of JSON."""
    program, names, *directories = sys.argv[1:]
    builds = [load(directory, program) for directory in directories]
    gc.disable()
    found = {name: measure([build[name] for build in builds]) for name in names.split(",")}
    print(json.dumps(found))  # noqa: T201  the answer


if __name__ == "__main__":
    main()
