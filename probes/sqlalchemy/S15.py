# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S15"
# title = "the cache of compiled statements cannot be cleared while it is used"
# releases = "<=2.1.9"
# use = "supported"
# passes = "it is cleared, and both threads go on, wherever one is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S15: the cache of compiled statements cannot be cleared while it is used.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL and with it.
Use:        engine.clear_compiled_cache(), as after a change of the schema, while other threads
            execute statements.
Symptom:    RuntimeError: dictionary changed size during iteration; what was not cleared stays.
Cause:      the cache is cleared one item at a time, and each time a new walk through it is begun.

Shows:      nothing is left to luck. One thread clears the cache, held at each instruction of that
            in turn, while another executes a statement that is new. Then what was in the cache
            before must be gone.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, StaticPool, Table, create_engine, select

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001
table = Table("t", MetaData(), Column("id", Integer))
engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
STATEMENTS = [select(table.c.id.label(name)) for name in ("one", "two", "three")]


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


def clears(code):
    return "MutableMapping" in code.co_qualname or "LRUCache" in code.co_qualname


def wrong_at(place, what):
    """What went wrong when a thread was held at the place, and whether there was such a place."""
    errors, cache = [], engine._compiled_cache  # noqa: SLF001
    cache._data.clear()  # noqa: SLF001
    with engine.connect() as connection:
        for statement in STATEMENTS:
            connection.execute(statement)
    old = list(cache.values())

    def attempt(operation):
        try:
            operation()
        except Exception as error:
            errors.append(repr(error))

    def execute():
        with engine.connect() as connection:
            connection.execute(select(table.c.id.label(f"x{place}")))

    reached = interleave(
        lambda: attempt(what), lambda: attempt(execute), place, clears, opcodes=True
    )
    if what == engine.clear_compiled_cache and any(one in old for one in cache.values()):
        errors.append("not cleared")
    return errors, reached


def main():
    metadata = table.metadata
    metadata.create_all(engine)
    failed = False
    for what in (engine.clear_compiled_cache, lambda: list(engine._compiled_cache)):  # noqa: SLF001
        wrong, place, more = {}, 1, True
        while more:
            errors, more = wrong_at(place, what)
            if errors:
                wrong[place] = errors
            place += 1
        failed |= bool(wrong)
        print(f"S15: {what.__name__}: held at {place - 2} places, wrong: {wrong}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
