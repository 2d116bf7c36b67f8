# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "SP1"
# title = "every statement stops all threads of the process"
# releases = "<=2.1.9"
# use = "supported"
# passes = "no operation of a request stops the other threads"
# fails-by = ["wrong answer"]
# runs = { baseline = 5, patched = 20 }
# seconds = 120
# ///
"""SP1: every statement stops all threads of the process.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL.
Use:        building a statement and executing it: what every request does.
Symptom:    two threads get less done than two processes: 0.86 of the reads, 0.78 of the jobs.
Cause:      CPython stops all threads to set a function's __name__, __doc__, __defaults__ or
            __code__. SQLAlchemy keeps a statement's cache key in a function that it makes for
            that, and sets the first two: two stops for each statement, four with a lazy load,
            eight for a new alias.

Shows:      that there is a stop, without a clock. Another thread is in one long call of C, at
            whose end a mark is made. Who stops all threads has to wait until that thread can be
            stopped, which it cannot in there. So an operation that is through before the mark has
            stopped nobody. Where the mark came first, it is tried again with longer calls.
"""

import gc
import itertools
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from sqlalchemy import ForeignKey, create_engine, func, insert, select, text, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
WARM_UP = 3
LENGTHS = (
    1,
    3,
    10,
    30,
    100,
)  # of the call, in millions of items; a million takes some milliseconds


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    children: Mapped[list["Child"]] = relationship(back_populates="parent")


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))
    parent: Mapped[Parent] = relationship(back_populates="children")


parents, number = Parent.__table__, itertools.count(1000)
kept = select(Parent).where(Parent.id == 1)


def flush(session, count):
    session.add_all(Parent(id=next(number), name="new") for _ in range(count))
    session.flush()


def change(session):
    session.get(Parent, 3).name = f"changed {next(number)}"
    session.commit()


def remove(session):
    session.add(parent := Parent(id=next(number), name="short"))
    session.commit()
    session.delete(parent)
    session.commit()


def merge(session):
    session.merge(Parent(id=2, name=f"merged {next(number)}"))
    session.flush()


def with_alias(session):
    other = aliased(Parent)
    return session.scalars(select(other).where(other.id == 1)).all()


def with_cte(session):
    few = select(Parent.id).where(Parent.id < next(number)).cte("few")
    return session.execute(select(func.count()).select_from(few).union(select(few.c.id))).all()


def load(option):
    return lambda session: session.scalars(select(Parent).options(option())).unique().all()


OF_A_CONNECTION = {
    "a SELECT built anew": lambda c: c.execute(select(parents).where(parents.c.id == 1)).all(),
    "an UPDATE built anew": lambda c: c.execute(update(parents).values(name=f"{next(number)}")),
    "an INSERT of ten": lambda c: c.execute(
        insert(parents), [{"id": next(number), "name": "x"} for _ in range(10)]
    ),
    "text": lambda c: c.execute(text("SELECT :x").bindparams(x=1)).all(),
    "a statement again": lambda c: c.execute(kept).all(),
    "execution options": lambda c: c.execution_options(yield_per=9).execute(kept).all(),
}
OF_A_SESSION = {
    "an ORM select": lambda s: s.scalars(select(Parent).where(Parent.id == 1)).all(),
    "a query": lambda s: s.query(Parent).filter(Parent.id == 1).all(),
    "get": lambda s: s.get(Parent, 1, populate_existing=True),
    "get and a lazy load": lambda s: s.get(Parent, 1).children[0].parent,
    "selectinload": load(lambda: selectinload(Parent.children)),
    "joinedload": load(lambda: joinedload(Parent.children)),
    "subqueryload": load(lambda: subqueryload(Parent.children)),
    "a new alias": with_alias,
    "a CTE and a UNION": with_cte,
    "a refresh": lambda s: s.refresh(s.get(Parent, 1)),
    "a flush of one": lambda s: flush(s, 1),
    "a flush of ten": lambda s: flush(s, 10),
    "a merge": merge,
    "a change and a commit": change,
    "an object deleted": remove,
    "begin and commit": lambda s: (s.connection(), s.commit()),
}


def of_a_connection(engine, operation):
    with engine.connect() as connection:
        operation(connection)
        connection.rollback()


def of_a_session(engine, operation):
    with Session(engine) as session:
        operation(session)


def long_call(length, begun, ended):
    """One call of C, which nothing interrupts: it marks its beginning and its end itself."""
    items = itertools.repeat(None, length * 1_000_000)
    marks = [map(begun.append, [True]), items, map(ended.append, [True])]
    deque(itertools.chain.from_iterable(marks), maxlen=0)


def stops(operation, lengths=LENGTHS):
    """Whether the operation never got through within one call of another thread."""
    for length in lengths:
        begun, ended = [], []
        thread = threading.Thread(target=long_call, args=(length, begun, ended))
        thread.start()
        while not begun:
            time.sleep(0)
        operation()
        through = not ended
        thread.join()
        if through:
            return False
    return True


def rename():
    """What certainly stops all threads."""
    (lambda: None).__name__ = "other"


def main():
    if sys._is_gil_enabled():  # noqa: SLF001
        print("SP1: the GIL is on")
        return NOT_RUN
    gc.disable()  # a collection stops all threads as well
    if not stops(rename, LENGTHS[:2]) or stops(lambda: None):
        print("SP1: stops cannot be seen here")
        return NOT_RUN
    with tempfile.TemporaryDirectory() as directory:
        engine = create_engine(f"sqlite:///{Path(directory, 'rows')}")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            for key in range(1, 6):
                session.add(Parent(id=key, name="old", children=[Child(), Child()]))
            session.commit()
        for within, operations in (
            (of_a_connection, OF_A_CONNECTION),
            (of_a_session, OF_A_SESSION),
        ):
            for what, operation in operations.items():
                for _ in range(WARM_UP):
                    within(engine, operation)
                stopped = stops(
                    lambda within=within, operation=operation: within(engine, operation)
                )
                print(f"SP1: {what}: {'stops all threads' if stopped else 'stops nobody'}")
                if stopped:
                    return WRONG_ANSWER
        engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
