# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.31.0"]
#
# [tool.freewheel.probe]
# defect = "P17"
# title = "a task that is cancelled while a query is being cancelled cancels the tasks of others"
# releases = ">=0.31,<0.32"
# use = "supported"
# passes = "only the task that is cancelled ends so; those that wait with it get answers or errors"
# fails-by = ["wrong answer", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P17: a task that is cancelled while a query is being cancelled cancels the tasks of others.

Releases:   asyncpg 0.31.0, with the GIL as well.
Symptom:    CancelledError in tasks that nobody has cancelled.
Cause:      when a query is cancelled, each later operation waits for the same two futures. A task
            that is cancelled cancels the future that it waits for, and with it all the others.

Shows:      two tasks wait for the cancellation of a query, and one of them is cancelled.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import os
import sys

WRONG, NOT_RUN = 3, 77
PATIENCE = 10  # seconds


async def one(asyncpg, dsn, steps, problems):
    connection = await asyncpg.connect(dsn)
    query = asyncio.create_task(connection.fetchval("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.05)
    query.cancel()
    await asyncio.wait([query])
    impatient = asyncio.create_task(connection.execute("SELECT 1"))
    patient = asyncio.create_task(connection.execute("SELECT 2"))
    for _ in range(steps):
        await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient, patient], timeout=PATIENCE)
    if not patient.done():
        problems.append("a task waits for ever")
    elif patient.cancelled():
        problems.append("a task is cancelled that nobody cancelled")
    elif (error := patient.exception()) and not isinstance(error, asyncpg.InterfaceError):
        problems.append(f"a task gets {error!r}")
    connection.terminate()


async def check(asyncpg, dsn):
    problems = []
    for steps in (1, 2, 3):
        await one(asyncpg, dsn, steps, problems)
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P17: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P17: {problem}"[:200])
    print(f"P17: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
