# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P5"
# title = "a connection that threads share takes operations of foreign loops, and stays busy"
# releases = ">=0.31,<=0.32.0"
# use = "misuse"
# passes = "foreign loops get InterfaceError; of those at home one at a time wins, and is right"
# fails-by = ["wrong answer", "exception", "crash", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P5: a connection that threads share takes operations of foreign loops, and stays busy.

Releases:   asyncpg 0.31.0 and 0.32.0. What a single foreign operation does is the same with the
            GIL; that two of them win needs threads that run at the same time.
Use:        one connection, or a statement, cursor or transaction of it, shared between threads.
Symptom:    RuntimeError: ... got Future attached to a different loop; from then on the connection
            says for ever that another operation is in progress, or is closed under its owner.
Cause:      the loop is not checked, so that a foreign operation wins an idle connection, and
            can't wait for the answer. Looking if the connection is idle and taking it are two
            steps, which only one loop's tasks do one after the other.

Shows:      the loop that made the connection uses it all the time, often in two tasks at once,
            while other threads try all that one can do with it.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import io
import os
import sys
import threading

WRONG, NOT_RUN = 3, 77
THREADS = 3
ROUNDS = 150  # at home; the other threads try for as long as these take
TURNS = 200  # of a loop that has nothing else to do, and what it waits for never comes
IDLE = 300_000  # tries of the others without a round at home, and that one waits for ever


class Wrong(Exception):
    pass


class Home:
    """What the others know of the loop that made the connection."""

    tries = 0  # of others, since the last round; that a few are lost does not matter
    done = False


def fail(what):
    print(f"P5: {what[:200]}", flush=True)
    os._exit(WRONG)  # threads may be waiting for what never comes


async def copy(connection):
    await connection.copy_to_table("pg_class", source=io.BytesIO(b""))


async def transact(connection):
    async with connection.transaction():
        pass


async def walk(connection):
    async for _ in connection.cursor("SELECT 1"):
        pass


async def open_cursor(connection):
    await connection.cursor("SELECT 1")


def foreign_ways(connection, statement):
    """What a foreign loop may try."""
    return {
        "fetchval": lambda: connection.fetchval("SELECT 1"),
        "execute": lambda: connection.execute("SELECT 1"),
        "executemany": lambda: connection.executemany("SELECT $1::int", [(1,), (2,)]),
        "prepare": lambda: connection.prepare("SELECT 1"),
        "statement": lambda: statement.fetchval(1),
        "copy": lambda: copy(connection),
        "transaction": lambda: transact(connection),
        "cursor": lambda: open_cursor(connection),
        "iteration": lambda: walk(connection),
        "reset": connection.reset,
        "close": connection.close,
    }


async def trespass(asyncpg, connection, statement):
    while not Home.done:
        for name, way in foreign_ways(connection, statement).items():
            trying = asyncio.ensure_future(way())
            for _ in range(TURNS):
                await asyncio.wait([trying], timeout=0.01)
                if trying.done():
                    break
            else:
                fail(f"{name} in a foreign loop waits for ever")
            try:
                await trying
            except asyncpg.InterfaceError:
                pass
            except BaseException as error:
                fail(f"{name} in a foreign loop: {error!r}")
            else:
                fail(f"{name} in a foreign loop was done")
            Home.tries += 1
            if Home.tries > IDLE:
                fail("the loop at home waits for ever")


async def answer(asyncpg, connection, number):
    try:
        got = await connection.fetchval("SELECT $1::int + 1", number)
    except asyncpg.InterfaceError:
        return 0
    if got != number + 1:
        raise Wrong(f"{number} + 1 is {got}")
    return 1


async def at_home(asyncpg, connection, statement):
    for number in range(ROUNDS):
        Home.tries = 0
        if await statement.fetchval(number) != number:
            raise Wrong("the statement gives another answer")
        won = await asyncio.gather(*(answer(asyncpg, connection, number + i) for i in range(2)))
        if sum(won) != 1:
            raise Wrong(f"{sum(won)} of 2 operations won")
    if await connection.fetchval("SELECT 42") != 42:
        raise Wrong("the last answer is wrong")


async def send_home(statement, home):
    """Have an operation done at home for a thread that has a loop of its own: as it should be."""
    future = asyncio.run_coroutine_threadsafe(statement.fetchval(7), home)
    if await asyncio.wrap_future(future) != 7:
        raise Wrong("what was sent home has another answer")


async def share(asyncpg, dsn):
    connection = await asyncpg.connect(dsn)
    statement = await connection.prepare("SELECT $1::int")

    def work():
        asyncio.run(trespass(asyncpg, connection, statement))

    others = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in others:
        thread.start()
    try:
        await at_home(asyncpg, connection, statement)
        Home.done = True
        home = asyncio.get_running_loop()
        await asyncio.to_thread(asyncio.run, send_home(statement, home))
        await connection.close()
    except Exception as error:
        fail(f"at home: {error!r}")
    for thread in others:
        thread.join()


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P5: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    asyncio.run(share(asyncpg, dsn))
    print("P5: no problems")
    return 0


if __name__ == "__main__":
    sys.exit(main())
