# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S4"
# title = "columns of a shared subquery are not found, and other SQL is rendered"
# releases = "<=2.1.9"
# use = "supported"
# passes = "every thread finds every column, wherever another is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S4: columns of a shared subquery are not found, and other SQL is rendered.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL and with it.
Use:        a subquery, CTE, alias or union that is made once and that the statements of several
            threads use: aliased(Class, subquery), and all that adapts columns to it.
Symptom:    corresponding_column() is None for columns that are there. The ORM then renders the
            column of the table itself instead: other SQL, other rows.
Cause:      the index by which columns are found is filled in place by the first thread that asks,
            and counts as filled as soon as it has one entry.

Shows:      nothing is left to luck. One thread asks for a column first, held at each line that
            fills the index in turn; another asks for all of them, and makes a statement.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, Table, select
from sqlalchemy.orm import aliased, registry

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001

table = Table("t", MetaData(), Column("id", Integer, primary_key=True), *map(Column, "ab"))
SHARED = {
    "subquery": lambda: select(table).subquery("s"),
    "CTE": lambda: select(table).cte("s"),
    "alias": lambda: table.alias("s"),
    "union": lambda: select(table).union(select(table)).subquery("s"),
}


class Entity:
    pass


registry().map_imperatively(Entity, table)


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


def fills(code):
    return code.co_name in {"_init_proxy_index", "_setup_collections"}


def ask(shared):
    """The columns that are found for the table's, and a statement that needs them."""
    found = [shared.corresponding_column(column) for column in reversed(list(table.c))]
    entity = aliased(Entity, shared)
    statement = select(entity.b).where(entity.a == entity.id)
    return [column.key if column is not None else None for column in found], str(statement)


def main():
    failed = False
    for what, make in SHARED.items():
        expected = ask(make())
        wrong, place, more = [], 1, True
        while more:
            shared, got = make(), []

            def work(shared=shared, got=got):
                got.append(ask(shared))

            more = interleave(work, work, place, fills)
            if got != [expected, expected]:
                wrong.append(place)
            place += 1
        failed |= bool(wrong)
        print(f"S4: {what}: held at {place - 2} lines, wrong at {wrong}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
