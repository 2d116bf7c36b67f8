# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P1"
# title = "two prepared statements get the same name, and the server refuses the second"
# releases = "<=0.32.0"
# use = "supported"
# passes = "each statement was prepared, and no name was given twice"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 20 }
# seconds = 120
# needs = ["postgresql"]
# exclusive = true
# ///
"""P1: two prepared statements get the same name, and the server refuses the second.

Use:        several threads prepare statements. Every thread has its own event loop and its own
            connection.
Symptom:    DuplicatePreparedStatementError: prepared statement "__asyncpg_stmt_1f__" already exists
            With the GIL on it never happens.
Cause:      asyncpg makes the names from one counter for the whole process, and steps it with
            "_uid += 1". A thread that writes an old value back takes the counter back, and the
            numbers handed out in between are handed out again: to another connection, or to the
            same one, which the server refuses.

Shows:      8 threads prepare statements and keep them; no name may come twice. One more thread
            looks among the names of the module that has the counter for one that is not there
            and takes long to compare, again and again. That is harmless, but the others must wait
            for it before they write, with the value that they have read, so that what happens to
            one statement in a thousand happens to many.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import asyncpg

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
DSN = os.environ.get("FREEWHEEL_POSTGRES_DSN")
THREADS = 8
STATEMENTS = 100  # of each thread, all kept open


class Slow:
    """Has the hash of a name that is there, is not equal to it, and takes long to say so."""

    def __hash__(self):
        return hash("__name__")

    def __eq__(self, other):
        for _ in range(400):
            pass
        return False


SLOW = Slow()
names, refused = [], []
done = threading.Event()


async def ask():
    connection = await asyncpg.connect(DSN)
    try:
        return await connection.fetchval("SELECT 42")
    finally:
        connection.terminate()


async def prepare_many(start):
    connection = await asyncpg.connect(DSN)
    try:
        kept = []
        start.wait()
        for number in range(STATEMENTS):
            if refused:
                break
            try:
                statement = await connection.prepare(f"SELECT {number}")
            except asyncpg.DuplicatePreparedStatementError as error:
                refused.append(error)
            else:
                kept.append(statement)
                names.append(statement.get_name())
    finally:
        connection.terminate()


def prepare_in_threads():
    start = threading.Barrier(THREADS)

    def work():
        try:
            asyncio.run(prepare_many(start))
        except BaseException:
            start.abort()
            raise

    def widen():
        while not done.is_set():
            vars(asyncpg.connection).pop(SLOW, None)

    with ThreadPoolExecutor(THREADS + 1) as pool:
        pool.submit(widen)
        workers = [pool.submit(work) for _ in range(THREADS)]
        try:
            for worker in workers:
                worker.result()
        finally:
            done.set()


def not_run(why):
    print(f"P1: {why}")
    sys.exit(NOT_RUN)


def main():
    if sys._is_gil_enabled():  # noqa: SLF001  documented, underscore and all
        not_run("the GIL is on; this needs free-threaded CPython and no module that turns it on")
    if not DSN:
        not_run("set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
    try:
        answer = asyncio.run(ask())
    except (OSError, asyncpg.PostgresError) as error:
        not_run(f"the server does not answer: {error!r}")
    if answer != 42:
        not_run(f"the server answers {answer!r}")
    prepare_in_threads()
    repeated = len(names) - len(set(names))
    print(
        f"P1: {len(names)} statements prepared, {repeated} names given twice, "
        f"{len(refused)} refused: {refused[:1]}"
    )
    return WRONG_ANSWER if refused or repeated else 0


if __name__ == "__main__":
    sys.exit(main())
