# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P10"
# title = "a transaction whose start was cancelled stays open, and swallows later ones"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "after a start that was cancelled or timed out, no transaction is open"
# fails-by = ["wrong answer", "exception"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P10: a transaction whose start was cancelled stays open, and swallows later ones.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    what was committed later on the connection is lost without an error.
Cause:      start() gives up waiting for BEGIN, but the server may have done it. The connection
            takes the next transaction for a nested one: its COMMIT is a RELEASE SAVEPOINT. Nobody
            ever ends the outer one.

Shows:      start() is cancelled before it waits, while it waits, when the answer has come; and
            the COMMIT as well. What is then inserted has to be there for others.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

# ruff: noqa: S608  the table is its own
import asyncio
import os
import sys

WRONG, NOT_RUN = 3, 77
TABLE = f"freewheel_p10_{os.getpid()}"  # several may run at once
PATIENCE = 10  # seconds


async def cancel_start(connection, steps):
    """Cancel a task after so many steps of the loop, while its transaction begins."""
    transaction = connection.transaction(isolation="serializable")
    task = asyncio.create_task(transaction.start())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        await transaction.rollback()


async def cancel_answered(connection):
    """Cancel a task when the answer to BEGIN is there, but the task doesn't know it yet."""
    transaction = connection.transaction()
    protocol = connection._protocol  # noqa: SLF001  (what it was told, without any promise)
    task = asyncio.create_task(transaction.start())
    while not protocol.is_in_transaction():
        await asyncio.sleep(0)
        if task.done():
            break
    if not task.done():
        task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        await transaction.rollback()


async def time_out(connection):
    try:
        async with asyncio.timeout(0.000001), connection.transaction():
            await connection.execute("SELECT pg_sleep(1)")
    except TimeoutError:
        pass


async def cancel_commit(connection):
    transaction = connection.transaction()
    await transaction.start()
    task = asyncio.create_task(transaction.commit())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def use_on(connection, observer, key, problems, name):
    """What anybody does with the connection afterwards has to be there for others."""
    try:
        async with connection.transaction():
            await connection.execute(f"INSERT INTO {TABLE} VALUES ($1)", key)
        if connection.is_in_transaction():
            problems.append(f"{name}: a transaction is open")
    except Exception as error:
        problems.append(f"{name}: {error!r}")
    if not await observer.fetchval(f"SELECT count(*) FROM {TABLE} WHERE key = $1", key):
        problems.append(f"{name}: what was committed is lost")


async def check(asyncpg, dsn):
    problems = []
    observer = await asyncpg.connect(dsn)
    await observer.execute(f"DROP TABLE IF EXISTS {TABLE}")
    await observer.execute(f"CREATE TABLE {TABLE} (key int)")
    ways = {f"cancelled after {n} steps": lambda c, n=n: cancel_start(c, n) for n in range(1, 5)}
    ways |= {"answered": cancel_answered, "timed out": time_out, "COMMIT": cancel_commit}
    for key, (name, way) in enumerate(ways.items()):
        connection = await asyncpg.connect(dsn)
        async with asyncio.timeout(PATIENCE):
            await way(connection)
            await use_on(connection, observer, key, problems, name)
        connection.terminate()
    await observer.execute(f"SET lock_timeout = '5s'; DROP TABLE {TABLE}")
    await observer.close()
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P10: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P10: {problem}"[:200])
    print(f"P10: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
