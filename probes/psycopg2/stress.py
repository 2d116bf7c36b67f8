# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.stress]
# title = "connections of each thread and one of all: rows, COPY, encodings, large objects, types"
# use = "supported"
# needs = ["postgresql"]
# work = { quick = 5, full = 60 }
# seconds = 60
# exclusive = true
# ///
"""What applications do with psycopg2, in four threads at once.

Each thread has a connection of its own, and all of them share another one, with a cursor for each
piece of work. Every answer is checked. Some sessions are ended by the server, or canceled.

    python src/freewheel/proof/load.py probes/psycopg2/stress.py SECONDS

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import datetime as dt
import decimal
import io
import itertools
import json
import os
import sys
import threading
import uuid

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
from load import expect

PACKAGE = psycopg2
SLACK = {"MiB resident": 48}  # what libraries have for a while

if not (DSN := os.environ.get("FREEWHEEL_POSTGRES_DSN")):
    print("not run: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
    sys.exit(77)

own = threading.local()
numbers = itertools.count()
PIXEL = psycopg2.Binary(b"pixel \x00\xff")
ROWS = 300
TEXT = "é ü ß 'quoted' \\ "


def connect():
    connection = psycopg2.connect(DSN)
    connection.autocommit = True
    return connection


def prepare():
    psycopg2.extras.register_uuid()


shared = connect()
shared.cursor().execute("CREATE TEMP TABLE stress_copy (worker int, number int, text text)")


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
        TEXT * worker.random.randrange(5),
        decimal.Decimal(worker.random.randrange(10**9)) / 1000,
        dt.date.fromordinal(worker.random.randrange(1, 700_000)),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(worker.random.random() * 900),
        uuid.UUID(int=worker.random.getrandbits(128)),
        [worker.random.randrange(100) for _ in range(5)],
        None,
        True,
    )
    with either(worker).cursor() as cursor:
        cursor.execute("SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s", row)
        expect("the row", row, cursor.fetchone())
    return 1


def rows(worker):
    """Many rows, by each way of fetching."""
    start = worker.random.randrange(1000)
    with either(worker).cursor() as cursor:
        cursor.execute(
            "SELECT n, repeat('x', n %% 50), n * 1.5 FROM generate_series(%s, %s) n",
            (start, start + ROWS - 1),
        )
        got = [cursor.fetchone(), *cursor.fetchmany(20), *itertools.islice(cursor, 20)]
        got += cursor.fetchall()
    wanted = [(n, "x" * (n % 50), n * decimal.Decimal("1.5")) for n in range(start, start + ROWS)]
    expect("the rows", wanted, got)
    return ROWS


def copies(worker):
    """COPY in and out, while others use the shared connection."""
    number = next(numbers)
    wanted = "".join(f"{number}\t{n}\t{n * 7} text\n" for n in range(ROWS))
    with shared.cursor() as cursor:
        cursor.copy_from(io.StringIO(wanted), "stress_copy")
        expect("the rows that were copied", ROWS, cursor.rowcount)
        file = io.StringIO()
        rows_of_mine = cursor.mogrify("SELECT * FROM stress_copy WHERE worker = %s", (number,))
        cursor.copy_expert(b"COPY (%b ORDER BY number) TO STDOUT" % rows_of_mine, file)
        expect("what COPY gave", wanted, file.getvalue())
        cursor.execute("DELETE FROM stress_copy WHERE worker = %s", (number,))
        expect("the rows that were deleted", ROWS, cursor.rowcount)
    return 2 * ROWS


def encodings(worker):
    """Texts on the shared connection while its encoding changes."""
    if worker.random.randrange(4) == 0:
        shared.set_client_encoding(worker.random.choice(("UTF8", "WIN1252", "LATIN1")))
    with shared.cursor() as cursor:
        cursor.execute("SELECT %s, length(%s), %s", (TEXT, TEXT, PIXEL))
        text, length, pixel = cursor.fetchone()
    expect("the text", (TEXT, len(TEXT), b"pixel \x00\xff"), (text, length, bytes(pixel)))
    expect("a known encoding", True, shared.encoding in {"UTF8", "WIN1252", "LATIN1"})
    return 1


def errors(worker):
    """Each its own error."""
    number = worker.random.randrange(1000)
    with either(worker).cursor() as cursor:
        try:
            cursor.execute("SELECT CAST(%s AS int)", (f"no number {number}",))
            expect("an error", None, "none")
        except psycopg2.errors.InvalidTextRepresentation as error:
            expect("its text", True, f'"no number {number}"' in error.diag.message_primary)
    return 1


def transactions(worker):
    """A transaction of this thread's own connection, a named cursor and a large object in it."""
    connection = psycopg2.connect(DSN)
    with connection, connection.cursor("named") as cursor:
        cursor.itersize = 50
        cursor.execute("SELECT generate_series(1, 200)")
        expect("the sum of the rows", 20100, sum(number for (number,) in cursor))
        large = connection.lobject(0, "wb")
        data = worker.random.randbytes(20_000)
        large.write(data)
        large.seek(0)
        expect("the large object", data, large.read())
        large.unlink()
    connection.close()
    return 1


def registrations(worker):
    """What a worker registers when it begins, and types that only a connection has."""
    psycopg2.extras.register_default_json(globally=True, loads=json.loads)
    psycopg2.extensions.register_adapter(dict, psycopg2.extras.Json)
    value = {"n": worker.random.randrange(100)}
    with either(worker).cursor() as cursor:
        cursor.execute("SELECT %s::json", (value,))
        expect("the JSON", (value,), cursor.fetchone())
    return 1


def looks(worker):
    """What is known about a connection, and notices, while others use it."""
    expect("a number", True, shared.get_backend_pid() > 0 and shared.fileno() >= 0)
    expect("a text", True, shared.get_parameter_status("TimeZone") is not None)
    expect("the user", "postgres", shared.info.user)
    shared.notices = []
    with shared.cursor() as cursor:
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'one'; END $$")
    expect("notices", True, all(isinstance(text, str) for text in list(shared.notices)))
    return 1


def endings(worker):
    """Sessions that the server ends, that are canceled, and that are closed by others."""
    connection = connect()
    way = worker.random.choice(("end", "cancel", "close"))
    pid = connection.get_backend_pid()

    def stop():
        if way == "close":
            connection.close()
            return
        with mine_of_stopper.cursor() as cursor:
            if way == "end":
                cursor.execute("SELECT pg_terminate_backend(%s)", (pid,))
        if way == "cancel":
            connection.cancel()

    mine_of_stopper = mine()
    thread = threading.Thread(target=stop)
    try:
        with connection.cursor() as cursor:
            thread.start()
            for number in range(3):
                cursor.execute("SELECT %s, pg_sleep(0.002)::text", (number,))
                expect("the row", (number, ""), cursor.fetchone())
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        pass
    thread.join()
    connection.close()
    return 1


KINDS = [
    values,
    rows,
    copies,
    encodings,
    errors,
    transactions,
    registrations,
    looks,
    endings,
]
