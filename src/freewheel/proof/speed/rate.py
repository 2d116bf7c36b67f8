"""Measure how often a case of a benchmark gets done: by threads, or by processes.

It stands alone, for it runs in the interpreter that a wheel is tested with:
``rate.py PROGRAM CASE WORKERS {threads,processes} SECONDS`` prints a line of JSON, ``{"rate": R}``,
where R is the operations per second of all workers together.

A case is a generator function of the program. Each worker calls it once; every step does a batch of
operations that takes a few milliseconds, and yields their number. What comes before the first
``yield`` is set-up, and what is in a ``finally`` around them is cleaned up at the end. The workers
start together once all are warm.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator

WARM_UP = 0.2  # seconds of work before it counts

Case = Callable[[], Generator[int]]


def work(case: Case, seconds: float, wait: Callable[[], object]) -> float:
    """One worker: get warm, wait for the others, and work; operations per second."""
    steps = case()
    warm = time.perf_counter() + WARM_UP
    next(steps)
    while time.perf_counter() < warm:
        next(steps)
    wait()
    count = 0
    started = now = time.perf_counter()
    while now < started + seconds:
        count += next(steps)
        now = time.perf_counter()
    steps.close()
    return count / (now - started)


def in_threads(case: Case, workers: int, seconds: float) -> float:
    """Several workers in this process."""
    meet = threading.Barrier(workers)
    rates: list[float] = []
    errors: list[BaseException] = []

    def one() -> None:
        try:
            rates.append(work(case, seconds, meet.wait))
        except BaseException as error:  # noqa: BLE001  raised again below
            errors.append(error)
            meet.abort()

    threads = [threading.Thread(target=one) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return sum(rates)


def in_processes(workers: int, arguments: list[str]) -> float:
    """Several workers, each this program in a process of its own, which waits for a word."""
    command = [sys.executable, *arguments]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(workers)
    ]
    try:
        for output in [child.stdout for child in children if child.stdout]:
            if output.readline() != "warm\n":
                raise RuntimeError(f"a worker of {arguments[2]} did not get warm")
        for word in [child.stdin for child in children if child.stdin]:
            word.write("go\n")
            word.flush()
        said = [child.communicate()[0].splitlines()[-1] for child in children]
        return sum(float(json.loads(line)["rate"]) for line in said)
    finally:
        for child in children:
            child.kill()
            child.wait()


def on_a_word() -> None:
    """Say that this worker is warm, and wait for the word of the process that started it."""
    say("warm")
    if sys.stdin.readline() != "go\n":
        raise RuntimeError("nobody waits for this worker any more")


def say(line: str) -> None:
    """Tell whoever started this process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Print the rate."""
    program, name, workers, kind, seconds = sys.argv[1:]
    case: Case = runpy.run_path(program)[name]
    if kind == "processes":
        arguments = [sys.argv[0], program, name, "1", "waiting", seconds]
        rate = in_processes(int(workers), arguments)
    elif kind == "waiting":
        rate = work(case, float(seconds), on_a_word)
    else:
        rate = in_threads(case, int(workers), float(seconds))
    say(json.dumps({"rate": rate}))


if __name__ == "__main__":
    main()
