# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy[asyncio]==2.1.9"]
#
# [tool.freewheel.benchmark]
# title = "statements, objects, pools and the asyncio layer"
# use = "supported"
# seconds = 60
# [tool.freewheel.benchmark.cases]
# compile = "build a statement and compile it"
# build = "build a statement whose SQL is cached, up to its cache key"
# load = "load 1,000 rows as objects"
# flush = "flush 1,000 new objects"
# checkout = "check a connection out of a pool, and return it"
# spawn = "a round trip of greenlet_spawn, as for each call of an asyncio driver"
# alone = "calls of functions and lists of tuples, without SQLAlchemy: what the interpreter reaches"
# ///
"""What SQLAlchemy costs. `nox -s bench-sqlalchemy` measures it; docs/benchmarks.md has the figures.

Every worker has classes, tables, an engine and a database in memory of its own. What is in the
database is written before it is measured; no server is.
"""

import asyncio

from sqlalchemy import Column, Integer, MetaData, QueuePool, String, Table, create_engine, select
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.util import await_only, greenlet_spawn

ROWS = 1000


def make_table():
    columns = (Column(name, String) for name in ("name", "email", "city"))
    return Table("person", MetaData(), Column("id", Integer, primary_key=True), *columns)


def make_entity():
    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        email: Mapped[str]

    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    return engine, Person


def statement(table, number):
    return (
        select(table.c.id, table.c.name)
        .where(table.c.id > number, table.c.city == "x")
        .order_by(table.c.name)
        .limit(10)
    )


def compile():  # noqa: A001  the case's name
    table, sqlite, number = make_table(), dialect(), 0
    while True:
        for _ in range(10):
            number += 1
            statement(table, number).compile(dialect=sqlite)
        yield 10


def build():
    table, number = make_table(), 0
    while True:
        for _ in range(50):
            number += 1
            statement(table, number)._generate_cache_key()  # noqa: SLF001
        yield 50


def load():
    engine, person = make_entity()
    with Session(engine) as session:
        session.add_all(person(name=f"n{n}", email=f"e{n}") for n in range(ROWS))
        session.flush()
        everybody = select(person)
        while True:
            session.expunge_all()
            if len(session.scalars(everybody).all()) != ROWS:
                raise AssertionError("rows are missing")
            yield ROWS


def flush():
    engine, person = make_entity()
    while True:
        with Session(engine) as session:
            session.add_all(person(name=f"n{n}", email=f"e{n}") for n in range(ROWS))
            session.flush()
            session.rollback()
        yield ROWS


class Connection:
    """A stub of a DBAPI connection."""

    def close(self):
        pass

    rollback = commit = close


def checkout():
    pool = QueuePool(Connection, pool_size=5)
    while True:
        for _ in range(100):
            pool.connect().close()
        yield 100


def spawn():
    async def answer():
        """What a driver would wait for."""

    def call():
        return await_only(answer())

    async def calls():
        for _ in range(100):
            await greenlet_spawn(call)

    loop = asyncio.new_event_loop()
    try:
        while True:
            loop.run_until_complete(calls())
            yield 100
    finally:
        loop.close()


def alone():
    def make(number):
        return (number, [number])

    while True:
        rows = [make(number) for number in range(ROWS)]
        yield len(rows)
