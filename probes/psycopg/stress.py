# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg==3.3.9"]
#
# [tool.freewheel.stress]
# title = "connections of each thread and one of all: rows, COPY, pipelines, streams, registrations"
# use = "supported"
# needs = ["postgresql"]
# work = { quick = 5, full = 60 }
# seconds = 60
# exclusive = true
# ///
"""What applications do with psycopg, in four threads at once.

Each thread has a connection of its own, and all of them share another one, with a cursor for each
piece of work. Every answer is checked. This is the implementation in Python, which calls libpq by
ctypes.

    python src/freewheel/proof/load.py probes/psycopg/stress.py SECONDS

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import datetime as dt
import decimal
import itertools
import os
import sys
import threading
import uuid

os.environ["PSYCOPG_IMPL"] = "python"  # the proof is about this one

import psycopg
from load import expect
from psycopg.adapt import Dumper

PACKAGE = psycopg
SLACK = {"MiB resident": 48}  # what libraries have for a while

if not (DSN := os.environ.get("FREEWHEEL_POSTGRES_DSN")):
    print("not run: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
    sys.exit(77)

own = threading.local()
numbers = itertools.count()
ROWS = 50


class Point:
    pass


class PointDumper(Dumper):
    def dump(self, obj):
        return b"(1,2)"


def connect():
    return psycopg.connect(DSN, autocommit=True)


shared = connect()
shared.execute("CREATE TEMP TABLE stress (worker int, number int)")


def mine():
    if not hasattr(own, "connection"):
        own.connection = connect()
    return own.connection


def either(worker):
    return worker.random.choice((mine(), shared))


# ----------------------------------------------------------------------------- the kinds of work


def values(worker):
    """Values of many types, there and back."""
    row = (
        worker.random.randrange(-(2**40), 2**40),
        "é ü ß 'quoted' \\ " * worker.random.randrange(5),
        decimal.Decimal(worker.random.randrange(10**9)) / 1000,
        dt.datetime(2026, 1, 1) + dt.timedelta(worker.random.randrange(900), 3),  # noqa: DTZ001
        uuid.UUID(int=worker.random.getrandbits(128)),
        None,
        True,
    )
    cursor = either(worker).execute(
        "SELECT %s::bigint, %s::text, %s::numeric, %s::timestamp, %s::uuid, %s::int, %s::bool", row
    )
    expect("the row", row, cursor.fetchone())
    return 1


def rows(worker):
    """Many rows, at once or one after the other."""
    start = worker.random.randrange(1000)
    query = "SELECT n, n * 7 FROM generate_series(%s::int, %s::int) n"
    bounds = (start, start + ROWS - 1)
    if worker.random.randrange(2):
        # On a connection for this alone: libpq 15 keeps single rows for what comes next.
        if not hasattr(own, "streaming"):
            own.streaming = connect()
        got = list(own.streaming.cursor().stream(query, bounds))
    else:
        got = either(worker).execute(query, bounds).fetchall()
    expect("the rows", [(n, n * 7) for n in range(start, start + ROWS)], got)
    return ROWS


def copies(worker):
    """COPY in, executemany() and what is there then, on the shared connection."""
    number = next(numbers)
    with shared.cursor() as cursor:
        with cursor.copy("COPY stress FROM STDIN") as copy:
            for n in range(ROWS):
                copy.write_row((number, n))
        insert = "INSERT INTO stress VALUES (%s, %s)"
        cursor.executemany(insert, [(number, n) for n in range(ROWS, ROWS + 10)])
        cursor.execute("SELECT number FROM stress WHERE worker = %s ORDER BY number", (number,))
        expect("what is there", [(n,) for n in range(ROWS + 10)], cursor.fetchall())
        cursor.execute("DELETE FROM stress WHERE worker = %s", (number,))
        expect("the rows that were deleted", ROWS + 10, cursor.rowcount)
    return ROWS


def pipelines(worker):
    """Several queries at once."""
    connection = either(worker)
    asked = [worker.random.randrange(1000) for _ in range(5)]
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (number,)) for number in asked]
    expect("the answers", asked, [cursor.fetchone()[0] for cursor in cursors])
    return len(asked)


def transactions(worker):
    """A transaction, one in it, and what is undone."""
    connection = mine()
    with connection.transaction():
        connection.execute("CREATE TEMP TABLE undone (number int)")
        with connection.transaction(force_rollback=True):
            connection.execute("INSERT INTO undone VALUES (1)")
        expect("no row", (0,), connection.execute("SELECT count(*) FROM undone").fetchone())
        connection.execute("DROP TABLE undone")
    return 1


def registrations(worker):
    """Types of the program and of a connection."""
    psycopg.adapters.register_dumper(Point, PointDumper)
    with connect() as connection:
        expect(
            "the point", ("(1,2)",), connection.execute("SELECT %s::text", (Point(),)).fetchone()
        )
    return 1


KINDS = [values, rows, copies, pipelines, transactions, registrations]
