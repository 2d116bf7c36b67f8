# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.stress]
# title = "pools, transactions, cursors, COPY, listeners, codecs, cancellation; a loop per thread"
# use = "supported"
# needs = ["postgresql"]
# work = { quick = 8, full = 60 }
# seconds = 60
# exclusive = true
# ///
"""asyncpg under load: what applications do with it, a loop per thread, and every answer checked.

Each of four threads has an event loop, a pool of connections and a listener of its own. In each
loop several workers compete for the pool and do one piece of work after the other, drawn from
KINDS. What comes back is compared with what must come back; what no single answer shows (money
lost or made, a notification that never came, a connection that a pool forgot) is checked at the
end. Meanwhile the main thread collects garbage, lets short-lived threads fetch rows, and watches
memory and progress.

    stress.py SECONDS       FREEWHEEL_POSTGRES_DSN says which server. The seed is printed, and can
                            be set: FREEWHEEL_STRESS_SEED; so can FREEWHEEL_STRESS_THREADS.

It works in a schema of its own and drops it at the end; runs at the same time do not disturb each
other. How it fails, with the exit codes of docs/probes.md:

an exception:    one that asyncpg should not have raised, in a callback or elsewhere;
a wrong answer:  also one of the checks at the end, or the GIL has come on;
a leak:          memory went on growing with the work; see `growth`;
a hang:          a piece of work, or a thread, did not come to its end; see PATIENCE.
"""
# ruff: noqa: S311  the values must be repeatable
# ruff: noqa: S608  that statements differ in their text is a part of the load
# ruff: noqa: SLF001  sys._is_gil_enabled is documented; statements are told to nobody
# ruff: noqa: ASYNC110  other threads and other sessions set no asyncio.Event

import asyncio
import contextlib
import csv
import datetime as dt
import decimal
import enum
import faulthandler
import gc
import io
import ipaddress
import itertools
import json
import os
import random
import secrets
import statistics
import struct
import sys
import threading
import time
import traceback
import uuid
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = int(os.environ.get("FREEWHEEL_STRESS_THREADS", "4"))
WORKERS, POOL = 6, 4  # of each loop: fewer connections than workers, so that they have to wait
ACCOUNTS, OPENING = 40, 1000
VISITORS = 6  # short-lived threads; few, because each may cost 0.43 MiB (P4, which has a probe)
PATIENCE = 45  # seconds that one piece of work, or the end of all threads, may take
SAMPLES = 30  # of memory
SLACK = 8 * THREADS  # MiB that memory may grow by after the warm-up; see `growth`
PASS, EXCEPTION, WRONG, LEAK, HANG, NOT_RUN = 0, 1, 3, 4, 5, 77

try:
    import asyncpg
except ImportError as error:
    print(f"could not run: {error!r}")
    sys.exit(NOT_RUN)

# What a lost connection may raise: in the middle of a query, and from then on.
LOST = (asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError, ConnectionError)


class Wrong(Exception):
    """An answer that is not what it must be."""


class Undo(Exception):
    """Rolls a transaction back."""


class Row(asyncpg.Record):
    """A record with attributes, as asyncpg's documentation has it."""

    def __getattr__(self, name):
        return self[name]


class Colour(enum.Enum):
    RED = "red"
    PATTERN = "blue, {green}"
    WHITE = "weiß"


def check(got, want, what):
    if plain(got) != plain(want):
        raise Wrong(f"{what}\n  expected {shown(want)}\n  came     {shown(got)}")


def plain(value):
    """The value, with records made tuples; floats and bools equal nothing but themselves."""
    if isinstance(value, (tuple, asyncpg.Record)):
        return tuple(map(plain, value))
    if isinstance(value, list):
        return list(map(plain, value))
    return repr(value) if isinstance(value, (float, bool)) else value


def shown(value, most=1500):
    whole = repr(value)
    return whole if len(whole) <= most else f"{whole[:most]}... ({len(whole)} characters)"


# ----------------------------------------------------------------------------------- random values


def text(r):
    return "".join(r.choices("aB3 \t\n'\"\\,;{}()%$|üßŁ☃漢字🙂", k=r.choice((0, 1, 5, 30, 300))))


def number(r):
    digits = tuple(r.choices(range(10), k=r.randint(1, 60)))
    return decimal.Decimal((r.randint(0, 1), digits, -r.randint(0, 30)))


def moment(r):
    microseconds = r.randrange(-(10**16), 10**16)
    return dt.datetime(2000, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)


def span(r, make):
    low, high = sorted((make(r), make(r)))
    if low == high:
        return asyncpg.Range(empty=True)
    return asyncpg.Range(r.choice((None, low)), r.choice((None, high)))


def several(r, make, counts=(0, 1, 3, 20)):
    return [r.choice((None, make(r), make(r))) for _ in range(r.choice(counts))]


def document(r, depth=2):
    if depth == 0:
        return r.choice((None, True, r.randint(-9, 9), text(r)))
    inner = [document(r, depth - 1) for _ in range(r.randint(0, 3))]
    return r.choice((inner, {f"k{i}☃": each for i, each in enumerate(inner)}))


TYPES = {
    "bool": lambda r: r.random() < 0.5,
    "int2": lambda r: r.randint(-(2**15), 2**15 - 1),
    "int4": lambda r: r.randint(-(2**31), 2**31 - 1),
    "int8": lambda r: r.randint(-(2**63), 2**63 - 1),
    "float4": lambda r: struct.unpack("f", struct.pack("f", r.uniform(-1e9, 1e9)))[0],
    "float8": lambda r: r.choice((r.gauss(), r.uniform(-1, 1) * 1e300, float("inf"), -0.0)),
    "numeric": number,
    "text": text,
    "varchar(400)": text,
    "bytea": lambda r: r.randbytes(r.choice((0, 1, 40, 3000))),
    "uuid": lambda r: uuid.UUID(bytes=r.randbytes(16)),
    "date": lambda r: moment(r).date(),
    "time": lambda r: moment(r).time(),
    "timestamp": lambda r: moment(r).replace(tzinfo=None),
    "timestamptz": moment,
    "interval": lambda r: dt.timedelta(r.randint(-9999, 9999), r.uniform(0, 86399)),
    "json": document,
    "jsonb": document,
    "inet": lambda r: ipaddress.ip_address(r.randbytes(r.choice((4, 16)))),
    "bit varying": lambda r: asyncpg.BitString("".join(r.choices("01", k=r.randint(0, 70)))),
    "point": lambda r: asyncpg.Point(r.gauss(), r.gauss()),
    "int4range": lambda r: span(r, lambda r: r.randint(-1000, 1000)),
    "tstzrange": lambda r: span(r, moment),
    "int8[]": lambda r: several(r, TYPES["int8"]),
    "text[]": lambda r: several(r, text),
    "int4[][]": lambda r: [[r.randint(0, 9) for _ in range(3)] for _ in range(r.randint(1, 4))],
    "colour": lambda r: r.choice(list(Colour)),
    "size": lambda r: r.choice(("small", "größer")),
    "pair": lambda r: (text(r), number(r)),
    "pair[]": lambda r: several(r, TYPES["pair"], (0, 1, 3)),
    "place": lambda r: {"x": r.randint(0, 99), "name": text(r)},
}
COLUMNS = ["owner", "number", *(f"c{i}" for i in range(len(TYPES)))]
ITEMS = f"SELECT {', '.join(COLUMNS)} FROM item WHERE owner = $1 ORDER BY number"
TABLES = f"""
    CREATE TYPE colour AS ENUM ({", ".join(f"'{colour.value}'" for colour in Colour)});
    CREATE TYPE size AS ENUM ('small', 'größer');
    CREATE TYPE pair AS (label text, weight numeric);
    CREATE TYPE place AS (x int4, name text);
    CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
    CREATE TABLE entry (worker text, number int, source int, target int, amount int,
                        PRIMARY KEY (worker, number));
    CREATE TABLE part (account int REFERENCES account);
    CREATE TABLE item (owner text NOT NULL, number int CHECK (number >= 0),
                       {", ".join(f"c{i} {name}" for i, name in enumerate(TYPES))},
                       PRIMARY KEY (owner, number));
    INSERT INTO account SELECT n, {OPENING} FROM generate_series(1, {ACCOUNTS}) AS n;
"""


def value(r, name):
    return None if r.random() < 0.1 else TYPES[name](r)


async def initialise(con):
    """Give a new connection of a pool the codecs that it keeps through every reset."""
    schema = await con.fetchval("SELECT current_schema()")
    codecs = {
        "json": ("binary", lambda v: json.dumps(v).encode(), json.loads),
        "jsonb": ("binary", lambda v: b"\1" + json.dumps(v).encode(), lambda d: json.loads(d[1:])),
        "colour": ("binary", lambda v: v.value.encode(), lambda data: Colour(data.decode())),
        "place": ("tuple", lambda v: (v["x"], v["name"]), lambda t: {"x": t[0], "name": t[1]}),
    }
    for name, (form, encode, decode) in codecs.items():
        where = "pg_catalog" if name.startswith("json") else schema
        await con.set_type_codec(name, schema=where, format=form, encoder=encode, decoder=decode)


# ----------------------------------------------------------------------------------- kinds of work


async def session(w):
    """What one task sets in its session the next one does not find; notices arrive in order."""
    async with w.connection() as con:
        token, notices = w.token(), []
        found = await con.fetchrow(
            "SELECT coalesce(current_setting('stress.mark', true), ''), current_schema(),"
            " (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()"
            "  AND locktype = 'advisory'), (SELECT count(*) FROM pg_listening_channels()),"
            " (SELECT count(*) FROM pg_cursors WHERE name <> '')"
        )
        check(found, ("", w.run.schema, 0, 0, 0), "state of a session fresh from the pool")
        await con.execute(f"SET stress.mark = '{token}'; SET search_path = pg_catalog")
        await con.execute("SELECT pg_advisory_lock(hashtext($1))", f"{w.run.schema} {token}")
        con.add_log_listener(hear := lambda _con, message: notices.append(message.message))
        lines = [f"{token} {n}" for n in range(w.rng.randint(1, 4))]
        for line in lines:
            await con.execute(f"DO $$ BEGIN RAISE NOTICE '{line}'; END $$")
            await asyncio.sleep(w.rng.random() * 0.002)
            check(await con.fetchval("SHOW stress.mark"), token, "a session's own setting")
        check(notices, lines, "notices")
        con.remove_log_listener(hear)


async def ledger(w):
    """Money moves between accounts or does not: savepoints, rollbacks, commits, cancellation."""
    source, target = w.rng.sample(range(1, ACCOUNTS + 1), 2)
    entry = next(w.numbers), source, target, w.rng.randint(1, 50)
    plan = w.rng.choice(("commit", "commit", "undo", "nested", "nested undo", "manual", "cancel"))
    task = asyncio.create_task(transfer(w, plan, *entry))
    if plan == "cancel":
        await asyncio.sleep(w.rng.random() * 0.015)
        task.cancel()
    try:
        if await task:
            w.committed.add(entry)
    except asyncio.CancelledError:
        w.uncertain.add(entry)  # it may have been at its COMMIT
    if len(w.committed) >= 40:
        await settle(w)


async def transfer(w, plan, number, source, target, amount):  # noqa: PLR0917  an entry
    """Move money in one transaction; True if that is to last."""

    async def move(number, amount):
        await con.execute("UPDATE account SET balance = balance - $2 WHERE id = $1", source, amount)
        await con.executemany(
            "UPDATE account SET balance = balance + $2 WHERE id = $1", [(target, amount)]
        )
        row = (w.name, number, source, target, amount)
        await con.execute("INSERT INTO entry VALUES ($1, $2, $3, $4, $5)", *row)

    lock = "SELECT id FROM account WHERE id = any($1) ORDER BY id FOR UPDATE"
    async with w.connection() as con:
        if plan == "manual":
            transaction, lasts = con.transaction(), w.rng.random() < 0.5
            await transaction.start()
            await con.fetch(lock, [source, target])
            await move(number, amount)
            await (transaction.commit() if lasts else transaction.rollback())
            check(con.is_in_transaction(), False, "is_in_transaction after the end")
            return lasts
        with contextlib.suppress(Undo):
            async with con.transaction():
                await con.fetch(lock, [source, target])
                if plan.startswith("nested"):
                    with contextlib.suppress(Undo):
                        async with con.transaction():
                            await move(-number, amount + 1)
                            raise Undo
                async with con.transaction():
                    await move(number, amount)
                if plan.endswith("undo"):
                    raise Undo
            return True
    return False


async def settle(w):
    """Take the worker's entries out of the ledger; they must be exactly those committed."""
    async with w.connection() as con:
        rows = await con.fetch(
            "DELETE FROM entry WHERE worker = $1 RETURNING number, source, target, amount", w.name
        )
    late = w.uncertain.intersection(map(tuple, rows))
    w.uncertain -= late
    check(sorted(rows), sorted(w.committed | late), "entries in the ledger")
    for _, source, target, amount in rows:
        w.home.net[source] -= amount
        w.home.net[target] += amount
    w.committed.clear()


async def cursors(w):
    """Two cursors of one connection, read in turn and in pieces; one iterated, and left early."""
    sizes = [w.rng.randint(1, 120) for _ in range(2)]
    factors = [w.rng.randint(-(10**9), 10**9) for _ in range(2)]

    def wanted(i, first, last):
        return [(n, n * factors[i], "☃" * (n % 7)) for n in range(first, last + 1)]

    sql = (
        "SELECT n, n * $2::int8 AS product, repeat('☃', (n % 7)::int) AS snow"
        f" FROM generate_series(1, $1::int8) AS n -- {w.rng.randrange(20)}"
    )
    async with w.connection() as con, con.transaction(readonly=True):
        statement = await con.prepare(sql)
        first = await con.cursor(sql, sizes[0], factors[0])
        pair = first, await statement.cursor(sizes[1], factors[1])
        at, ended = [0, 0], [False, False]
        while not all(ended):
            i, count = w.rng.randrange(2), w.rng.randint(1, 50)
            last = min(at[i] + count, sizes[i])
            if w.rng.random() < 0.2:
                moved = await pair[i].forward(count)
            else:
                rows = await pair[i].fetch(count)
                check(rows, wanted(i, at[i] + 1, last), "rows of a cursor")
                moved = len(rows)
            check(moved, last - at[i], "rows that a cursor moved")
            at[i], ended[i] = last, moved < count
        leave, got = w.rng.randint(1, 2 * sizes[0]), []
        async for row in con.cursor(sql, sizes[0], factors[0], prefetch=w.rng.randint(2, 60)):
            got.append(row)
            if len(got) == leave:
                break
        check(got, wanted(0, 1, min(leave, sizes[0])), "rows of an iteration")


async def values(w):
    """Values of all types come back equal; a record is a tuple and a mapping."""
    names = w.rng.sample(list(TYPES), w.rng.randint(1, 12))
    want = [value(w.rng, name) for name in names]
    columns = ", ".join(f"${i + 1}::{name} AS v{i}" for i, name in enumerate(names))
    keys, index = [f"v{i}" for i in range(len(names))], w.rng.randrange(len(names))
    async with w.connection() as con:
        row = await con.fetchrow(f"SELECT {columns}", *want)
        check(row, tuple(want), f"values of the types {names}")
        check(list(row.items()), list(zip(keys, want, strict=True)), "items of a record")
        check([row[key] for key in keys], want, "values of a record by its keys")
        check((row[index], row[-1], row[1:]), (want[index], want[-1], (*want[1:],)), "by index")
        check((len(row), "v0" in row, row.get("w", 5)), (len(want), True, 5), "len, in and get")
        got = await con.fetchval(f"SELECT {columns}", *want, column=index)
        check(got, want[index], f"fetchval of {names[index]}")
        many = [(w.token(), n) for n in range(5)]
        got = await con.fetchmany("SELECT $1::text AS token, $2::int4 * 2 AS double", many)
        check(got, [(token, 2 * n) for token, n in many], "fetchmany")


async def bulk(w):
    """Rows of all types through executemany and COPY, in memory and in pieces, in each format."""
    owner, form, count = w.token(), w.rng.choice(("binary", "text", "csv")), w.rng.randint(1, 8)
    rows = [(owner, n, *(value(w.rng, name) for name in TYPES)) for n in range(count)]
    pieces = []

    async def take(piece):
        pieces.append(piece)

    async with w.connection() as con:
        if w.rng.random() < 0.5:
            marks = ", ".join(f"${i + 1}" for i in range(len(COLUMNS)))
            await con.executemany(f"INSERT INTO item VALUES ({marks})", rows)
        else:
            told = await con.copy_records_to_table("item", columns=COLUMNS, records=rows)
            check(told, f"COPY {count}", "status of copy_records_to_table")
        check(await con.fetch(ITEMS, owner), rows, "rows inserted")
        told = await con.copy_from_query(ITEMS, owner, output=take, format=form)
        check(told, f"COPY {count}", "status of copy_from_query")
        told = await con.execute("DELETE FROM item WHERE owner = $1", owner)
        check(told, f"DELETE {count}", "status of a DELETE")
        source = in_pieces(w.rng, b"".join(pieces))
        told = await con.copy_to_table("item", source=source, columns=COLUMNS, format=form)
        check(told, f"COPY {count}", "status of copy_to_table")
        check(await con.fetch(ITEMS, owner), rows, f"rows copied as {form}")
        keys = [(owner, n) for n in (count, count + 1, 0)]
        with contextlib.suppress(asyncpg.UniqueViolationError):
            await con.executemany("INSERT INTO item (owner, number) VALUES ($1, $2)", keys)
            raise Wrong("executemany wrote a key that is there already")
        left = await con.fetch("DELETE FROM item WHERE owner = $1 RETURNING number", owner)
        check(sorted(left), [(n,) for n in range(count)], "rows after executemany failed half-way")


def in_pieces(r, data):
    """The data as one of what copy_to_table takes."""
    if r.random() < 0.5:
        return io.BytesIO(data)

    async def pieces():
        at = 0
        while at < len(data):
            yield data[at : (at := at + r.randint(1, 5000))]
            await asyncio.sleep(0)

    return pieces()


async def copied_csv(w):
    """CSV that another reader takes apart; sometimes so long that reading pauses and goes on."""
    token, end, count = w.token(), ' "quoted", ☃\r\n ', w.rng.choice((3, 30, 30, 2000))
    query = "SELECT n, $1 || n || $2 AS word FROM generate_series(1, $3::int4) AS n"
    options = {"output": io.BytesIO(), "format": "csv", "header": True}
    told = await w.home.pool.copy_from_query(query, token, end, count, **options)
    check(told, f"COPY {count}", "status of copy_from_query")
    lines = io.StringIO(options["output"].getvalue().decode(), newline="")
    want = [[str(n), f"{token}{n}{end}"] for n in range(1, count + 1)]
    check(list(csv.reader(lines)), [["n", "word"], *want], "CSV")


async def records(w):
    """Rows read in the thread that fetched them, and at the same time in another."""
    token, count, width = w.token(), w.rng.randint(10, 150), w.rng.choice((2, 5, 25))
    columns = "".join(f", n * {i} AS c{i}" for i in range(2, width))
    query = f"SELECT n, $1 || n AS word{columns} FROM generate_series(1, $2::int4) AS n"
    rows = await w.home.pool.fetch(query, token, count)
    loop = asyncio.get_running_loop()
    elsewhere = loop.run_in_executor(w.run.helpers, examine, rows, token, count, width)
    examine(rows, token, count, width)
    del rows  # so the last reference may be the other thread's
    await elsewhere


def examine(rows, token, count, width):
    """Check rows in each way that a record can be read."""
    keys = ("n", "word", *(f"c{i}" for i in range(2, width)))
    check(len({*rows}), count, "different rows")
    for n, row in enumerate(rows, 1):
        want = (n, f"{token}{n}", *(n * i for i in range(2, width)))
        check((tuple(row), dict(row)), (want, dict(zip(keys, want, strict=True))), "row")
        check((row["word"], row[0], row[-1]), (want[1], n, want[-1]), "fields of a row")


async def notify(w):
    """Notifications to another thread or to all, each once and in order; see Home.hear."""
    channel = w.rng.choice(w.run.channels)
    async with w.connection() as con:
        pid, count = con.get_server_pid(), w.rng.randint(1, 4)
        with contextlib.suppress(Undo):
            async with con.transaction():
                await con.execute("SELECT pg_notify($1, $2)", channel, f"{w.name} -1 {pid}")
                raise Undo
        async with con.transaction():
            for n in range(w.sent[channel] + 1, w.sent[channel] + count + 1):
                await con.execute("SELECT pg_notify($1, $2)", channel, f"{w.name} {n} {pid}")
        w.sent[channel] += count


async def statements(w):
    """Many different statements, used in any order; what they say of themselves."""
    async with w.connection() as con:
        prepared = []
        for _ in range(w.rng.randint(2, 12)):
            n = w.rng.getrandbits(30)
            statement = await con.prepare(f"SELECT {n} AS a, $1::int8 + {n} AS b, $2::text AS c")
            prepared.append((n, statement))
        for n, statement in w.rng.sample(prepared, len(prepared)):
            token = w.token()
            check(await statement.fetch(5, token), [(n, n + 5, token)], "a prepared statement")
            parameters = [each.name for each in statement.get_parameters()]
            attributes = [(each.name, each.type.name) for each in statement.get_attributes()]
            check(statement.get_statusmsg(), "SELECT 1", "get_statusmsg")
            check(parameters, ["int8", "text"], "types of parameters")
            check(attributes, [("a", "int4"), ("b", "int8"), ("c", "text")], "attributes")
        number = w.rng.getrandbits(30)
        got = [await con.fetchval(f"SELECT {number + n}") for n in range(4)]
        check(got, [number + n for n in range(4)], "new statements")


async def new_types(w):
    """Types and tables that did not exist when the connection was made, and change under it.

    Not with a connection of the pool: it would drop the statements of the others, in use or not,
    which both releases do not stand, with the GIL too.
    """
    name = f"t_{w.token().replace('.', '_').replace(':', '_')}"
    want = [(w.rng.randint(0, 9), "ß", w.rng.randint(0, 2**60), several(w.rng, text)), None]
    async with w.apart() as con:
        await con.execute(
            f"CREATE TYPE {name}_e AS ENUM ('a', 'ß'); CREATE DOMAIN {name}_d AS int8;"
            f"CREATE TYPE {name} AS (x int4, e {name}_e, d {name}_d, many text[]);"
            f"CREATE TABLE {name}_t AS SELECT 1 AS a"
        )
        got = await con.fetchval(f"SELECT $1::{name}[]", want)
        check((got, got[0]["many"]), (want, want[0][3]), "an array of a new composite type")
        await con.set_type_codec("float8", schema="pg_catalog", encoder=str, decoder=str.encode)
        check(await con.fetchval("SELECT 1.5::float8"), b"1.5", "a codec of one's own")
        await con.reset_type_codec("float8", schema="pg_catalog")
        check(await con.fetchval("SELECT 1.5::float8"), 1.5, "the codec that was there before")
        check(await con.fetchrow(f"SELECT * FROM {name}_t"), (1,), "a row of a new table")
        await con.execute(f"ALTER TABLE {name}_t ADD b {name}_e DEFAULT 'a'")
        check(await con.fetchrow(f"SELECT * FROM {name}_t"), (1, "a"), "a row of the table changed")
        await con.execute(f"DROP TABLE {name}_t; DROP TYPE {name}, {name}_e; DROP DOMAIN {name}_d")


async def cancel(w):
    """Work is cancelled at any moment; the connection goes on and gives no stale answer."""
    if w.rng.random() < 0.2:
        token = w.token()
        await interrupt(w, w.home.pool.fetchval("SELECT $1 || '!'", token), f"{token}!")
    async with w.connection() as con:
        for _ in range(w.rng.randint(1, 3)):
            token, victim = w.token(), w.rng.choice(VICTIMS)
            await interrupt(w, victim(w, con, token), token)
            check(con.is_in_transaction(), False, "is_in_transaction after a cancellation")
            if w.rng.random() < 0.3:
                return
            token = w.token()  # slowly, so that a request to cancel that came late would hit it
            got = await con.fetchval("SELECT $1 || '!' FROM pg_sleep(0.003)", token)
            check(got, f"{token}!", "the answer after a cancellation")


async def interrupt(w, work, want):
    """Cancel the work; if it was done before that, then it must have been done right."""
    delay = w.rng.choice((0.0, w.rng.random() * 0.003, w.rng.random() * 0.02))
    try:
        if w.rng.random() < 0.5:
            got = await asyncio.wait_for(work, delay)
        else:
            task = asyncio.ensure_future(work)
            await asyncio.sleep(delay)
            task.cancel()
            got = await task
    except (TimeoutError, asyncio.CancelledError):
        return
    check(got, want, "the answer of what was done before it was cancelled")


async def sleeper(w, con, token):
    # A request to cancel that overtakes its query is for nothing, so the sleep must not be long.
    seconds = w.rng.choice((0.0, 0.004, 0.5))
    limit = w.rng.choice((None, 0.0001 + w.rng.random() * 0.01))
    return await con.fetchval("SELECT $1::text FROM pg_sleep($2)", token, seconds, timeout=limit)


async def script(w, con, token):
    await con.execute(f"SELECT pg_sleep({w.rng.random() * 0.01}); SELECT 1; SELECT 2")
    return token


async def preparing(w, con, token):
    statement = await con.prepare(f"SELECT $1::text, {w.rng.getrandbits(40)}")
    return await statement.fetchval(token)


async def repeated(w, con, token):
    await con.executemany("SELECT $1::int4, pg_sleep(0.0003)", [(n,) for n in range(40)])
    return token


async def connecting(w, con, token):
    async with w.apart() as another:
        return await another.fetchval("SELECT $1::text", token)


async def scrolling(w, con, token):
    async with con.transaction():
        rows = con.cursor("SELECT generate_series(1, 300)", prefetch=20)
        total = sum([row[0] async for row in rows])
    return token if total == 45150 else total


async def copying(w, con, token):
    async def pieces():
        for n in range(10):
            yield f"{token}\t{n}\n".encode()
            await asyncio.sleep(0.001)

    async with con.transaction():
        await con.copy_to_table("item", source=pieces(), columns=["owner", "number"])
        await con.execute("DELETE FROM item WHERE owner = $1", token)
    return token


async def exporting(w, con, token):
    pieces = []

    async def sink(data):
        pieces.append(data)
        await asyncio.sleep(0)

    query = "SELECT $1::text, repeat('x', 500) FROM generate_series(1, 200)"
    await con.copy_from_query(query, token, output=sink)
    return token if b"".join(pieces).count(token.encode()) == 200 else pieces


async def refusing(w, con, token):
    """A COPY whose data are refused, the first or the last, is over with that."""

    async def sink(data):
        if data.endswith(b"\n") or w.rng.random() < 0.5:
            raise Undo

    with contextlib.suppress(Undo):
        await con.copy_from_query("SELECT $1::text, repeat('x', 50000)", token, output=sink)
        raise Wrong("a COPY whose data were refused went on")
    return token


VICTIMS = (
    sleeper,
    script,
    preparing,
    repeated,
    connecting,
    scrolling,
    copying,
    exporting,
    refusing,
)


async def loss(w):
    """A connection is lost in the middle of a query; the pool replaces it, and undoes the rest."""
    token, told, ended = w.token(), asyncio.Event(), None
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid = $1 AND state = 'active' AND query LIKE '%pg_sleep(60)'"
    )
    try:
        async with w.connection() as con:
            pid = con.get_server_pid()
            con.add_termination_listener(lambda _con: told.set())
            async with con.transaction():
                await con.execute("INSERT INTO item (owner, number) VALUES ($1, 1)", token)
                query = asyncio.ensure_future(con.execute("SELECT pg_sleep(60)"))
                async with w.home.attention:
                    while not ended:
                        ended = await w.home.boss.fetchval(end, pid)
                await query
        raise Wrong("a connection whose server process was ended went on")
    except LOST:
        if not ended:
            raise
    await told.wait()
    async with w.connection() as con:
        left = await con.fetchval("SELECT count(*) FROM item WHERE owner = $1", token)
        check(left, 0, "rows of the transaction that was lost")


async def idle_loss(w):
    """A connection is lost between queries, or given back at that moment."""
    with contextlib.suppress(*LOST):
        async with w.connection() as con:
            pid = con.get_server_pid()
            async with w.home.attention:
                await w.home.boss.fetchval("SELECT pg_terminate_backend($1)", pid)
            for _ in range(w.rng.randrange(4)):
                await asyncio.sleep(0)
            if w.rng.random() < 0.5:
                await con.fetchval("SELECT 1")
    token = w.token()
    async with asyncio.timeout(PATIENCE):
        while True:  # a connection of the pool may be the one that is just being lost
            try:
                got = await w.home.pool.fetchval("SELECT $1::text", token)
            except asyncpg.ConnectionDoesNotExistError:
                continue
            return check(got, token, "the answer of the pool after a loss")


ERRORS = (
    ("SELEC 1", (), asyncpg.PostgresSyntaxError, "42601"),
    ("SELECT 1 / $1::int4", (0,), asyncpg.DivisionByZeroError, "22012"),
    ("INSERT INTO account VALUES (1, 0)", (), asyncpg.UniqueViolationError, "23505"),
    ("INSERT INTO part VALUES (-1)", (), asyncpg.ForeignKeyViolationError, "23503"),
    ("INSERT INTO item VALUES ('x')", (), asyncpg.NotNullViolationError, "23502"),
    ("INSERT INTO item VALUES ('x', -1)", (), asyncpg.CheckViolationError, "23514"),
    ("SELECT * FROM nowhere", (), asyncpg.UndefinedTableError, "42P01"),
    ("SELECT $1::text::int4", ("x",), asyncpg.InvalidTextRepresentationError, "22P02"),
    ("SELECT $1::int4", ("x",), asyncpg.DataError, None),
    ("SELECT $1::int4", (2**31,), asyncpg.DataError, None),
    ("SELECT $1::int4", (1, 2), asyncpg.InterfaceError, None),
)


async def errors(w):
    """Errors are of the right class, in and outside transactions, and harm nothing else."""
    sql, arguments, kind, state = w.rng.choice(ERRORS)
    within = w.rng.random() < 0.5
    async with w.connection() as con:
        with contextlib.suppress(Undo):
            async with con.transaction() if within else contextlib.nullcontext():
                raised = None
                try:
                    await con.fetch(sql, *arguments)
                except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    raised = error
                check(type(raised), kind, f"the exception of {sql} with {arguments}")
                check(state and raised.sqlstate, state, f"the SQLSTATE of {sql}")
                if kind is asyncpg.UniqueViolationError:
                    names = raised.table_name, raised.constraint_name
                    check(names, ("account", "account_pkey"), "what a constraint's error names")
                if within and state:
                    with contextlib.suppress(asyncpg.InFailedSQLTransactionError):
                        await con.fetchval("SELECT 1")
                        raise Wrong("a transaction goes on after an error")
                raise Undo
        token = w.token()
        check(await con.fetchval("SELECT $1::text", token), token, "the answer after an error")


async def pools(w):
    """A pool that comes and goes, with records of one's own; its connections are replaced often."""
    size, tokens = w.rng.randint(1, 2), [w.token() for _ in range(8)]
    options = {"max_queries": 3, "record_class": Row, "statement_cache_size": w.rng.choice((0, 3))}
    pool = asyncpg.create_pool(**w.run.server, min_size=0, max_size=size, **options)
    async with pool:
        ask = (pool.fetchrow("SELECT $1::text AS token", token) for token in tokens)
        rows = await asyncio.gather(*ask)
        check([(type(row), row.token) for row in rows], [(Row, t) for t in tokens], "rows")
        await pool.expire_connections()
        check(await pool.fetchval("SELECT 'again'"), "again", "the answer of an expired pool")
        check(pool.get_size() <= size, True, f"no more than {size} connections")


# How often each kind is drawn, in proportion.
KINDS = {
    ledger: 14,
    values: 14,
    statements: 12,
    notify: 10,
    errors: 10,
    session: 6,
    cursors: 6,
    records: 6,
    cancel: 6,
    bulk: 4,
    copied_csv: 4,
    pools: 1,
    new_types: 1,
    loss: 1,
    idle_loss: 1,
}


# -------------------------------------------------------------------------------- threads and loops


class Worker:
    """One task of a loop, which does one piece of work after the other."""

    def __init__(self, home, number):
        self.home, self.run = home, home.run
        self.name = f"{home.number}.{number}"
        self.rng = random.Random(f"{self.run.seed} {self.name}")
        self.numbers, self.tokens = itertools.count(1), itertools.count(1)
        self.committed, self.uncertain = set(), set()  # entries of the ledger
        self.sent, self.done = Counter(), Counter()
        self.busy = None  # with what, since when

    def token(self):
        """A text that no other piece of work has."""
        return f"{self.name}:{next(self.tokens)}"

    @contextlib.asynccontextmanager
    async def connection(self):
        """A connection of the pool, which nobody else may have at the same time."""
        async with self.home.pool.acquire() as con:
            pid = con.get_server_pid()
            check(self.home.held.get(pid), None, "who else has this connection")
            check(con.is_in_transaction(), False, "is_in_transaction of a connection from the pool")
            self.home.held[pid] = self.name
            try:
                yield con
            finally:
                del self.home.held[pid]

    @contextlib.asynccontextmanager
    async def apart(self, **options):
        """A connection of one's own."""
        con = await asyncpg.connect(**self.run.server, **options)
        try:
            yield con
            await con.close()
        finally:
            con.terminate()

    async def work(self):
        kinds, weights = list(KINDS), list(KINDS.values())
        while not self.run.over():
            (kind,) = self.rng.choices(kinds, weights)
            self.busy = kind.__name__, time.monotonic()
            try:
                await kind(self)
            except Exception as error:
                self.run.fail(error, f"{kind.__name__} of worker {self.name}, after {self.done}")
            self.done[kind.__name__] += 1
        self.busy = None


class Home:
    """A thread: its loop, its pool, and what its workers share."""

    def __init__(self, run, number):
        self.run, self.number = run, number
        self.workers = [Worker(self, n) for n in range(WORKERS)]
        self.tasks, self.done = [], False
        self.held = {}  # pid of a connection that is in use: name of the worker
        self.net = Counter()  # account: what the settled entries have brought it
        self.heard, self.order = Counter(), 0
        self.thread = threading.Thread(target=self.main, name=f"home {number}", daemon=True)

    def main(self):
        try:
            asyncio.run(self.live())
        except BaseException as error:
            self.run.start.abort()
            self.run.fail(error, f"thread {self.number}")

    def hear(self, con, pid, channel, payload):
        """Check that a notification is the next one of its sender."""
        name, number, sender = payload.split()
        self.heard[name, channel] += 1
        if channel == self.run.channels[-1]:
            self.order = zlib.crc32(payload.encode(), self.order)
        try:
            check((int(number), int(sender)), (self.heard[name, channel], pid), "notification")
        except Wrong as error:
            self.run.fail(error, f"listener {self.number}, of {payload!r} on {channel}")

    def stray(self, loop, context):
        """Take note of what went wrong in a callback, or in a task that nobody awaited."""
        error = context.get("exception")
        # 0.31.0 leaves such a future behind when connecting is cancelled, with the GIL too.
        if "never retrieved" not in context["message"] or not isinstance(error, LOST):
            self.run.fail(error, f"thread {self.number}: {context['message']}")

    async def live(self):
        asyncio.get_running_loop().set_exception_handler(self.stray)
        self.attention = asyncio.Lock()
        self.boss = await asyncpg.connect(**self.run.server)  # ends other connections
        ear = await asyncpg.connect(**self.run.server)
        options = {
            "min_size": 1,
            "max_size": POOL,
            "max_queries": 500,
            "max_inactive_connection_lifetime": 1,
            "statement_cache_size": (20, 100)[self.number % 2],
        }
        self.pool = await asyncpg.create_pool(**self.run.server, **options, init=initialise)
        for channel in (self.run.channels[self.number], self.run.channels[-1]):
            await ear.add_listener(channel, self.hear)
        self.run.start.wait(PATIENCE)
        self.tasks = [asyncio.create_task(worker.work()) for worker in self.workers]
        await asyncio.gather(*self.tasks)
        self.done = True
        while not all(home.done for home in self.run.homes) and not self.run.failures:
            await asyncio.sleep(0.01)
        if not self.run.failures:
            await self.finish()
            await self.pool.close()
        self.pool.terminate()
        ear.terminate()
        self.boss.terminate()

    async def finish(self):
        """Check that all entries are there, all notifications came, and no connection is lost."""
        for worker in self.workers:
            await settle(worker)
        workers = [worker for home in self.run.homes for worker in home.workers]
        channels = self.run.channels[self.number], self.run.channels[-1]
        want = Counter({(w.name, c): w.sent[c] for w in workers for c in channels if w.sent[c]})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE / 3):
                while self.heard != want:
                    await asyncio.sleep(0.01)
        check(self.heard, want, "numbers of notifications by sender and channel")
        taken = []
        with contextlib.suppress(TimeoutError):
            for _ in range(POOL):
                taken.append(await self.pool.acquire(timeout=PATIENCE / 3))
        check(len(taken), POOL, "connections that the pool can give at the end")
        gc.collect()
        for con in taken:
            check(await forgotten(con), set(), "statements that only the server knows")
            await self.pool.release(con)


async def forgotten(con):
    """Names of prepared statements that the connection has forgotten, and the server keeps."""
    await con.prepare("SELECT 'so that it closes those that it does not need'")
    rows = await con.fetch("SELECT name FROM pg_prepared_statements")
    known = {*con._stmt_cache.iter_statements(), *con._stmts_to_close}
    return {row["name"] for row in rows} - {statement.name for statement in known}


class Run:
    """What all threads share."""

    def __init__(self, dsn, seconds):
        self.seed = os.environ.get("FREEWHEEL_STRESS_SEED") or secrets.token_hex(4)
        self.schema = f"stress_{os.getpid()}_{secrets.token_hex(6)}"
        settings = {"application_name": self.schema, "search_path": self.schema}
        # Giving up a connection while it negotiates TLS makes 0.31.0 raise, with the GIL too.
        self.server = {"dsn": dsn, "server_settings": settings, "ssl": False}
        # One channel for each thread, and the last one for all.
        self.channels = [f"{self.schema}_{n}" for n in (*range(THREADS), "all")]
        self.helpers = ThreadPoolExecutor(2)
        self.start = threading.Barrier(THREADS)
        self.lock, self.failures = threading.Lock(), []
        self.homes = [Home(self, number) for number in range(THREADS)]
        self.seconds, self.began = seconds, time.monotonic()

    def over(self):
        return bool(self.failures) or time.monotonic() >= self.began + self.seconds

    def fail(self, error, where, code=None):
        """Keep the failures, of which the first decides how the run ends, and say the first."""
        code = code or (WRONG if isinstance(error, Wrong) else EXCEPTION)
        with self.lock:
            self.failures.append(code)
            if len(self.failures) <= 3:
                print(f"FAILED (seed {self.seed}, {self.schema}): {where}")
                if isinstance(error, BaseException):
                    print("".join(traceback.format_exception(error)), flush=True)

    async def prepare(self):
        """Make the schema; without a server there is no run."""
        try:
            con = await asyncpg.connect(**self.server)
        except (OSError, asyncpg.PostgresError) as error:
            print(f"could not run: {error!r}")
            sys.exit(NOT_RUN)
        await con.execute(f"CREATE SCHEMA {self.schema};{TABLES}")
        await con.close()

    async def verify(self):
        """Check what the threads left on the server, and what they heard."""
        con = await asyncpg.connect(**self.server)
        balances = await con.fetch("SELECT id, balance FROM account ORDER BY id")
        nets = [(n, sum(home.net[n] for home in self.homes)) for n in range(1, ACCOUNTS + 1)]
        check(balances, [(n, OPENING + net) for n, net in nets], "balances")
        left = await con.fetchval("SELECT (SELECT count(*) FROM entry) + count(*) FROM item")
        check(left, 0, "rows left behind")
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE / 3):
                while await con.fetchval(query, self.schema) > 1:
                    await asyncio.sleep(0.05)
        check(await con.fetchval(query, self.schema), 1, "connections at the end")
        await con.close()
        orders = {home.order for home in self.homes}
        check(len(orders), 1, "orders in which the threads heard what was meant for all")

    async def clear(self):
        con = await asyncpg.connect(**self.server)
        await con.execute(f"SET lock_timeout = '9s'; DROP SCHEMA {self.schema} CASCADE")
        await con.close()

    async def visit(self):
        """Fetch a few rows in a thread that ends soon."""
        con = await asyncpg.connect(**self.server)
        rows = await con.fetch("SELECT n, $1::text || n AS word FROM generate_series(1, 9) n", "v")
        check(rows, [(n, f"v{n}") for n in range(1, 10)], "rows of a visitor")
        await con.close()

    def visitor(self):
        try:
            asyncio.run(self.visit())
        except Exception as error:
            self.fail(error, "a short-lived thread")


# --------------------------------------------------------------------------------- the main thread


def resident():
    """Resident memory in MiB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(samples):
    """By how many MiB memory grew after the warm-up, which is the first third.

    The medians of the sixth that follows it and of the last sixth are compared. Caches and free
    lists are still filling up then: this was 19 at most, with four threads and with eight, in
    runs of 8 and 60 seconds; over the last 270 of 400 seconds it was 0. SLACK allows for more.
    """
    sixth = max(1, len(samples) // 6)
    return statistics.median(samples[-sixth:]) - statistics.median(samples[2 * sixth : 3 * sixth])


def oversee(run):
    """Collect garbage, start visitors, and measure memory until all threads are done."""
    samples, visitors, last = [], [], None
    for home in run.homes:
        home.thread.start()
    while any(home.thread.is_alive() for home in run.homes):
        time.sleep(0.05)
        now = time.monotonic()
        share = (now - run.began) / run.seconds
        if not run.over():
            if len(visitors) < VISITORS * share:
                visitors.append(threading.Thread(target=run.visitor, daemon=True))
                visitors[-1].start()
            if len(samples) < SAMPLES * share:
                gc.collect()
                samples.append(resident())
        last = last or (run.over() and now)
        # Each `busy` is read once only: its worker may set it at any time.
        all_busy = [(worker.name, worker.busy) for home in run.homes for worker in home.workers]
        stuck = [(name, busy) for name, busy in all_busy if busy and now - busy[1] > PATIENCE]
        if stuck or (last and now - last > PATIENCE):
            hang(run, stuck)
    for visitor in visitors:
        visitor.join(PATIENCE)
        if visitor.is_alive():
            hang(run, [])
    return samples


def hang(run, stuck):
    """Say where everything stands, and end the process: there is no other way to end it."""
    for name, (kind, _) in stuck:
        print(f"HANG: {kind} of worker {name} for more than {PATIENCE} s")
    print(f"HANG: seed {run.seed}; {run.schema} is left on the server", flush=True)
    for task in (task for home in run.homes for task in home.tasks):
        with contextlib.suppress(Exception):
            print(asyncio.format_call_graph(task), flush=True)
    faulthandler.dump_traceback(all_threads=True)
    os._exit(run.failures[0] if run.failures else HANG)


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn or sys._is_gil_enabled():
        print("could not run:", "the GIL is on" if dsn else "FREEWHEEL_POSTGRES_DSN is not set")
        return NOT_RUN
    run = Run(dsn, float(sys.argv[1]))
    print(f"asyncpg {asyncpg.__version__}, {THREADS} threads, seed {run.seed}", flush=True)
    asyncio.run(run.prepare())
    samples = oversee(run)
    run.helpers.shutdown()
    try:
        if not run.failures:
            asyncio.run(run.verify())
        asyncio.run(run.clear())
    except Exception as error:
        run.fail(error, "at the end")
    if sys._is_gil_enabled():
        run.fail(None, "the GIL has been turned on", WRONG)
    done = sum((worker.done for home in run.homes for worker in home.workers), Counter())
    print(f"{done.total()} pieces of work:", ", ".join(f"{n} {kind}" for kind, n in done.items()))
    if not any(samples):
        print("memory was not measured: there is no /proc/self/statm")
    elif not run.failures:
        grown = growth(samples)
        told = f"memory: {max(samples):.0f} MiB at most, {grown:+.1f} after the warm-up"
        print(told)
        if grown > SLACK:
            run.fail(None, f"{told}: {[round(each) for each in samples]}", LEAK)
    return run.failures[0] if run.failures else PASS


if __name__ == "__main__":
    sys.exit(main())
