# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S5"
# title = "a StaticPool has several connections"
# releases = "<=2.1.9"
# use = "supported"
# passes = "all threads get the same connection, wherever one is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S5: a StaticPool has several connections.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL and with it.
Use:        an SQLite database in memory with StaticPool, as the documentation recommends for
            several threads, and as tests of applications have it.
Symptom:    "no such table", or rows that are missing: each connection is a database of its own.
Cause:      the pool's connection is made when it is first asked for, by every thread that asks
            before one is there; and again by every thread that finds it invalidated.

Shows:      nothing is left to luck. One thread asks a new pool for its connection, or one whose
            connection was invalidated, held at each line of the pool in turn; another asks, too.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import StaticPool, create_engine

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001


def interleave(first, second, place, where, *, opcodes=False):
    """Do `first` in a thread up to a place, then `second` in another, then the rest of `first`.

    Places are counted: lines, or instructions, of the functions that `where` is true for. Should
    `second` wait for `first`, that goes on. Return whether `first` has got to the place.
    """
    held, go, left, other_is = threading.Event(), threading.Event(), [place], []

    def trace(frame, event, _):
        if not where(frame.f_code):
            return None
        frame.f_trace_opcodes = opcodes
        if event == ("opcode" if opcodes else "line"):
            left[0] -= 1
            if left[0] == 0:
                held.set()
                go.wait()
                sys.settrace(None)  # from here on at full speed
        return trace

    def traced():
        sys.settrace(trace)
        try:
            first()
        finally:
            sys.settrace(None)
            held.set()

    def named():
        other_is.append(threading.get_native_id())
        second()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(traced)
        held.wait()
        other = pool.submit(named)
        until_it_waits(other, other_is)
        go.set()
        one.result()
        other.result()
    return left[0] <= 0


def until_it_waits(future, thread):
    """Wait until a thread is through, or waits for the other: it is asleep whenever looked at."""
    looks, before = 0, None
    while looks < LOOKS and not wait([future], A_MOMENT).done:
        now = times_asleep(thread[0]) if thread else None
        looks = looks + 1 if now is not None and now == before else 0
        before = now


def times_asleep(thread):
    """How often a thread has gone to sleep, as Linux says, if it is asleep now; else None."""
    if not TASKS.exists():
        return 0
    lines = Path(TASKS, str(thread), "status").read_text().splitlines()
    says = dict(line.split(":", 1) for line in lines)
    return says["voluntary_ctxt_switches"] if "sleeping" in says["State"] else None


def of_pools(code):
    return code.co_filename.endswith("pool/impl.py") or "_memoized_property" in code.co_qualname


def new():
    arguments = {"check_same_thread": False}
    return create_engine("sqlite://", poolclass=StaticPool, connect_args=arguments)


def invalidated():
    engine = new()
    engine.raw_connection().invalidate()
    return engine


def main():
    failed = False
    for make in (new, invalidated):
        wrong, place, more = [], 1, True
        while more:
            engine, databases = make(), []

            def use(engine=engine, databases=databases):
                databases.append(engine.raw_connection().driver_connection)

            more = interleave(use, use, place, of_pools)
            use()
            if len(set(map(id, databases))) != 1:
                wrong.append(place)
            place += 1
        failed |= bool(wrong)
        print(f"S5: {make.__name__}: held at {place - 2} lines, several databases at {wrong}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
