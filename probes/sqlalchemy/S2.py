# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S2"
# title = "a mapper remembers what is no longer true"
# releases = "<=2.1.9"
# use = "supported"
# passes = "what a mapper says holds for the subclass, whatever other threads memoize"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S2: a mapper remembers what is no longer true.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL; with it, if it is handed over there.
Use:        several threads use a mapped class first; later a module is imported that has a
            subclass of it, as plugins do.
Symptom:    queries of the parent leave the rows of the subclass out, for good, without an error.
Cause:      a mapper notes the names of its memos by `keys |= {name}`, which is not atomic: of two
            names noted at once, one is lost, and that memo is not dropped with the others. A memo
            that one thread was computing while another declared the subclass stays as well.

Shows:      nothing is left to luck. One thread asks for a memo of the mapper, held at each
            instruction that makes memos in turn, while another does one of two things: it asks
            for another memo, and the subclass is declared after that; or it declares the subclass.
            Then the parent's SELECT must name the subclass.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table, inspect, select
from sqlalchemy.orm import registry

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001


def make_parent():
    columns = (Column("id", Integer, primary_key=True), Column("kind", String(9)))
    table, mapped = Table("animal", MetaData(), *columns), registry()
    animal = type("Animal", (), {})
    mapped.map_imperatively(animal, table, polymorphic_on="kind", polymorphic_identity="animal")
    dog = type("Dog", (animal,), {"mapped": mapped})
    mapped.map_imperatively(dog, inherits=animal, polymorphic_identity="dog")
    mapped.configure()
    return dog


def declare(parent):
    puppy = type("Puppy", (parent,), {})
    parent.mapped.map_imperatively(puppy, inherits=parent, polymorphic_identity="puppy")
    parent.mapped.configure()  # as its first query does
    return puppy


def knows_puppies(parent):
    statement = select(parent).compile(compile_kwargs={"literal_binds": True})
    mapper = inspect(parent)
    return "'puppy'" in str(statement) and len(mapper.self_and_descendants) == 2


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
    return "Memoized" in code.co_qualname


def ask(parent):
    """For the memos that tell which rows are the parent's."""
    return inspect(parent)._single_table_criterion, inspect(parent).self_and_descendants  # noqa: SLF001


def ask_something_else(parent):
    return inspect(parent)._all_pk_cols  # noqa: SLF001


def wrong_places(first, second, opcodes):
    places, place, more, kept = [], 1, True, []
    while more:
        parent = make_parent()
        more = interleave(
            lambda parent=parent: first(parent),
            lambda parent=parent: kept.append(second(parent)),
            place,
            memoizes,
            opcodes=opcodes,
        )
        if second is not declare:
            kept.append(declare(parent))
        if not knows_puppies(parent):
            places.append(place)
        place += 1
    return places, place - 2


def main():
    failed = False
    for what, *case in [
        ("names noted at once", ask_something_else, ask, True),
        ("declared meanwhile", ask, declare, False),
    ]:
        places, held = wrong_places(*case)
        failed |= bool(places)
        print(f"S2: {what}: held at {held} places, puppies are missing at {places}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
