# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S12"
# title = "threads that first use an attribute get different objects, and what one writes is lost"
# releases = "<=2.1.9"
# use = "supported"
# passes = "all threads get the same object, wherever one is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S12: threads that first use an attribute get different objects, and what one writes is lost.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL; with it, if it is handed over there.
Use:        two threads use a column, a table or a mapped attribute first, and write into its info,
            as extensions do. Or they use what has a memoized_property of its own.
Symptom:    what a thread wrote is gone. A thread holds an object that nobody else has.
Cause:      each thread that comes before there is a memo makes one, and stores it in the place of
            what others have got already.

Shows:      nothing is left to luck. One thread asks for the attribute, held at each instruction
            that makes memos in turn, while another asks for it and writes. Then both must have the
            object that is there, with what both wrote.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, Table, util
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import registry
from sqlalchemy.sql.base import Generative

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001


class Own:
    """As applications and extensions make them."""

    @util.memoized_property
    def info(self):
        return {}

    @util.memoized_instancemethod
    def shared(self):
        return {}


class OwnGenerative(Generative):
    @util.HasMemoized.memoized_attribute
    def info(self):
        return {}

    @util.HasMemoized.memoized_instancemethod
    def shared(self):
        return {}


def mapped():
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True))
    entity = type("Entity", (), {})
    return registry().map_imperatively(entity, table)


def of(name):
    return lambda element: getattr(element, name)


# What it is, how to make one, what is asked for.
CASES = [
    ("a column's info", lambda: Column("id", Integer), of("info")),
    ("a table's info", lambda: Table("t", MetaData()), of("info")),
    ("the info of a mapped attribute", lambda: mapped().attrs.id, of("info")),
    ("a dialect's types", sqlite.dialect, of("_type_memos")),
    ("a property of one's own", Own, of("info")),
    ("a method of one's own", Own, lambda element: element.shared()),
    ("an attribute of one's own", OwnGenerative, of("info")),
    ("a method of one's own, not copied", OwnGenerative, lambda element: element.shared()),
]


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


def memoizes(code):
    return "emoized" in code.co_qualname or code.co_name == "__getattr__"


class Key:
    """What can be a key of every kind of dictionary."""


def wrong_places(make, ask):
    """At which instructions of the first thread the two had different objects, or lost a key."""
    places, place, more = [], 1, True
    while more:
        element, got, keys = make(), [], [Key(), Key()]

        def write(number, element=element, got=got, keys=keys):
            one = ask(element)
            got.append(one)
            one[keys[number]] = True

        more = interleave(lambda: write(0), lambda: write(1), place, memoizes, opcodes=True)
        there = ask(element)
        if any(one is not there for one in got) or not all(key in there for key in keys):
            places.append(place)
        place += 1
    return places, place - 2


def main():
    failed = False
    for what, *case in CASES:
        places, held = wrong_places(*case)
        failed |= bool(places)
        print(f"S12: {what}: held at {held} places, lost at {places}")
        if held < 1:
            return NOT_RUN
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
