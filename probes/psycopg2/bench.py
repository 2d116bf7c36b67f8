# /// script
# requires-python = ">=3.9"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.benchmark]
# title = "rows, statements and COPY, with a connection per worker"
# use = "supported"
# needs = ["postgresql"]
# seconds = 30
# [tool.freewheel.benchmark.cases]
# ints = "a row of 4 ints, fetched with 999 others"
# texts = "a row of 2 texts, fetched with 999 others"
# dates = "a row of a date, a timestamp and one with a time zone, fetched with 999 others"
# numerics = "a row of 2 numerics, fetched with 999 others"
# uuids = "a row of a UUID, fetched with 999 others"
# one_by_one = "a row of an int, by iteration over the cursor"
# query = "a query with 3 parameters, and its row"
# many = "a row of 3 values, sent with executemany()"
# copy_in = "a row of an int and a text, sent by COPY"
# copy_out = "a row of an int and a text, received by COPY"
# ///
# ruff: noqa: S608  no text here comes from outside
"""What psycopg2 costs. `nox -s bench -- psycopg2` measures it.

The server wants its share of the processors: compare wheels by the processor time of the client.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import io
import os

import psycopg2
import psycopg2.extras

ROWS = 1000
psycopg2.extras.register_uuid()


def _cursor():
    connection = psycopg2.connect(os.environ["FREEWHEEL_POSTGRES_DSN"])
    connection.autocommit = True
    return connection.cursor()


def _rows(columns):
    cursor = _cursor()
    while True:
        cursor.execute(f"SELECT {columns} FROM generate_series(1, {ROWS}) n")
        yield len(cursor.fetchall())


def ints():
    return _rows("n, n, n, n")


def texts():
    return _rows("md5(n::text), repeat('a', n % 40)")


def dates():
    return _rows("'2026-11-25'::date, now()::timestamp, now()")


def numerics():
    return _rows("n / 7.0, n * 1.5")


def uuids():
    return _rows("md5(n::text)::uuid")


def one_by_one():
    cursor = _cursor()
    while True:
        cursor.execute(f"SELECT generate_series(1, {ROWS})")
        yield sum(1 for _ in cursor)


def query():
    cursor = _cursor()
    while True:
        cursor.execute("SELECT %s, %s, %s", (1, "text", 2.5))
        cursor.fetchone()
        yield 1


def _table():
    cursor = _cursor()
    cursor.execute("CREATE TEMP TABLE bench (number int, text text, float float8)")
    return cursor


def many():
    cursor = _table()
    rows = [(number, f"text {number}", number / 7) for number in range(100)]
    while True:
        cursor.executemany("INSERT INTO bench VALUES (%s, %s, %s)", rows)
        cursor.execute("TRUNCATE bench")
        yield len(rows)


def copy_in():
    cursor = _table()
    text = "".join(f"{number}\ttext {number}\n" for number in range(ROWS))
    while True:
        cursor.copy_from(io.StringIO(text), "bench", columns=("number", "text"))
        cursor.execute("TRUNCATE bench")
        yield ROWS


def copy_out():
    cursor = _cursor()
    statement = f"COPY (SELECT n, 'text ' || n FROM generate_series(1, {ROWS}) n) TO STDOUT"
    while True:
        cursor.copy_expert(statement, io.StringIO())
        yield ROWS
