# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S1"
# title = "a statement derived while another thread first uses its base runs the base's SQL"
# releases = "<=2.1.9"
# use = "supported"
# passes = "wherever the other thread is held, what is derived has memos of its own"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S1: a statement derived while another thread first uses its base runs the base's SQL.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL; with it, if it is handed over there.
Use:        a statement that is made once, at import, and narrowed for each request, by where() or
            options(): what the documentation recommends.
Symptom:    the WHERE is lost and other rows come back, without an error. So does everything else
            that the derived object was given.
Cause:      what is memoized, such as the cache key, is stored in the object before its name is
            noted in _memoized_keys, and who copies the object reads the names before the rest.
            In between, a copy keeps a memo of what it was copied from.

Shows:      nothing is left to luck. One thread makes a memo, held at each line of that in turn
            while another thread derives; then it goes on. What was derived is compared with what
            it has to be. All kinds of objects that are copied without their memos: statements,
            Core and ORM, their parts, and a class of this program's own with memos of both kinds.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

from sqlalchemy import Column, Integer, MetaData, Table, delete, func, insert, select, update, util
from sqlalchemy.orm import aliased, registry
from sqlalchemy.sql.base import Generative

WRONG_ANSWER = 3  # docs/probes.md
A_MOMENT = 5  # seconds for a thread that waits for the other; none does here

table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("owner", Integer))


class Entity:
    pass


registry().map_imperatively(Entity, table)


class Own(Generative):
    """As applications and extensions make them: a state, and two memos of it."""

    state = 1

    def with_state(self, state):
        new = self._generate()
        new.state = state
        return new

    @util.HasMemoized.memoized_attribute
    def attribute(self):
        return self.state

    @util.HasMemoized.memoized_instancemethod
    def method(self):
        return self.state


def key(element):
    return element._generate_cache_key().key  # noqa: SLF001


def own(element):
    return element.attribute, element.method()


def copied(element):
    """As where() does with a part of a statement that has an alias put in."""
    new = element._clone()  # noqa: SLF001
    new.name = "other"
    return new


two = table.c.owner == 2
mine = Entity.owner == 2
# What it is, how to make one, what makes its memo, how to derive from it.
CASES = [
    ("select", lambda: select(table), key, lambda base: base.where(two)),
    ("ORM select", lambda: select(Entity), key, lambda base: base.where(mine)),
    ("alias", lambda: select(aliased(Entity)), key, lambda base: base.limit(2)),
    ("union", lambda: select(table).union(select(table)), key, lambda base: base.limit(2)),
    ("insert", lambda: insert(table), key, lambda base: base.values(owner=2)),
    ("update", lambda: update(table), key, lambda base: base.where(two)),
    ("delete", lambda: delete(table), key, lambda base: base.where(two)),
    ("function", lambda: func.thing(table.c.id), key, copied),
    ("label", lambda: table.c.id.label("x"), key, copied),
    ("CTE", lambda: select(table).cte("x"), key, copied),
    (
        "select's columns",
        lambda: select(table.c.id),
        lambda base: base.selected_columns.keys(),
        lambda base: base.add_columns(table.c.owner),
    ),
    ("a class of one's own", Own, own, lambda base: base.with_state(2)),
]


def interleave(first, second, place, where, *, opcodes=False):
    """Do `first` in a thread up to a place, then `second` in another, then the rest of `first`.

    Places are counted: lines, or instructions, of the functions that `where` is true for. Should
    `second` wait for `first`, that goes on. Return whether `first` has got to the place.
    """
    held, go, left = threading.Event(), threading.Event(), [place]

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

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(traced)
        held.wait()
        other = pool.submit(second)
        wait([other], A_MOMENT)
        go.set()
        one.result()
        other.result()
    return left[0] <= 0


def memoizes(code):
    return "emoized" in code.co_qualname


def wrong_places(make, memo, derive):
    """At which lines of the first thread what was derived, before or after, has the base's memo."""
    expected = memo(derive(make()))
    places, place, more = [], 1, True
    while more:
        base, got = make(), []
        more = interleave(
            lambda base=base: memo(base),
            lambda base=base, got=got: got.append(memo(derive(base))),
            place,
            memoizes,
        )
        if got != [expected] or memo(derive(base)) != expected:
            places.append(place)
        place += 1
    return places, place - 2


def main():
    failed = False
    for what, *case in CASES:
        places, lines = wrong_places(*case)
        failed |= bool(places)
        print(f"S1: {what}: held at {lines} lines, wrong at {places}")
        if not lines:
            print(f"S1: {what}: nothing was memoized")
            return 77
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
