"""P1: two prepared statements get the same name.

Releases:   asyncpg 0.31.0 and 0.32.0, on free-threaded CPython; never with the GIL.
Supported:  yes. Every thread has its own event loop and its own connection.
Symptom:    DuplicatePreparedStatementError: prepared statement "__asyncpg_stmt_1f__" already exists
Cause:      asyncpg makes the names from one counter for the whole process, and steps it with
            "_uid += 1". A thread that writes an old value back takes the counter back, and the
            numbers handed out in between are handed out again: to another connection, or to the
            same one, which the server refuses.

Pass (0):   in every round each statement was prepared, and no name was given twice.
Fail (1):   the server refused a name as already taken, or a name was given twice.
Not run (2): no server, no asyncpg, the GIL is on, or any other error.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import os
import sys
import threading

THREADS = 8
STATEMENTS = 500  # of each thread in a round, all kept open
ROUNDS = 12  # the first that shows the defect is the last
SECONDS = 60  # for a round; one takes less than a second


def not_run(why):
    print(f"P1: could not run: {why}", flush=True)
    os._exit(2)  # a thread may still be waiting for the server


async def prepare_many(asyncpg, dsn, start, names, refused):
    connection = await asyncpg.connect(dsn, timeout=SECONDS)
    try:
        kept = []
        start.wait(SECONDS)
        for number in range(STATEMENTS):
            try:
                statement = await connection.prepare(f"SELECT {number}")
            except asyncpg.DuplicatePreparedStatementError as error:
                refused.append(str(error))
            else:
                kept.append(statement)
                names.append(statement.get_name())
    finally:
        connection.terminate()


def one_round(asyncpg, dsn):
    start = threading.Barrier(THREADS)
    names, refused, errors = [], [], []

    def work():
        try:
            asyncio.run(prepare_many(asyncpg, dsn, start, names, refused))
        except BaseException as error:
            errors.append(error)
            start.abort()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)

    if errors:
        not_run(repr(errors[0]))
    if any(thread.is_alive() for thread in threads):
        not_run(f"a round was not done after {SECONDS} seconds")
    if len(names) + len(refused) != THREADS * STATEMENTS:
        not_run(f"{len(names)} prepared and {len(refused)} refused do not add up")
    return names, refused


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        not_run("set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
    try:
        import asyncpg
    except ImportError as error:
        not_run(repr(error))
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        not_run("the GIL is on; this needs free-threaded CPython and no module that turns it on")
    sys.setswitchinterval(1e-6)

    names, refused, repeated = [], [], 0
    for round_number in range(1, ROUNDS + 1):  # noqa: B007  told below
        more_names, refused = one_round(asyncpg, dsn)
        names += more_names
        repeated = len(names) - len(set(names))
        if refused or repeated:
            break
    print(
        f"P1: round {round_number} of {ROUNDS}, {len(names) + len(refused)} statements, "
        f"{len(refused)} refused as duplicates, {repeated} more names given twice"
    )
    return 1 if refused or repeated else 0


if __name__ == "__main__":
    try:
        status = main()
    except Exception as error:
        not_run(repr(error))
    sys.exit(status)
