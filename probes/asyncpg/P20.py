# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P20"
# title = "a cursor goes on after a cancelled operation, and rows are missing"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "the cursor gives the next row, or an error"
# fails-by = ["wrong answer"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P20: a cursor goes on after a cancelled operation, and rows are missing.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    a task that reads from a cursor is cancelled or times out, and reads on: some rows are
            missing, without an error. Or the server says that the portal does not exist, and the
            transaction is lost.
Cause:      the server has sent the rows, and gone on; but nobody waits for them. If it was the
            first operation, the cursor believes that its portal is open.

Shows:      operations are cancelled when the answer has come. Then the cursor is used again.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import contextlib
import os
import sys
import time

WRONG, NOT_RUN = 3, 77
ROWS = "SELECT generate_series(1, 100)"
ANSWERED = 0.05  # seconds, in which any server sends ten rows


async def cancel(operation):
    """Cancel an operation whose answer has come, but has not been read yet."""
    task = asyncio.create_task(operation)
    for _ in range(3):
        await asyncio.sleep(0)
    time.sleep(ANSWERED)  # noqa: ASYNC251  nothing is to be read meanwhile
    task.cancel()
    await asyncio.wait([task])


async def fetching(connection):
    cursor = await connection.cursor(ROWS)
    await cancel(cursor.fetch(10))
    return (await cursor.fetchrow())[0], (1,)


async def one_row(connection):
    cursor = await connection.cursor(ROWS)
    await cancel(cursor.fetchrow())
    return (await cursor.fetchrow())[0], (1,)


async def skipping(connection):
    cursor = await connection.cursor(ROWS)
    await cancel(cursor.forward(10))
    return (await cursor.fetchrow())[0], (1,)


async def timed_out(connection):
    cursor = await connection.cursor(ROWS)
    read = ()
    with contextlib.suppress(TimeoutError):
        read = await cursor.fetch(10, timeout=0.000001)  # it may have come in time
    return (await cursor.fetchrow())[0], (len(read) + 1,)


async def iterating(connection):
    rows = aiter(connection.cursor(ROWS, prefetch=5))
    for _ in range(5):
        last = (await anext(rows))[0]
    await cancel(anext(rows))
    return (await anext(rows))[0], (last + 1,)


async def opening(connection):
    await connection.fetch(ROWS)  # so that the statement is there
    rows = aiter(connection.cursor(ROWS, prefetch=5))
    await cancel(anext(rows))
    return (await anext(rows))[0], (1,)


async def refused(connection):
    """What is refused before it is sent leaves the cursor, and the transaction, as they were."""
    rows = aiter(connection.cursor("SELECT $1::int", "no number", prefetch=5))
    for _ in range(2):
        try:
            await anext(rows)
        except Exception as error:
            kind = type(error).__name__
    return kind, ("DataError",)


WAYS = (fetching, one_row, skipping, timed_out, iterating, opening, refused)


async def check(asyncpg, dsn):
    problems = []
    for way in WAYS:
        connection = await asyncpg.connect(dsn)
        transaction = connection.transaction()
        await transaction.start()
        try:
            got, right = await way(connection)
        except (asyncpg.InterfaceError, asyncpg.InFailedSQLTransactionError):
            got, right = "an error", ("an error",)
        except Exception as error:
            got, right = repr(error), ("an error that says so",)
        if got not in right:
            problems.append(f"{way.__name__}: {got}, not {right[0]}")
        connection.terminate()
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P20: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P20: {problem}"[:200])
    print(f"P20: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
