# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P9"
# title = "a cancelled executemany() that waits for the socket never ends"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "the cancellation comes out, nothing is inserted, and the connection works on"
# fails-by = ["wrong answer", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P9: a cancelled executemany() that waits for the socket never ends.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    the task that was cancelled stays pending for ever, and the connection busy.
Cause:      executemany() waits for the socket within a try statement whose finally clause awaits
            and returns the result. So it swallows the cancellation. And the server doesn't
            answer before the last message, which nobody sends any more.

Shows:      the server is kept from reading: it waits for a lock, so that the data stay unsent.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

# ruff: noqa: S608  the table is its own
import asyncio
import os
import sys

WRONG, NOT_RUN = 3, 77
TABLE = f"freewheel_p9_{os.getpid()}"  # several may run at once
INSERT = f"INSERT INTO {TABLE} VALUES ($1, $2)"
ROWS = 30_000  # of a kilobyte: more than any socket takes
PATIENCE = 5  # seconds


async def cancel(connection, blocker, problems):
    """Cancel an executemany() while the server waits for a lock that the blocker has."""
    lock = blocker.transaction()
    await lock.start()
    await blocker.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
    rows = [(number, "x" * 1000) for number in range(ROWS)]
    task = asyncio.create_task(connection.executemany(INSERT, rows))
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    if not task.done():
        problems.append("executemany() does not end")
    elif not task.cancelled():
        problems.append(f"the cancellation is swallowed: {task.exception()!r}")
    await lock.rollback()


async def check(asyncpg, dsn):
    problems = []
    connection, blocker = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    await blocker.execute(f"DROP TABLE IF EXISTS {TABLE}")
    await blocker.execute(f"CREATE TABLE {TABLE} (number int, text text)")
    # So that the statement is known when the lock is there.
    await connection.executemany(INSERT, [(0, "x")])
    await connection.execute(f"DELETE FROM {TABLE}")
    await cancel(connection, blocker, problems)
    if not problems:
        async with asyncio.timeout(PATIENCE):
            count = await connection.fetchval(f"SELECT count(*) FROM {TABLE}")
        if count:
            problems.append(f"{count} rows were inserted")
        await blocker.execute(f"DROP TABLE {TABLE}")
    connection.terminate()
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P9: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P9: {problem}"[:200])
    print(f"P9: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
