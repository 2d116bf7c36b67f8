# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "PP1"
# title = "connections of several threads take turns to count references to the same codecs"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "no two connections have a codec in common, for arguments, columns or what is in these"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# needs = ["postgresql"]
# ///
"""PP1: connections of several threads take turns to count references to the same codecs.

Releases:   asyncpg 0.31.0 and 0.32.0, without the GIL.
Use:        a loop and a connection per thread, and each fetches rows: what every application does.
Symptom:    two threads decode fewer rows than two processes do.
Cause:      the codecs of built-in types exist once in a process. For each value that is decoded,
            a reference to its codec is counted and dropped again, with atomic operations on
            memory that has to move from processor to processor each time.

Shows:      the codecs themselves, not the time that sharing them takes. Two threads, each with a
            connection of its own, prepare a statement with a parameter and columns of built-in
            types, and fetch its row. A statement knows its codecs; none may be in both.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import gc
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import asyncpg

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
THREADS = 2
QUERY = "SELECT $1::int, 'a'::text, 1.5::float8, true, $2::date[], now(), ARRAY[1.5], '{}'::json"
EXPECTED = 10  # codecs: of two parameters, eight columns and the elements of two arrays, at least


async def fetch(dsn):
    connection = await asyncpg.connect(dsn)
    statement = await connection.prepare(QUERY)
    await statement.fetchrow(1, [])
    return connection, statement


def codecs(statement):
    """All codecs that the statement leads to: in its tuples, and the codecs of elements."""
    found, left = {}, [statement._state]  # noqa: SLF001
    while left:
        for each in gc.get_referents(left.pop()):
            kind = type(each).__name__
            if kind == "Codec" and id(each) not in found:
                found[id(each)] = each
                left.append(each)
            elif kind == "tuple":
                left.append(each)
    return found


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("PP1: FREEWHEEL_POSTGRES_DSN is not set")
        return NOT_RUN
    with ThreadPoolExecutor(THREADS) as pool:
        made = list(pool.map(lambda _: asyncio.run(fetch(dsn)), range(THREADS)))
    one, other = (codecs(statement) for _, statement in made)
    if min(len(one), len(other)) < EXPECTED:
        print(f"PP1: only {len(one)} and {len(other)} codecs were found")
        return NOT_RUN
    shared = [str(codec) for number, codec in one.items() if number in other]
    print(f"PP1: {len(shared)} of {len(one)} codecs belong to both", *shared, sep="\nPP1: ")
    return WRONG_ANSWER if shared else 0


if __name__ == "__main__":
    sys.exit(main())
