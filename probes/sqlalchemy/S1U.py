# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S1U"
# title = "a tenant is shown the rows of all others"
# releases = "<=2.1.9"
# use = "supported"
# passes = "each tenant gets the rows of its own, wherever the others' threads are held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S1U: a tenant is shown the rows of all others.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL; with it, if it is handed over there.
Use:        a service with several tenants in one table. Its statements are made once, at import;
            each request adds its tenant's WHERE and executes that in a session of its own.
Symptom:    rows of other tenants, without an error. It happens when a report, or a count for all,
            executes the statement itself for the first time just then.
Cause:      S1 has it: the derived statement keeps the cache key of its base, and with that the
            SQL that is cached for it.

Shows:      real rows from a real database, SQLite in a file, through the ORM. The thread of the
            report is held at each line of its first execution that makes a memo in turn, while
            a request of a tenant is served by another thread.
"""

import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

WRONG_ANSWER = 3  # docs/probes.md
A_MOMENT = 5  # seconds for a thread that waits for the other; none does here
TENANTS, INVOICES = 3, 4


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]


# What such a service has at the top of its modules.
STATEMENTS = {
    "rows": lambda: select(Invoice).order_by(Invoice.id),
    "columns": lambda: select(Invoice.id, Invoice.tenant).order_by(Invoice.id),
    "counts": lambda: select(Invoice.tenant, func.count()).group_by(Invoice.tenant),
}


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
    return "HasMemoized" in code.co_qualname


def tenants(engine, statement):
    """Whose rows a request gets."""
    with Session(engine) as session:
        rows = session.execute(statement).all()
    return {row[0].tenant if isinstance(row[0], Invoice) else row.tenant for row in rows}


def strangers(engine, make):
    """The requests that got another tenant's rows: place of the report's thread, whose rows."""
    found, place, more = [], 1, True
    while more:
        statement, tenant, shown = make(), 1 + place % TENANTS, []

        def report(statement=statement):
            if tenants(engine, statement) != set(range(1, TENANTS + 1)):
                raise AssertionError("the report lacks tenants")

        def request(statement=statement, tenant=tenant, shown=shown):
            shown.extend(tenants(engine, statement.where(Invoice.tenant == tenant)))

        more = interleave(report, request, place, memoizes)
        if shown != [tenant]:
            found.append((place, shown))
        place += 1
    return found, place - 2


def main():
    with tempfile.TemporaryDirectory() as directory:
        engine = create_engine(f"sqlite:///{Path(directory, 'invoices')}")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Invoice(tenant=1 + n % TENANTS) for n in range(TENANTS * INVOICES))
            session.commit()
        failed = False
        for what, make in STATEMENTS.items():
            tenants(engine, make())  # what is made once in a process is made
            found, lines = strangers(engine, make)
            failed |= bool(found)
            print(f"S1U: {what}: {lines} requests, with rows of others: {found}")
        engine.dispose()
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
