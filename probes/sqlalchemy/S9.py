# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S9"
# title = "an AssertionPool lets two threads in"
# releases = "<=2.1.9"
# use = "supported"
# passes = "one of the threads is refused, wherever the other is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S9: an AssertionPool lets two threads in.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL and with it.
Use:        AssertionPool, which finds code that checks out a second connection, and two threads.
Symptom:    both get a connection, the same one or one each, and nothing is asserted; or the
            assertion fails later, when one is returned.
Cause:      the pool asks whether its connection is out, and notes that it is afterwards.

Shows:      nothing is left to luck. One thread checks the connection out, held at each line of
            the pool in turn, of a new pool and of one with its connection; another asks for it.
            Just one may get it, and the pool must work afterwards.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from sqlalchemy import AssertionPool

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001


class Connection:
    """What a pool needs of a DBAPI connection."""

    def close(self):
        pass

    rollback = commit = close


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


def of_the_pool(code):
    return "AssertionPool" in code.co_qualname


def wrong_at(place, make):
    """How many got in when a thread was held at the place, and whether there was such a place."""
    pool, inside = make(), []

    def check_out():
        with suppress(AssertionError):
            inside.append(pool.connect())

    reached = interleave(check_out, check_out, place, of_the_pool)
    try:
        for connection in inside:
            connection.close()
        pool.connect().close()
    except AssertionError:
        inside.append("the pool does not work")
    return len(inside) - 1, reached


def new():
    return AssertionPool(Connection)


def used():
    pool = new()
    pool.connect().close()
    return pool


def main():
    failed = False
    for make in (new, used):
        wrong, place, more = [], 1, True
        while more:
            too_many, more = wrong_at(place, make)
            if too_many:
                wrong.append(place)
            place += 1
        failed |= bool(wrong)
        print(f"S9: {make.__name__}: held at {place - 2} lines, two inside at {wrong}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
