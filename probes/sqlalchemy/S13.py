# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S13"
# title = "a mapping counts as configured before what it depends on is"
# releases = "<=2.1.9"
# use = "supported"
# passes = "a thread that may use a class finds all of its attributes, wherever another is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S13: a mapping counts as configured before what it depends on is.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL and with it.
Use:        two registries, as two declarative bases have, whose classes have relationships to each
            other. Several threads make the first query.
Symptom:    AttributeError: the class has no attribute of the name that a backref gives it.
Cause:      the first thread configures one registry after the other, and notes after each that it
            needs no configuration any more. From then on no thread waits for the first; but those
            that the registry depends on, and that add to its classes, are not done.

Shows:      nothing is left to luck. One thread makes the first query, held at each line that
            configures registries in turn; another makes a query that uses the backref.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, select
from sqlalchemy.orm import registry, relationship

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001


def make_classes():
    """A class of one registry, which a class of another registry gives a relationship."""
    order, customer = type("Order", (), {}), type("Customer", (), {})
    metadata, id_ = MetaData(), partial(Column, "id", Integer, primary_key=True)
    orders = Table("order", metadata, id_(), Column("customer", ForeignKey("customer.id")))
    customers = Table("customer", metadata, id_(), Column("first", ForeignKey("order.id")))
    first = relationship(order, foreign_keys=customers.c.first, backref="first_of")
    registry().map_imperatively(customer, customers, properties={"first_order": first})
    theirs = relationship(customer, foreign_keys=orders.c.customer)
    registry().map_imperatively(order, orders, properties={"its_customer": theirs})
    return order


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


def configures(code):
    return code.co_name in {"_configure_registries", "_do_configure_registries"}


def main():
    wrong, place, more = {}, 1, True
    while more:
        order, results = make_classes(), []

        def query(order=order, results=results):
            try:
                str(select(order))
                results.append(str(select(order).join(order.first_of)).count("JOIN"))
            except Exception as error:
                results.append(repr(error))

        more = interleave(query, query, place, configures)
        if results != [1, 1]:
            wrong[place] = results
        place += 1
    print(f"S13: held at {place - 2} lines, wrong: {wrong}")
    return WRONG_ANSWER if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
