# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P21"
# title = "who meets the end of a connection gets an internal error"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "an error that says that the connection is closed, or none; the pool has all its slots"
# fails-by = ["wrong answer"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P21: who meets the end of a connection gets an internal error.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    a server is restarted, or ends an idle session: InternalClientError ("cannot switch to
            state 12; another operation (2) is in progress"), which no application is prepared
            for. Pool.release() raises one as well ("called on a free connection holder"), in
            `async with pool.acquire()`, where it hides the error of the block.
Cause:      the server's last message comes while nothing is under way. It is taken for a mistake of
            the protocol. Pool.release() is made a task, and the connection may be closed, and so
            released, before that begins. A connection may also be closed in the pool's `setup`.

Shows:      an operation begins, after some steps of the loop, when the message has come, and the
            end of the connection has not yet been seen; a connection is closed between release()
            and its task, and in `setup`.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import os
import sys
import time

WRONG, NOT_RUN = 3, 77
PATIENCE = 20  # seconds
COME = 0.2  # seconds, after which the server's last message is there


async def end(other, connection):
    """End the connection's session; the message and the end are there, but not read yet."""
    pid = connection.get_server_pid()
    ending = asyncio.create_task(other.execute(f"SELECT pg_terminate_backend({pid})"))
    await asyncio.sleep(0)
    time.sleep(COME)  # noqa: ASYNC251  nothing is to be read meanwhile
    return ending


async def query(connection):
    await connection.execute("SELECT 1")


async def fetch(connection):
    await connection.fetchval("SELECT 1")


async def begin(connection):
    await connection.transaction().start()


async def used_at_its_end(asyncpg, dsn, other, problems):
    for operation in (query, fetch, begin):
        for steps in range(5):
            connection = await asyncpg.connect(dsn)
            await connection.fetchval("SELECT 1")
            ending = await end(other, connection)
            for _ in range(steps):
                await asyncio.sleep(0)
            try:
                await operation(connection)
                problems.append(f"{operation.__name__} after {steps} steps: no error")
            except (asyncpg.ConnectionDoesNotExistError, ConnectionError):
                pass
            except Exception as error:
                if str(error) != "connection is closed":
                    problems.append(f"{operation.__name__} after {steps} steps: {error!r}")
            await ending
            connection.terminate()


async def closed_before_release(asyncpg, dsn, problems):
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        connection = await pool.acquire()
        releasing = asyncio.create_task(pool.release(connection))
        await asyncio.sleep(0)
        connection.terminate()
        await asyncio.wait([releasing])
        if error := releasing.exception():
            problems.append(f"release(): {error!r}")
        await pool.fetchval("SELECT 1")


async def closed_in_setup(asyncpg, dsn, problems):
    ends = [False, True]

    async def setup(connection):
        if ends.pop():
            return
        connection.terminate()

    async with asyncpg.create_pool(dsn, min_size=1, max_size=1, setup=setup) as pool:
        await pool.fetchval("SELECT 1")
        try:
            await pool.fetchval("SELECT 1")
            problems.append("a connection that was closed in setup is given out")
        except (asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError) as error:
            if isinstance(error, asyncpg.InternalClientError):
                problems.append(f"setup: {error!r}")
        except Exception as error:
            problems.append(f"setup: {error!r}")
        ends.append(True)
        await pool.fetchval("SELECT 1")


async def check(asyncpg, dsn):
    problems = []
    other = await asyncpg.connect(dsn)
    await used_at_its_end(asyncpg, dsn, other, problems)
    if problems:
        return problems  # unpatched pools may not close afterwards
    for case in (closed_before_release, closed_in_setup):
        try:
            async with asyncio.timeout(PATIENCE):
                await case(asyncpg, dsn, problems)
        except Exception as error:
            problems.append(f"{case.__name__}: {error!r}")
    other.terminate()
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P21: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P21: {problem}"[:200])
    print(f"P21: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
