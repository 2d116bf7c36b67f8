# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S7"
# title = "a listener is lost when another thread registers one"
# releases = "<=2.1.9"
# use = "supported"
# passes = "every listener is called once, and can be removed, wherever a thread is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 180
# ///
"""S7: a listener is lost when another thread registers one.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL; parts of it with the GIL as well.
Use:        two threads register listeners on an engine, a pool or a session that is new, as the
            start-up code of extensions does; or on a class.
Symptom:    one of the listeners is never called, without an error; or a KeyError is printed.
Cause:      what holds the listeners is made when it is first needed, in four places, and each may
            be replaced by what another thread made. The tables from which listeners are removed
            are changed in several steps.

Shows:      nothing is left to luck. One thread registers a listener, held at each line of the
            event package in turn, while another registers one as well. Then the event is fired,
            both must have been called once, and both must be removable.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import QueuePool, create_engine, event
from sqlalchemy.orm import Session

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


def of_events(code):
    return "/sqlalchemy/event/" in code.co_filename


def pool():
    one = QueuePool(Connection)
    return one, "checkin", lambda: one.connect().close()


def class_of_pools():
    kind = type("OwnPool", (QueuePool,), {})
    one = kind(Connection)
    return kind, "checkin", lambda: one.connect().close()


def engine():
    one = create_engine("sqlite://")
    return one, "commit", lambda: one.begin().__exit__


def session():
    one = Session()
    return one, "after_rollback", lambda: (one.begin(), one.rollback())


def wrong_at(place, make):
    """What went wrong when a thread was held at the place, and whether there was such a place."""
    target, name, fire = make()
    calls = []

    def one(*_):
        calls.append(1)

    def two(*_):
        calls.append(2)

    reached = interleave(
        lambda: event.listen(target, name, one),
        lambda: event.listen(target, name, two),
        place,
        of_events,
    )
    fire()
    if sorted(calls) != [1, 2]:
        return f"called {calls}", reached
    event.remove(target, name, one)
    event.remove(target, name, two)
    fire()
    return ("not removed" if len(calls) != 2 else ""), reached


def main():
    failed = False
    for make in (pool, class_of_pools, session):
        wrong, place, more = {}, 1, True
        while more:
            what, more = wrong_at(place, make)
            if what:
                wrong[place] = what
            place += 1
        failed |= bool(wrong)
        print(f"S7: {make.__name__}: held at {place - 2} lines, wrong: {wrong}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
