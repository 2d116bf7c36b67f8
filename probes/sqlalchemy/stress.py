# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy[asyncio]==2.1.9"]
#
# [tool.freewheel.stress]
# title = "shared statements, sessions, loads, aliases, pools, events, mappers, the asyncio layer"
# use = "supported"
# work = { quick = 5, full = 40 }
# seconds = 60
# exclusive = true
# ///
"""What applications do with SQLAlchemy, in four threads at once, and what they share.

Every thread is a tenant, with rows of its own in a database that all have; statements, subqueries,
mapped classes, the engine and its pool are everybody's. What a thread gets is compared with what
it wrote. SQLite is the database: its writers take turns, and wait for each other.

    python src/freewheel/proof/load.py probes/sqlalchemy/stress.py SECONDS
"""

import asyncio
import gc
import itertools
import pickle
import tempfile
import threading
from operator import is_
from pathlib import Path

import sqlalchemy as package
from load import expect
from sqlalchemy import (
    ForeignKey,
    Integer,
    QueuePool,
    StaticPool,
    String,
    TypeDecorator,
    bindparam,
    create_engine,
    event,
    func,
    inspect,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)
from sqlalchemy.util import await_only, greenlet_spawn

PACKAGE = package
# SQLAlchemy's own small caches still fill a little after the warm-up; one operation that leaked a
# block would leak thousands.
SLACK = {"blocks of memory": 2000}
INVOICES, ITEMS = 5, 3
ANY_THREAD = {"connect_args": {"check_same_thread": False}}


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int] = mapped_column(index=True)
    note: Mapped[str]
    items: Mapped[list["Item"]] = relationship(back_populates="invoice", cascade="all")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    invoice_id: Mapped[int] = mapped_column(ForeignKey("invoice.id"))
    invoice: Mapped[Invoice] = relationship(back_populates="items")


class Doubled(TypeDecorator):
    """A type of an application's own."""

    impl, cache_ok = Integer, True

    def process_bind_param(self, value, dialect):
        return value + 1

    def process_result_value(self, value, dialect):
        return 2 * value


# What is shared: made anew from time to time, so that it is used for the first time again.
class Shared:
    def __init__(self):
        self.invoices = select(Invoice).order_by(Invoice.id)
        self.count = select(func.count()).select_from(Invoice)
        few = select(Invoice).where(Invoice.note == "first").subquery()
        self.alias = aliased(Invoice, few)
        table = Invoice.__table__
        self.numbers = select(table.c.id).where(table.c.tenant == bindparam("tenant"))
        self.by_number = select(Invoice.id).where(Invoice.tenant == bindparam("tenant"))
        # Its first connection, its dialect and its caches of types are for all threads at once.
        self.engine = create_engine(
            "sqlite://", poolclass=QueuePool, pool_pre_ping=True, pool_recycle=1, **ANY_THREAD
        )
        self.typed = select(type_coerce(bindparam("number"), Doubled()).label("twice"))


shared = Shared()
engine = None
tenants, local = itertools.count(1), threading.local()


def prepare():
    global engine
    path = Path(tempfile.mkdtemp(dir=Path.cwd()), "rows")
    engine = create_engine(
        f"sqlite:///{path}", pool_size=4, max_overflow=-1, connect_args={"timeout": 60}
    )
    Base.metadata.create_all(engine)


def meanwhile():
    global shared
    shared = Shared()


def resting():
    """Before memory is measured: compiled statements are kept by hundreds, and fill for minutes."""
    engine.clear_compiled_cache()
    gc.collect()


def tenant():
    """The thread's own, with its rows written."""
    if not hasattr(local, "tenant"):
        local.tenant = next(tenants)
        with Session(engine) as session:
            for number in range(INVOICES):
                note = "first" if number == 0 else "other"
                items = [Item() for _ in range(ITEMS)]
                session.add(Invoice(tenant=local.tenant, note=note, items=items))
            session.commit()
    return local.tenant


def own_rows(worker):
    me = tenant()
    with Session(engine) as session:
        rows = session.scalars(shared.invoices.where(Invoice.tenant == me)).all()
        expect("whose invoices", [me] * INVOICES, [row.tenant for row in rows])
        count = session.scalar(shared.count.where(Invoice.tenant == me))
        expect("how many", INVOICES, count)
    return 1


def all_rows(worker):
    tenant()
    with Session(engine) as session:
        count = session.scalar(shared.count)
        rows = len(session.scalars(shared.invoices).all())
        expect("all of the rows", (True, 0), (rows >= count, count % INVOICES))
    return 1


def own_columns(worker):
    me = tenant()
    with engine.connect() as connection:
        rows = connection.execute(shared.by_number, {"tenant": me}).all()
        expect("own numbers", INVOICES, len(rows))
        own = select(Invoice.tenant).where(Invoice.id.in_([row.id for row in rows]))
        expect("whose numbers", {me}, set(connection.scalars(own)))
    return 1


def an_alias(worker):
    me = tenant()
    with Session(engine) as session:
        one = session.scalars(select(shared.alias).where(shared.alias.tenant == me)).one()
        expect("the first invoice", ("first", me), (one.note, one.tenant))
    return 1


def loads(worker):
    me = tenant()
    option = worker.random.choice([selectinload, joinedload, None])
    statement = shared.invoices.where(Invoice.tenant == me)
    with Session(engine) as session:
        if option:
            statement = statement.options(option(Invoice.items))
        rows = session.scalars(statement).unique().all()
        expect("items", [ITEMS] * INVOICES, [len(row.items) for row in rows])
        expect("back", {me}, {item.invoice.tenant for row in rows for item in row.items})
    return 1


def a_change(worker):
    me, note = tenant(), f"n{worker.random.random()}"
    with Session(engine) as session:
        one = session.scalars(shared.invoices.where(Invoice.tenant == me).offset(1)).first()
        one.note = note
        session.commit()
        session.execute(update(Invoice).where(Invoice.id == one.id).values(note=Invoice.note + "!"))
        session.commit()
        expect("what was written", f"{note}!", session.get(Invoice, one.id).note)
    return 1


def a_pool(worker):
    class Connection:
        def close(self):
            pass

        rollback = commit = close

    pool, calls = QueuePool(Connection, pool_size=2, max_overflow=-1), []
    event.listen(pool, "checkout", lambda *_: calls.append(1), once=True)
    event.listen(pool, "checkin", lambda *_: calls.append(2))
    for connection in [pool.connect() for _ in range(3)]:
        connection.close()
    expect("a pool's events", [1, 2, 2, 2], calls)
    expect("a pool's count", 0, pool.checkedout())
    return 1


def a_new_engine(worker):
    """Its pool is disposed of, and its connections are invalidated, while others use it."""
    new, number = shared.engine, worker.random.randrange(9)
    with new.connect() as connection:
        row = connection.execute(shared.typed, {"number": number}).one()
        answers = (row.twice, row[0], row._mapping["twice"])  # noqa: SLF001  it is public
        expect("a type's answer", (2 * number + 2,) * 3, answers)
        if number == 0:
            connection.invalidate()
    if number == 1:
        new.dispose()
    elif number == 2:
        new.clear_compiled_cache()
    return 1


def listeners(worker):
    """A tracer comes and goes while others fire the same events."""
    new, calls = shared.engine, []

    def trace(*args):
        calls.append(threading.get_ident())

    event.listen(new, "before_cursor_execute", trace)
    with new.connect() as connection:
        expect("an answer", 1, connection.scalar(text("SELECT 1")))
    event.remove(new, "before_cursor_execute", trace)
    expect("own calls of a tracer", 1, calls.count(threading.get_ident()))
    return 1


def again(worker):
    """Objects that refer to each other are garbage, collected in any thread, and loaded again."""
    me = tenant()
    statement = shared.invoices.where(Invoice.tenant == me).options(joinedload(Invoice.items))
    with Session(engine) as session:
        for _ in range(3):
            rows = session.scalars(statement).unique().all()
            there = [session.get(Invoice, row.id) for row in rows]
            expect("one object of each row", [True] * INVOICES, [*map(is_, rows, there)])
    return 3


def in_memory(worker):
    own = create_engine("sqlite://", poolclass=StaticPool, **ANY_THREAD)
    with own.begin() as connection:
        connection.execute(text("CREATE TABLE t (x)"))
        connection.execute(text("INSERT INTO t VALUES (7)"))
    with own.connect() as connection:
        expect("a database in memory", 7, connection.scalar(text("SELECT x FROM t")))
    own.dispose()
    return 1


def a_mapping(worker):
    class Own(DeclarativeBase):
        pass

    class Animal(Own):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(9))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    str(select(Animal))

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    expect("mappers", 2, len(inspect(Animal).self_and_descendants))
    expect("a single table", True, "IN" in str(select(Dog)))
    Own.registry.dispose()
    return 1


def a_pickle(worker):
    me = tenant()
    copy = pickle.loads(pickle.dumps(shared.numbers))  # noqa: S301  its own
    with engine.connect() as connection:
        expect("pickled", INVOICES, len(connection.execute(copy, {"tenant": me}).all()))
    return 1


def of_asyncio(worker):
    async def answer(number):
        await asyncio.sleep(0)
        return number

    async def calls():
        jobs = (greenlet_spawn(lambda n=n: await_only(answer(n))) for n in range(20))
        return await asyncio.gather(*jobs)

    expect("answers", list(range(20)), asyncio.run(calls()))
    return 20


KINDS = [
    own_rows,
    all_rows,
    own_columns,
    an_alias,
    loads,
    a_change,
    a_pool,
    a_new_engine,
    listeners,
    again,
    in_memory,
    a_mapping,
    a_pickle,
    of_asyncio,
]
