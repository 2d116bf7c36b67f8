# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg==3.3.9"]
#
# [tool.freewheel.probe]
# defect = "C12"
# title = "threads that share a PGconn get the answers of each other, or wait for ever"
# releases = "<=3.3.9"
# use = "misuse"
# passes = "each thread gets its own answer, or an exception"
# fails-by = ["wrong answer", "hang", "exception", "crash"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""C12: threads that share a PGconn get the answers of each other, or wait for ever.

Use:        threads share a pq.PGconn, which they should not, and execute. With the GIL and without.
Symptom:    another thread's answer, or none: MemoryError, or waiting for ever.
Cause:      the implementation in Python calls libpq with no lock at all. So closing a connection
            frees what other threads read (C19), and parameters are read while they change (C2).

Shows:      a query that takes a moment in the server, and others meanwhile.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading
import time

os.environ["PSYCOPG_IMPL"] = "python"  # this is about that one

import psycopg
from psycopg import pq

WRONG, HANG, NOT_RUN = 3, 5, 77
LOOKS = 30  # in a row, in which the server has nothing to do, and a thread still waits
STATE = "SELECT state FROM pg_stat_activity WHERE pid = %s"


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("C12: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    pgconn = pq.PGconn.connect(dsn.encode())
    observer = psycopg.connect(dsn, autocommit=True)
    pid = pgconn.backend_pid
    wrong = []

    def ask(number, moment):
        for _ in range(5):
            try:
                result = pgconn.exec_(b"SELECT '%d', pg_sleep(%f)" % (number, moment))
                answer = result.get_value(0, 0)
            except psycopg.Error:
                continue
            except MemoryError as error:
                answer = error
            if answer != b"%d" % number:
                wrong.append(answer)

    threads = [
        threading.Thread(target=ask, args=(number, 0.02), daemon=True) for number in range(3)
    ]
    for thread in threads:
        thread.start()
    looks = 0
    while looks < LOOKS and not wrong and any(thread.is_alive() for thread in threads):
        time.sleep(0.1)
        idle = observer.execute(STATE, (pid,)).fetchone() == ("idle",)
        looks = looks + 1 if idle else 0
    if looks == LOOKS:
        print("C12: a thread waits for an answer that another one has taken")
        return HANG
    print(f"C12: {wrong or 'every answer was right'}")
    return WRONG if wrong else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
