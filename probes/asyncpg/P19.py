# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P19"
# title = "prepared statements are forgotten, and stay on the server"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "the server has only statements that the connection still knows"
# fails-by = ["wrong answer"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P19: prepared statements are forgotten, and stay on the server.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    the memory of the server's processes grows for as long as a pool keeps its connections;
            a statement with a name of one's own cannot be prepared again ("already exists").
Cause:      a statement whose preparation is cancelled, or whose types are still being looked up, is
            not taken note of. Those that are waiting to be closed are taken off the list before
            they are closed, so if that is cancelled, the rest stays. A statement is taken for a
            cached one if another one has the same text.

Shows:      operations are cancelled after each of some steps of the loop; statements are dropped.
            Then pg_prepared_statements is compared with what the connection knows.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

# ruff: noqa: S608  a number of its own
# ruff: noqa: SLF001  what the connection knows, it tells nobody
import asyncio
import gc
import itertools
import os
import sys

WRONG, NOT_RUN = 3, 77
PATIENCE = 20  # seconds
STEPS = 12
numbers = itertools.count()


def new_query():
    return f"SELECT $1::int + {next(numbers)}"


async def cancel(operation, steps):
    task = asyncio.create_task(operation)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def prepared(connection):
    await (await connection.prepare(new_query())).fetchval(1)


async def fetched(connection):
    await connection.fetchval(new_query(), 1)


async def introspected(connection):
    """The type is one that the connection has to look up."""
    await connection.reload_schema_state()
    await connection.prepare(f"SELECT x, {next(numbers)} FROM pg_stat_activity AS x")


async def closing(connection):
    """Statements that are waiting to be closed are closed after the next one is prepared."""
    for _ in range(4):
        await connection.prepare(new_query())
    gc.collect()
    await connection.prepare(new_query())


async def of_a_cached_query(connection):
    query = new_query()
    await connection.fetchval(query, 1)
    for _ in range(3):
        await connection.prepare(query)
        gc.collect()


async def named_again(connection):
    for number in range(3):
        await connection.prepare(f"SELECT {number}", name="of_my_own")
        gc.collect()


async def unknown_to(connection):
    """Names of statements that the server has, and the connection does not know."""
    gc.collect()
    for _ in range(2):  # a new statement makes the connection close others
        await connection.fetchval(new_query(), 1)
    rows = await connection.fetch("SELECT name FROM pg_prepared_statements")
    known = {each.name for each in connection._stmt_cache.iter_statements()}
    known |= {each.name for each in connection._stmts_to_close}
    return {row["name"] for row in rows} - known


async def check(asyncpg, dsn):
    problems = []
    for operation in (prepared, fetched, introspected, closing):
        connection = await asyncpg.connect(dsn)
        async with asyncio.timeout(PATIENCE):
            for steps in range(1, STEPS):
                await cancel(operation(connection), steps)
            if left := await unknown_to(connection):
                problems.append(f"{operation.__name__}, cancelled: {len(left)} are forgotten")
        connection.terminate()
    for operation in (of_a_cached_query, named_again):
        connection = await asyncpg.connect(dsn)
        try:
            await operation(connection)
            left = await unknown_to(connection)
        except asyncpg.DuplicatePreparedStatementError as error:
            left = [error]
        if left:
            problems.append(f"{operation.__name__}: {len(left)} are forgotten")
        connection.terminate()
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P19: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P19: {problem}"[:200])
    print(f"P19: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
