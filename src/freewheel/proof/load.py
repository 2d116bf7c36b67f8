"""Put a stress program to work: ``load.py PROGRAM SECONDS``.

It stands alone, for it runs in the interpreter that a wheel is tested with. The program says what
is done and what has to come of it; here is how: ``THREADS`` threads at once do all of its ``KINDS``
in random order, again and again. From time to time they rest, and the memory in use is measured.

What a program has: ``KINDS``, functions that are given a Worker, do something, check what comes of
it with ``expect``, and return how often they did it. It may have ``PACKAGE``, the module that is
tested; ``SLACK``, by how much memory may grow; ``prepare()``, called first; ``meanwhile()``, which
the main thread calls ten times a second; and ``resting()``, called before memory is measured. It
imports what it needs of this module as ``load``.

FREEWHEEL_STRESS_SEED repeats a run's random choices, as far as threads can be repeated;
FREEWHEEL_STRESS_KINDS names the kinds to do.

Exit codes are those of docs/probes.md: 0, 1 for an exception, 3 for a wrong answer, 4 for a leak,
77 if the GIL is on. Whoever starts it finds out whether it hangs.
"""

import contextlib
import gc
import itertools
import mmap
import os
import random
import runpy
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXCEPTION, WRONG, LEAK, NOT_RUN = 1, 3, 4, 77
THREADS = 4
SHARE = 0.01  # seconds for a kind, until it is the turn of the next
PATIENCE = 10  # seconds of a thread's processor time, for what takes a fraction of one
RESTS = 12  # how often the memory is measured
WARM_UP = 3  # of these do not count, for caches are still filling
SLACK = {"blocks of memory": 500, "MiB resident": 24}  # see measure()
SEED = os.environ.get("FREEWHEEL_STRESS_SEED") or str(random.SystemRandom().randrange(10**9))
STATM = Path("/proc/self/statm")

ended, collecting = threading.Lock(), threading.Lock()
measured: list[list[float]] = []


class Worker:
    """One of the threads, its random choices, and how often it has done what."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(f"{SEED}/{number}")  # noqa: S311  to be repeatable
        self.done: Counter[str] = Counter()

    def work(self, kinds: list[Any], begin: float, seconds: float, rest: threading.Barrier) -> None:
        """Do each for a moment, in random order, again and again, but at least once."""
        turns = itertools.chain.from_iterable(
            self.random.sample(kinds, len(kinds)) for _ in itertools.count()
        )
        for number in range(1, RESTS + 1):
            while (
                len(self.done) < len(kinds) or time.monotonic() < begin + seconds * number / RESTS
            ):
                kind, share = next(turns), time.monotonic() + SHARE
                self.done[kind.__name__] += kind(self)
                while time.monotonic() < share:
                    self.done[kind.__name__] += kind(self)
            collect()  # gives back what is kept for this thread's next objects
            rest.wait()


def end(code: int, text: str) -> None:
    """End the process; the first caller says how."""
    ended.acquire()
    thread = threading.current_thread().name
    say(f"FAILED, exit code {code}, in {thread}, seed {SEED}: {text}")
    os._exit(code)


def say(line: str) -> None:
    """Tell whoever started this process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def expect(what: str, expected: Any, got: Any) -> None:  # noqa: ANN401  anything can be compared
    """End the process if it is something else; of what is long, where they begin to differ."""
    if got == expected:
        return
    if isinstance(expected, dict) and isinstance(got, dict):
        both = expected.items() & got.items()
        expected, got = (dict(one.items() - both) for one in (expected, got))
    elif isinstance(expected, list) and isinstance(got, list):
        pairs = zip(expected, got, strict=False)
        start = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
        what, expected, got = f"{what}, from number {start} on", expected[start:], got[start:]
    end(WRONG, f"{what}\n  expected {expected!r:.2000}\n  got      {got!r:.2000}")


def until(
    condition: Callable[[], Any], meanwhile: Callable[[], Any], what: str, code: int = WRONG
) -> None:
    """Do something until a condition holds, which must not take long."""
    patience = time.thread_time() + PATIENCE
    while not condition():
        if time.thread_time() > patience:
            end(code, f"expected {what}, but not within {PATIENCE} seconds of work")
        meanwhile()


def collect() -> None:
    """Collect garbage; a collection does nothing while there is another."""
    with collecting:
        gc.collect()


def warming_up() -> bool:
    """Whether memory is not compared yet, so that what leaks as documented may be done."""
    return len(measured) < WARM_UP


def measure() -> None:
    """What is in use while all threads rest: blocks of memory, and MiB where the system says it.

    Blocks are the interpreter's own count, of which a hundred come and go. What is not allocated by
    way of the interpreter shows in the MiB only, which go up and down by 10 or 20.
    """
    for _ in range(2):
        gc.collect()
    values: list[float] = [sys.getallocatedblocks()]
    with contextlib.suppress(OSError), STATM.open() as statm:
        values.append(int(statm.read().split()[1]) * mmap.PAGESIZE / 2**20)
    measured.append(values)


def check_memory(slacks: dict[str, int]) -> None:
    """Memory that grows with the work is a leak: at the end, the least is above the most before."""
    for (what, slack), *values in zip(slacks.items(), *measured, strict=False):
        say(f"{what}: {' '.join(f'{value:.0f}' for value in values)}")
        before, after = max(values[WARM_UP : WARM_UP + 2]), min(values[-2:])
        if after > before + slack:
            end(LEAK, f"{what}: {before:.0f}, and later {after:.0f}")
    if len(measured[0]) < len(slacks):
        say("the system does not say how much memory is resident: not checked")


def uncaught(reason: Any) -> None:  # noqa: ANN401  of either hook
    """End the process for an exception that nobody has caught, wherever it was raised."""
    end(EXCEPTION, "".join(traceback.format_exception(reason.exc_value)))


def run(program: dict[str, Any], seconds: float) -> None:
    """Let all threads work, and check what is in use at the end."""
    package = program.get("PACKAGE")
    say(f"{package.__name__} {package.__version__}, seed {SEED}" if package else f"seed {SEED}")
    threading.excepthook = sys.unraisablehook = uncaught
    program.get("prepare", bool)()
    names = os.environ.get("FREEWHEEL_STRESS_KINDS", "").split()
    kinds = [kind for kind in program["KINDS"] if not names or kind.__name__ in names]
    resting, meanwhile = program.get("resting", bool), program.get("meanwhile", bool)

    def at_rest() -> None:
        resting()
        measure()

    rest = threading.Barrier(THREADS + 1, at_rest)
    workers, begin = [Worker(number) for number in range(THREADS)], time.monotonic()
    for one in workers:
        given = (kinds, begin, seconds, rest)
        threading.Thread(target=one.work, args=given, daemon=True).start()
    for number in range(1, RESTS + 1):
        while time.monotonic() < begin + seconds * number / RESTS:
            time.sleep(0.1)
            meanwhile()
        rest.wait()
    for name, times in sorted(sum((one.done for one in workers), Counter[str]()).items()):
        say(f"{times:9} {name}")
    check_memory({**SLACK, **program.get("SLACK", {})})
    expect("the GIL", "off", "on" if gil_is_on() else "off")


def gil_is_on() -> bool:
    """Whether it is, or whether the interpreter has no other way."""
    check: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return check()


def main() -> int:
    """Run the program; the exit code."""
    sys.modules["load"] = sys.modules["__main__"]
    sys.path[0] = ""  # beside this file are other modules, which no program means
    program = runpy.run_path(sys.argv[1], run_name="stress")
    if gil_is_on():
        say("not run: the GIL is on")
        return NOT_RUN
    run(program, float(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
