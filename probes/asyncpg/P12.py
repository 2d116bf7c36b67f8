# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P12"
# title = "closing a connection ends what is under way on it in internal errors"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "each statement ends with a clear error or its result, and close() ends"
# fails-by = ["wrong answer", "exception", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P12: closing a connection ends what is under way on it in internal errors.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    InternalClientError: got result for unknown protocol state 3; AttributeError: 'NoneType'
            object has no attribute 'write'. executemany() waits for ever when the connection ends
            while it waits for the socket.
Cause:      close() asks the server to cancel the statement. If that comes too late, the statement's
            result has no state to be handled in. After the connection has ended, COPY writes on,
            and a prepared statement looks for the protocol, which is gone.

Shows:      close() and terminate() at a moment when the statement's result is on its way, and
            while COPY, executemany() and others are in the middle.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import os
import sys

WRONG, NOT_RUN = 3, 77
PATIENCE = 10  # seconds


async def rows():
    while True:
        yield b"1\n" * 1000
        await asyncio.sleep(0)


async def copy_in(connection):
    await connection.execute("CREATE TEMPORARY TABLE freewheel_p12 (a int)")
    await connection.copy_to_table("freewheel_p12", source=rows())


async def forever(operation):
    while True:
        await operation()


async def batch(connection):
    await connection.executemany("SELECT pg_sleep(0.01), $1::text", [("x" * 1000,)] * 20_000)


def ways(connection):
    """What may be under way."""
    return {
        "fetch": lambda: forever(lambda: connection.fetch("SELECT 1")),
        "execute": lambda: forever(lambda: connection.execute("SELECT 1; SELECT 2")),
        "prepare": lambda: forever(lambda: connection.prepare("SELECT $1::int")),
        "COPY": lambda: copy_in(connection),
        "executemany": lambda: batch(connection),
        "sleep": lambda: connection.fetch("SELECT pg_sleep(60)"),
    }


async def end(connection, how):
    if how == "terminate":
        connection.terminate()
    else:
        await connection.close(timeout=PATIENCE if how == "close in time" else None)


async def one(asyncpg, dsn, name, how, *, steps, problems):
    good = (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)
    connection = await asyncpg.connect(dsn)
    work = asyncio.create_task(ways(connection)[name]())
    await asyncio.sleep(0.01 * (steps % 10))
    for _ in range(steps):
        await asyncio.sleep(0)
    if name == "executemany" and how != "terminate":
        how = "terminate"  # close() waits until it has been sent
    close = asyncio.create_task(end(connection, how))
    await asyncio.wait([work, close], timeout=PATIENCE)
    for what, task in [(name, work), (how, close)]:
        if not task.done():
            problems.append(f"{name}, {how}: {what} does not end")
            task.cancel()
        elif (error := task.exception()) and (
            task is close
            or not isinstance(error, good)
            or type(error).__name__.startswith("Intern")
        ):
            problems.append(f"{name}, {how}: {what}: {error!r}")
    connection.terminate()


async def check(asyncpg, dsn):
    problems = []
    for how in ("close", "close in time", "terminate"):
        for steps in range(6):
            cases = [
                one(asyncpg, dsn, name, how, steps=steps, problems=problems) for name in ways(None)
            ]
            await asyncio.gather(*cases)
            if problems:
                return problems
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P12: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P12: {problem}"[:200])
    print(f"P12: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
