# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S8"
# title = "a SingletonThreadPool cannot be disposed of while threads connect"
# releases = "<=2.1.9"
# use = "supported"
# passes = "dispose() closes what was there, and both threads go on, wherever one is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S8: a SingletonThreadPool cannot be disposed of while threads connect.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL and with it.
Use:        engine.dispose() while other threads connect. This is the pool of an SQLite database in
            memory, where no other was asked for.
Symptom:    RuntimeError: Set changed size during iteration. Connections that are not closed.
Cause:      dispose() walks through the set of all connections, and clears it afterwards, while
            other threads add theirs.

Shows:      nothing is left to luck. One thread disposes of the pool, held at each line in turn;
            another connects meanwhile. Then dispose() is called once more, and every connection
            must be closed. And the other way round, where a connection that was closed while its
            thread was connecting is made again.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import SingletonThreadPool

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001

made = []


class Connection:
    """What a pool needs of a DBAPI connection."""

    def __init__(self):
        self.closed = False
        made.append(self)

    def close(self):
        self.closed = True

    def rollback(self):
        pass

    commit = rollback


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
    return "SingletonThreadPool" in code.co_qualname


def wrong_at(place, what):
    """What went wrong when a thread was held at the place, and whether there was such a place."""
    made.clear()
    pool, errors, kept = SingletonThreadPool(Connection, pool_size=4), [], []

    def attempt(operation):
        try:
            operation()
        except Exception as error:
            errors.append(repr(error))

    def connect():
        connection = pool.connect()
        kept.append(connection._connection_record)  # noqa: SLF001  as if the thread still had it
        connection.close()

    def dispose():
        attempt(pool.dispose)

    with ThreadPoolExecutor(2) as threads:
        wait([threads.submit(connect) for _ in range(2)])
        pair = (dispose, lambda: attempt(connect))
        reached = interleave(*(pair if what == "disposing" else pair[::-1]), place, of_the_pool)
        dispose()
    left_open = [one for one in made if not one.closed]
    if left_open and what == "disposing":
        errors.append(f"{len(left_open)} open")
    return errors, reached


def main():
    failed = False
    for what in ("disposing", "connecting"):
        wrong, place, more = {}, 1, True
        while more:
            problems, more = wrong_at(place, what)
            if problems:
                wrong[place] = problems
            place += 1
        failed |= bool(wrong)
        print(f"S8: held while {what} at {place - 2} lines, wrong: {wrong}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
