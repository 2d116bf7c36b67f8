# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P18"
# title = "a COPY that is given up leaves the connection waiting forever, or in the middle of it"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "the next operation works, or the connection is closed; whoever closes it comes back"
# fails-by = ["wrong answer"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 90
# ///
"""P18: a COPY that is given up leaves the connection waiting forever, or in the middle of it.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    an export ends early (its file is full, its client has gone, its task is cancelled):
            every later operation on the connection waits forever, or raises InternalClientError
            ("another operation (2) is in progress"). close() waits as well, terminate() makes the
            task raise AttributeError.
Cause:      copy_out() asks the server to cancel what has ended already, and waits for the answer.
            If it is cancelled when data have just come, it asks for nothing, and the rest comes to
            nobody. While data are being taken, reading is paused, so the end is never seen.

Shows:      the sink raises, at the last data and at others; the task is cancelled after each of
            some steps; the connection is closed while the sink waits; records come too slowly
            for the timeout; a statement cannot be encoded.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import contextlib
import os
import sys

WRONG, NOT_RUN = 3, 77
PATIENCE = 6  # seconds
LARGE = "SELECT repeat('x', 1000) FROM generate_series(1, 2000)"
STEPS = 14


class Full(Exception):
    """What the place has that the data go to."""


async def refuse(connection, query):
    async def sink(_data):
        raise Full

    with contextlib.suppress(Full):
        await connection.copy_from_query(query, output=sink)


async def cancel(connection, query, steps):
    """Cancel a COPY after so many steps of the loop; its sink takes a step for each piece."""

    async def sink(_data):
        await asyncio.sleep(0)

    task = asyncio.create_task(connection.copy_from_query(query, output=sink))
    for _ in range(steps):
        await asyncio.sleep(0.001 if steps % 2 else 0)
    task.cancel()
    await asyncio.wait([task])


async def outpace(connection):
    """Records that come more slowly than the timeout allows; the server waits for them."""

    async def records():
        for number in range(3):
            await asyncio.sleep(0.1)
            yield (number,)

    await connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS slow (number int)")
    with contextlib.suppress(TimeoutError):
        await connection.copy_records_to_table("slow", records=records(), timeout=0.15)


async def encode(connection):
    with contextlib.suppress(UnicodeEncodeError):
        await connection.copy_from_query("SELECT '\udc80'", output=os.devnull)


def ways():
    yield "the sink refuses the last data", lambda c: refuse(c, "SELECT 1")
    yield "the sink refuses the first data", lambda c: refuse(c, LARGE)
    yield "the records are slow", outpace
    yield "the query has half a character", encode
    for steps in range(1, STEPS):
        yield f"cancelled after {steps} steps", lambda c, n=steps: cancel(c, LARGE, n)
        yield f"a short one, after {steps} steps", lambda c, n=steps: cancel(c, "SELECT 1", n)


async def close(connection, gracefully):
    """End a connection while a sink waits; both have to come back, the COPY with an error."""
    waiting = asyncio.Event()

    async def sink(_data):
        waiting.set()
        await asyncio.sleep(0.05)

    task = asyncio.create_task(connection.copy_from_query(LARGE, output=sink))
    await waiting.wait()
    await connection.close() if gracefully else connection.terminate()
    await asyncio.wait([task])
    return task.exception()


async def check(asyncpg, dsn):
    problems = []
    for name, way in ways():
        connection = await asyncpg.connect(dsn)
        try:
            async with asyncio.timeout(PATIENCE):
                await way(connection)
                if await connection.fetchval("SELECT 6 * 7") != 42:
                    problems.append(f"{name}: another answer than 42")
        except Exception as error:
            if not connection.is_closed():
                problems.append(f"{name}: {error!r}")
        connection.terminate()
        if len(problems) > 2:  # each may have taken all of the patience
            return problems
    for gracefully in (False, True):
        connection = await asyncpg.connect(dsn)
        try:
            async with asyncio.timeout(PATIENCE):
                error = await close(connection, gracefully)
        except TimeoutError as waited:
            error = waited
        if not isinstance(error, asyncpg.ConnectionDoesNotExistError):
            problems.append(f"closed {'gracefully' if gracefully else 'at once'}: {error!r}")
        connection.terminate()
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P18: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P18: {problem}"[:200])
    print(f"P18: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
