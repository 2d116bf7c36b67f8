# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S14"
# title = "an event cannot fire while another thread registers a listener"
# releases = "<=2.1.9"
# use = "supported"
# passes = "each listener that was there is called once, wherever the thread is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S14: an event cannot fire while another thread registers a listener.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL and with it.
Use:        a listener is added to an engine, a pool or a session class, or removed, while others
            use it; as tracing and test code does.
Symptom:    RuntimeError: deque mutated during iteration, out of the operation that the event is
            about.
Cause:      who fires an event walks through the listeners themselves.

Shows:      nothing is left to luck. One thread fires an event that has two listeners, held at each
            line of that in turn, while another adds a listener and removes it. Targets: a pool, its
            class, an engine whose connection fires, and a session class.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import QueuePool, StaticPool, create_engine, event
from sqlalchemy.orm import sessionmaker

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001
FIRES = {"__call__", "__iter__", "__bool__", "copy", "_exec_single_context"}


class Connection:
    """What a pool needs of a DBAPI connection."""

    def close(self):
        pass

    rollback = commit = close


def pool():
    one = QueuePool(Connection)
    return one, "checkin", lambda: one.connect().close()


def class_of_pools():
    kind = type("OwnPool", (QueuePool,), {})
    one = kind(Connection)
    return kind, "checkin", lambda: one.connect().close()


def engine():
    """Its connections have dispatches of their own, joined to the engine's."""
    arguments = {"check_same_thread": False}
    one = create_engine("sqlite://", poolclass=StaticPool, connect_args=arguments)
    one.raw_connection().close()

    def fire():
        with one.connect().execution_options(x=1) as connection:
            connection.exec_driver_sql("SELECT 1")

    return one, "before_cursor_execute", fire


def session_class():
    kind = sessionmaker()
    return kind, "after_rollback", lambda: (one := kind(), one.begin(), one.rollback())


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


def fires(code):
    of_events = code.co_filename.endswith("event/attr.py")
    return code.co_name in FIRES and (of_events or code.co_name == "_exec_single_context")


def wrong_at(place, make):
    """What went wrong when a thread was held at the place, and whether there was such a place."""
    target, name, fire = make()
    calls, errors = [], []
    kept = [lambda *_: calls.append(1), lambda *_: calls.append(2)]
    for listener in kept:
        event.listen(target, name, listener)

    def attempt(operation):
        try:
            operation()
        except Exception as error:
            errors.append(repr(error))

    def change():
        new = lambda *_: None  # noqa: E731
        event.listen(target, name, new, insert=True)
        if place % 2:
            event.remove(target, name, new)

    reached = interleave(lambda: attempt(fire), lambda: attempt(change), place, fires)
    if sorted(calls) != [1, 2]:
        errors.append(f"called {calls}")
    return errors, reached


def main():
    failed = False
    for make in (pool, class_of_pools, engine, session_class):
        wrong, place, more = {}, 1, True
        while more:
            what, more = wrong_at(place, make)
            if what:
                wrong[place] = what
            place += 1
        failed |= bool(wrong)
        print(f"S14: {make.__name__}: held at {place - 2} lines, wrong: {wrong}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
