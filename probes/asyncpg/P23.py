# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P23"
# title = "a connection that two tasks close hangs, or a statement on it returns None"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "all tasks end, and the statement raises an error"
# fails-by = ["wrong answer"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P23: a connection that two tasks close hangs, or a statement on it returns None.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    an application shuts down, and a connection is closed by the task that has it and by its
            pool, while a statement runs: close() waits forever. Or the statement ends, with None as
            if it had been executed, and fetch() raises AttributeError.
Cause:      close() asks the server to cancel the statement, in a task. Whoever comes second finds
            the connection closed, and cleans up: that cancels the task, which may not have begun.
            terminate() ends a statement as it ends the close(), which gets None for its answer.

Shows:      a statement runs, a task closes the connection, and after some steps of the loop another
            one does, by close() or terminate().

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import os
import sys

WRONG, NOT_RUN = 3, 77
PATIENCE = 5  # seconds
STEPS = 8
BEGUN = 0.1  # seconds, after which the server is at it; it forgets what comes before that


async def close_twice(connection, statement, steps, at_once):
    """What went wrong when the connection was closed twice in the middle of a statement."""
    running = asyncio.create_task(statement(connection))
    await asyncio.sleep(BEGUN)
    tasks = [running, asyncio.create_task(connection.close())]
    for _ in range(steps):
        await asyncio.sleep(0)
    if at_once:
        connection.terminate()
    else:
        tasks.append(asyncio.create_task(connection.close()))
    _, waiting = await asyncio.wait(tasks, timeout=PATIENCE)
    if waiting:
        return f"{len(waiting)} of {len(tasks)} tasks wait"
    if running.cancelled():
        return "the statement was cancelled"
    return None if running.exception() else f"the statement returned {running.result()!r}"


async def execute(connection):
    return await connection.execute("SELECT pg_sleep(60)")


async def fetch(connection):
    try:
        return await connection.fetchval("SELECT 1 FROM pg_sleep($1)", 60)
    except AttributeError as error:
        return error


async def check(asyncpg, dsn):
    problems = []
    for at_once in (False, True):
        for statement in (execute, fetch):
            for steps in range(STEPS):
                connection = await asyncpg.connect(dsn)
                problem = await close_twice(connection, statement, steps, at_once)
                if problem:
                    how = "terminate()" if at_once else "close()"
                    problems.append(f"{statement.__name__}, {how} after {steps} steps: {problem}")
                connection.terminate()
                if len(problems) > 2:  # each may have taken all of the patience
                    return problems
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P23: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P23: {problem}"[:200])
    print(f"P23: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
