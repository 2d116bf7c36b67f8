# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P16"
# title = "a connection that another thread collects uses a loop of which it is no part"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "the socket is closed at once by its own loop, and nothing is raised"
# fails-by = ["wrong answer", "exception"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P16: a connection that another thread collects uses a loop of which it is no part.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    the socket stays open until the loop has something to do; in debug mode, RuntimeError:
            Non-thread-safe operation invoked on an event loop other than the current one.
Cause:      the finalizer of a connection that was dropped terminates it in whatever thread the
            collector runs. It calls into the loop and its transport, neither of which may be used
            in another thread, and which nobody wakes.

Shows:      a loop with nothing to do but wait, while another thread collects its connections. The
            server tells which of them have ended.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import gc
import os
import sys
import threading
import warnings

WRONG, NOT_RUN = 3, 77
DROPPED = 5
PATIENCE = 10  # seconds


async def drop(asyncpg, dsn, name, dropped, done):
    """Leave connections to the collector, and wait."""
    for _ in range(DROPPED):
        connection = await asyncpg.connect(dsn, server_settings={"application_name": name})
        await connection.prepare("SELECT 1")
        cycle = [connection]
        cycle.append(cycle)
        del connection, cycle
    dropped.set()
    await done.wait()


async def count(connection, name):
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
    return await connection.fetchval(query, name)


async def collect(asyncpg, dsn, *, debug, problems):
    name = f"freewheel p16 {os.getpid()} {debug}"
    dropped, done = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    loop.set_debug(debug)
    loop.slow_callback_duration = 60
    work = drop(asyncpg, dsn, name, dropped, done)
    thread = threading.Thread(target=loop.run_until_complete, args=(work,), daemon=True)
    thread.start()
    await asyncio.to_thread(dropped.wait, PATIENCE)
    await asyncio.sleep(0.2)  # it waits
    observer = await asyncpg.connect(dsn)
    if await count(observer, name) != DROPPED:
        problems.append("the connections have gone before the collection")
    gc.collect()
    for _ in range(60):
        if not (left := await count(observer, name)):
            break
        await asyncio.sleep(0.05)
    if left:
        problems.append(f"debug={debug}: {left} sessions are left after the collection")
    loop.call_soon_threadsafe(done.set)
    await asyncio.to_thread(thread.join, PATIENCE)
    await observer.close()


async def check(asyncpg, dsn):
    problems = []
    sys.unraisablehook = lambda what: problems.append(f"raised: {what.exc_value!r}")
    warnings.simplefilter("ignore", ResourceWarning)
    gc.disable()
    for debug in (False, True):
        await collect(asyncpg, dsn, debug=debug, problems=problems)
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P16: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P16: {problem}"[:200])
    print(f"P16: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
