# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P14"
# title = "values come out as other ones without an error"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "each value comes out equal, or an error says what does not fit"
# fails-by = ["wrong answer"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P14: values come out as other ones without an error.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    an interval of 12,000,000 years is 85,032,704 days; the offset of a time is without its
            seconds; a pg_lsn is negative; in another client encoding than UTF-8, a query
            has other letters; a date in winter, sent as a timestamptz in summer, is an hour off.
Cause:      sums and casts in C integers that are too small; a division that truncates; queries
            and errors are in UTF-8, whatever the client encoding is. The start of a day is taken in
            today's offset from UTC.

Shows:      such values, each of which the server has as text, too.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import datetime as dt
import os
import sys
import time
from datetime import timedelta, timezone

WRONG, NOT_RUN = 3, 77


class Duration:
    """What other libraries have for durations: it has days, and more than that."""

    days, seconds, microseconds, months = 1, 0, 0, 5


def offset(**words):
    return dt.time(1, 2, 3, tzinfo=timezone(timedelta(**words)))


RECEIVED = {
    "'12000000 years'::interval": None,
    "'-178000000 years'::interval": None,
    "'2000000 years 1 month'::interval": timedelta(days=730000030),
    "'-1 month -3 days -0.5 sec'::interval": timedelta(days=-33, microseconds=-500000),
    "'01:02:03+00:00:30'::timetz": offset(seconds=30),
    "'01:02:03-15:59:59'::timetz": offset(seconds=-57599),
    "'FFFFFFFF/FFFFFFFE'::pg_lsn": 2**64 - 2,
    "'24:00:00'::time": None,
    "'294276-01-01'::timestamp": None,
    "'4713-01-01 BC'::date": None,
}
SENT = [
    ("interval", timedelta(days=999999999), "999999999 days"),
    ("interval", Duration(), None),
    ("timetz", offset(seconds=-3661), "01:02:03-01:01:01"),
    ("timetz", offset(seconds=3661, microseconds=5), None),
    ("float4", 1e-60, None),
    ("pg_lsn", 2**64 - 1, "FFFFFFFF/FFFFFFFF"),
]


async def receive(connection, problems):
    for expression, right in RECEIVED.items():
        try:
            got = await connection.fetchval(f"SELECT {expression}")
        except (OverflowError, ValueError) as error:
            got = error
        if not isinstance(got, Exception) if right is None else got != right:
            problems.append(f"{expression} is {got!r}")
        elif hasattr(right, "tzinfo") and got.utcoffset() != right.utcoffset():
            problems.append(f"{expression} has the offset {got.utcoffset()}")


async def send(asyncpg, connection, problems):
    for kind, value, right in SENT:
        try:
            got = await connection.fetchval(f"SELECT $1::{kind}::text", value)
        except (asyncpg.DataError, asyncpg.InterfaceError, ValueError) as error:
            got = error
        if not isinstance(got, Exception) if right is None else got != right:
            problems.append(f"{value!r} as {kind} is {got!r}")


async def send_dates(connection, problems):
    """A date as a point in time is the start of that day here, with the offset of that day."""
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    for day, utc in (
        (dt.date(2026, 1, 15), "2026-01-14 23"),
        (dt.date(2026, 7, 15), "2026-07-14 22"),
    ):
        query = "SELECT to_char($1::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')"
        got = await connection.fetchval(query, day)
        if got != utc:
            problems.append(f"{day!r} as timestamptz is {got} UTC")


async def encode(asyncpg, connection, problems):
    """Letters in another client encoding: in values, in queries and in errors."""
    await connection.execute("SET client_encoding TO 'latin1'")
    if await connection.fetchval("SELECT 'é'") != "é":
        problems.append("a query has other letters")
    if await connection.fetchval("SELECT $1::text", "é") != "é":
        problems.append("a value has other letters")
    try:
        await connection.execute('SELECT "é"')
    except asyncpg.UndefinedColumnError as error:
        if "é" not in str(error):
            problems.append(f"an error has other letters: {error}")
    except Exception as error:
        problems.append(f"an error is {error!r}")
    try:
        await connection.fetchval("SELECT '\u20ac'")
        problems.append("a letter is sent that is not in the encoding")
    except UnicodeEncodeError:
        pass
    if connection.is_closed():
        problems.append("the connection is closed")


async def check(asyncpg, dsn):
    problems = []
    connection = await asyncpg.connect(dsn)
    await receive(connection, problems)
    await send(asyncpg, connection, problems)
    await send_dates(connection, problems)
    await encode(asyncpg, connection, problems)
    connection.terminate()
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P14: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P14: {problem}"[:200])
    print(f"P14: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
