# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S17"
# title = "a process that is forked while mappers are configured waits for ever"
# releases = "<=2.1.9"
# use = "supported"
# passes = "the child makes its query, wherever the thread that configures is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S17: a process that is forked while mappers are configured waits for ever.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL and with it.
Use:        a server forks its workers, or multiprocessing forks, while a thread of the parent makes
            the first query.
Symptom:    the child hangs in its first query.
Cause:      mappers are configured under a lock. The child has the lock as it was, locked by a
            thread that it does not have, and mappers that are half configured.

Shows:      nothing is left to luck. One thread makes the first query, held at places all over the
            configuration, while another thread forks. The child makes the same query; it must end.
"""

import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001
EVERY = 9  # lines
PATIENCE = 5  # seconds of a child, whose query takes milliseconds


def make_classes():
    class Base(DeclarativeBase):
        pass

    class Customer(Base):
        __tablename__ = "customer"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Order(Base):
        __tablename__ = "order"
        id: Mapped[int] = mapped_column(primary_key=True)
        customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
        customer: Mapped[Customer] = relationship(backref="orders")

    return Customer


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


def query(customer):
    str(select(customer))
    return "JOIN" in str(select(customer).join(customer.orders))


def in_child(customer):
    """Whether a child ends, and with the right answer."""
    child = os.fork()
    if not child:
        signal.alarm(PATIENCE)
        os._exit(0 if query(customer) else 1)
    return os.waitpid(child, 0)[1] == 0


def main():
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads
    wrong, place, more = [], 1, True
    while more and not wrong:
        customer, results = make_classes(), []

        def fork(customer=customer, results=results):
            results.append(in_child(customer))

        more = interleave(lambda customer=customer: query(customer), fork, place, configures)
        if results != [True]:
            wrong.append(place)
        place += EVERY
    print(f"S17: held at {place - EVERY} lines at most, hangs at {wrong}")
    return WRONG_ANSWER if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
