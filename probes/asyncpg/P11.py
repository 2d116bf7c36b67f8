# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P11"
# title = "tasks that wait for a connection use it while the pool is being closed"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "whoever waits gets InterfaceError, close() ends, and no session is left"
# fails-by = ["wrong answer", "exception", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P11: tasks that wait for a connection use it while the pool is being closed.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    InternalClientError: got result for unknown protocol state; on 0.31.0 tasks that wait
            for ever, and sessions that stay open.
Cause:      acquire() looks if the pool is being closed before it waits for a connection, not
            afterwards. So it hands out connections that close() is closing, or connects again.

Shows:      a pool of one, which somebody uses, is closed while others wait for it; and one that is
            closed while somebody connects.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import os
import sys

WRONG, NOT_RUN = 3, 77
WAITERS = 5
PATIENCE = 10  # seconds


async def finish(asyncpg, close, users, problems, name):
    done, pending = await asyncio.wait([close, *users], timeout=PATIENCE)
    for task in done:
        error = task.exception()
        if error is not None and (task is close or not isinstance(error, asyncpg.InterfaceError)):
            problems.append(f"{name}: {'close()' if task is close else 'a user'}: {error!r}")
    if pending:
        problems.append(f"{name}: {len(pending)} tasks do not end")


async def close_with_waiters(asyncpg, pool, problems):
    async def use(entered=None):
        async with pool.acquire() as connection:
            if entered:
                entered.set()
            await connection.fetchval("SELECT pg_sleep(0.05)")

    entered = asyncio.Event()
    users = [asyncio.create_task(use(entered))]
    await entered.wait()
    users += [asyncio.create_task(use()) for _ in range(WAITERS)]
    await asyncio.sleep(0)
    await finish(asyncpg, asyncio.create_task(pool.close()), users, problems, "waiting")


async def close_while_connecting(asyncpg, pool, problems):
    async def use():
        async with pool.acquire() as connection:
            await connection.fetchval("SELECT 1")

    users = [asyncio.create_task(use()) for _ in range(WAITERS)]
    await asyncio.sleep(0)  # two of them connect
    await asyncio.sleep(0)
    await finish(asyncpg, asyncio.create_task(pool.close()), users, problems, "connecting")


async def sessions(observer, name):
    """How many sessions of the pool the server has; some take a moment to end."""
    count = 0
    for _ in range(50):
        count = await observer.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", name
        )
        if not count:
            break
        await asyncio.sleep(0.1)
    return count


async def check(asyncpg, dsn):
    problems = []
    observer = await asyncpg.connect(dsn)
    for size, case in [(1, close_with_waiters), (2, close_while_connecting)]:
        name = f"freewheel p11 {os.getpid()} {case.__name__}"
        pool = await asyncpg.create_pool(
            dsn, min_size=2 - size, max_size=size, server_settings={"application_name": name}
        )
        await case(asyncpg, pool, problems)
        if left := await sessions(observer, name):
            problems.append(f"{case.__name__}: {left} sessions are left")
    await observer.close()
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P11: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P11: {problem}"[:200])
    print(f"P11: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
