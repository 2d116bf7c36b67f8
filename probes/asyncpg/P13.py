# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P13"
# title = "COPY FROM STDIN in a query waits for ever"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "an error at once, after which the connection works on"
# fails-by = ["wrong answer", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P13: COPY FROM STDIN in a query waits for ever.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    execute() or fetch() of COPY ... FROM STDIN, as scripts of pg_dump have it, never ends.
Cause:      the server asks for the data (CopyInResponse), and waits for them; the client passes
            over the message, and waits for the server.

Shows:      execute(), fetch() and others with COPY, alone and after another statement.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import os
import sys

WRONG, NOT_RUN = 3, 77
PATIENCE = 5  # seconds
COPY = "COPY freewheel_p13 FROM STDIN"


def ways(connection):
    return {
        "execute": lambda: connection.execute(COPY),
        "a script": lambda: connection.execute(f"SELECT 1; {COPY}; SELECT 2"),
        "fetch": lambda: connection.fetch(COPY),
        "fetchval": lambda: connection.fetchval(f"{COPY} WITH (FORMAT binary)"),
        "executemany": lambda: connection.executemany(COPY, [(), ()]),
    }


async def one(asyncpg, dsn, name, problems):
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TEMPORARY TABLE freewheel_p13 (a int)")
    try:
        async with asyncio.timeout(PATIENCE):
            await ways(connection)[name]()
        problems.append(f"{name}: no error")
    except TimeoutError:
        problems.append(f"{name}: waits for ever")
    except (asyncpg.PostgresError, asyncpg.InterfaceError):
        try:
            async with asyncio.timeout(PATIENCE):
                if await connection.fetchval("SELECT 42") != 42:
                    problems.append(f"{name}: the next answer is wrong")
        except asyncpg.InterfaceError:
            if name != "executemany" or not connection.is_closed():
                problems.append(f"{name}: the connection can't be used")
        except Exception as error:
            problems.append(f"{name}: afterwards: {error!r}")
    connection.terminate()


async def check(asyncpg, dsn):
    problems = []
    await asyncio.gather(*(one(asyncpg, dsn, name, problems) for name in ways(None)))
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P13: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P13: {problem}"[:200])
    print(f"P13: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
