# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q5"
# title = "what libpq knows of a connection is read while another thread closes it"
# releases = "<=2.9.13"
# use = "supported"
# passes = "the value, or what a closed connection says"
# fails-by = ["wrong answer", "exception", "crash"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q5: what libpq knows of a connection is read while another thread closes it.

Use:        close() in one thread, and connection.info, quoting or get_parameter_status() in others.
            With the GIL and without.
Symptom:    the text of something else as the name of the database; or a crash.
Cause:      libpq is called without the lock of the connection, after a look whether it is closed.

Shows:      the connection has received a large row, so that freeing its memory takes a while, in
            which another thread reads. The C library overwrites what is freed.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

if "MALLOC_PERTURB_" not in os.environ:  # so that what was freed can be told
    os.environ["MALLOC_PERTURB_"] = "165"
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606  this program, once more

import psycopg2

WRONG, NOT_RUN = 3, 77
LARGE = 40_000_000  # bytes


def read(connection, name, started, problems):
    info = connection.info
    started.set()
    while not problems:
        closed = connection.closed
        try:
            value = info.dbname
            if value not in (name, None):
                problems.append(f"the database is called {value!r}")
        except psycopg2.Error:
            pass
        if closed:
            break


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q5: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    problems = []
    for _ in range(3):
        connection = psycopg2.connect(dsn)
        name = connection.info.dbname
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT repeat('x', {LARGE})")
        started = threading.Event()
        args = (connection, name, started, problems)
        threads = [threading.Thread(target=read, args=args) for _ in range(2)]
        for thread in threads:
            thread.start()
        started.wait()
        connection.close()
        for thread in threads:
            thread.join()
        if problems:
            print(f"Q5: {problems[0]}")
            return WRONG
    print("Q5: every value was right")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
