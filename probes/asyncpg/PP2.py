# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "PP2"
# title = "threads that decode dates and numerics take turns to count references to constants"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "no value is made of a constant that exists once in a process"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# needs = ["postgresql"]
# ///
"""PP2: threads that decode dates and numerics take turns to count references to constants.

Releases:   asyncpg 0.31.0 and 0.32.0, without the GIL.
Use:        a loop and a connection per thread, and each fetches rows with dates or numerics.
Symptom:    two threads decode fewer rows than two processes do.
Cause:      for each value, the compiled module looks up what it makes it of: the datetime from
            which PostgreSQL counts, the types timedelta and Decimal, a method of date. These are
            in the module, once for all threads. A reference to each is counted and dropped again,
            with atomic operations on memory that has to move from processor to processor.

Shows:      the look-ups, not the time that they take. Something that raises is put where the
            module keeps such a constant, and a row with a value of each type is fetched: it is the
            same as before, unless one of them was looked up. One is replaced at a time.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import os
import sys

import asyncpg
from asyncpg.pgproto import pgproto

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
QUERY = """SELECT '2026-11-25 12:00:01.5'::timestamp, '1969-07-20 20:17:40+00'::timestamptz,
 '2026-11-25'::date, '12:34:56.789'::time, '1 month 2 days 03:04:05'::interval,
 1234.5678::numeric"""
CONSTANTS = (
    "pg_epoch_datetime",
    "pg_epoch_datetime_utc",
    "timedelta",
    "date_from_ordinal",
    "datetime",
    "_Dec",
)


class Trap:
    """Looks like nothing that a value could be made of."""


async def look_ups(dsn):
    """The names of the constants without which the row can't be decoded."""
    connection = await asyncpg.connect(dsn)
    statement = await connection.prepare(QUERY)
    expected = repr(await statement.fetchrow())
    found = []
    for name in CONSTANTS:
        constant = getattr(pgproto, name)
        setattr(pgproto, name, Trap())
        try:
            if repr(await statement.fetchrow()) != expected:
                found.append(name)
        except (TypeError, AttributeError):
            found.append(name)
        finally:
            setattr(pgproto, name, constant)
    if repr(await statement.fetchrow()) != expected:
        raise RuntimeError("the row is not what it was")
    await connection.close()
    return found


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("PP2: FREEWHEEL_POSTGRES_DSN is not set")
        return NOT_RUN
    found = asyncio.run(look_ups(dsn))
    print("PP2: looked up for each value:", *(found or ["nothing"]))
    return WRONG_ANSWER if found else 0


if __name__ == "__main__":
    sys.exit(main())
