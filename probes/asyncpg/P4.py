# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P4"
# title = "each thread that handled records takes the memory of 2,000 of each width with it"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "a thread that fetches 2,000 rows and ends leaves less than 50 KiB behind"
# fails-by = ["leak"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P4: each thread that handled records takes the memory of 2,000 of each width with it.

Releases:   asyncpg 0.31.0 and 0.32.0, also with the GIL.
Use:        a thread with a loop and a connection of its own fetches rows and ends. Then the next.
Symptom:    memory grows by about 190 bytes for each of up to 2,000 records of each width that the
            thread had in hand at once, for every thread, without bound.
Cause:      record_dealloc keeps up to 2,000 records of each width from 0 to 19 for use again, in
            a free list of the thread's own. A thread-specific-storage key has the only pointer to
            it, and nothing frees the list when the thread ends.

Shows:      the resident memory before and after each of several series of such threads. What the
            allocator keeps for the next thread comes and goes; what is lost is lost in each.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import gc
import os
import sys
import threading
from pathlib import Path

LEAK, NOT_RUN = 4, 77
SERIES = 4
THREADS = 12  # in each series
ROWS = 2000
ALLOWED = 50 << 10  # bytes for each thread; the defect costs 370 KiB


def resident():
    """The resident memory of this process in bytes."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def fetch(asyncpg, dsn):
    connection = await asyncpg.connect(dsn)
    try:
        for width in (1, 6):
            columns = ", ".join(f"i + {number} AS c{number}" for number in range(width))
            query = f"SELECT {columns} FROM generate_series(1, $1::int) AS i"  # noqa: S608
            rows = await connection.fetch(query, ROWS)
            if [row[0] for row in rows] != list(range(1, ROWS + 1)):
                raise AssertionError("the server answered with other rows")
            del rows
    finally:
        await connection.close()


def series(asyncpg, dsn, count):
    """Let ``count`` threads fetch rows and end, one after the other."""
    done = []

    def work():
        asyncio.run(fetch(asyncpg, dsn))
        done.append(True)

    for _ in range(count):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    return len(done) == count


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P4: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    lost = []
    for _ in range(1 + SERIES):  # the first one only brings the memory up
        before = resident()
        if not series(asyncpg, dsn, THREADS):
            print("P4: a thread could not fetch")
            return NOT_RUN
        lost.append((resident() - before) / THREADS)
    told = ", ".join(f"{each / 1024:.0f}" for each in lost[1:])
    print(f"P4: KiB lost with each of {THREADS} threads, by series: {told}")
    return LEAK if min(lost[1:]) > ALLOWED else 0


if __name__ == "__main__":
    sys.exit(main())
