# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q12"
# title = "a query frees the rows that another thread is reading from the cursor"
# releases = "<=2.9.13"
# use = "misuse"
# passes = "whole rows of one query, or an exception"
# fails-by = ["wrong answer", "crash", "hang", "exception"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q12: a query frees the rows that another thread is reading from the cursor.

Use:        threads share a cursor, which they should not: one fetches, and another one executes.
            With the GIL and without.
Symptom:    a crash, or a row of two queries.
Cause:      the result is read, freed and replaced without a lock.

Shows:      a type caster, which is Python code, starts a query on its cursor in another thread, and
            goes on when it is done, or when it has waited for a moment.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

import psycopg2
import psycopg2.extensions

WRONG, NOT_RUN = 3, 77
MOMENT = 0.2  # seconds: the other thread must wait for this one, so that only time ends this


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q12: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    cursor = psycopg2.connect(dsn).cursor()
    threads = []

    def query():
        cursor.execute("SELECT 'other', 'row'")

    def cast(value, cursor):
        if not threads:
            threads.append(threading.Thread(target=query, daemon=True))
            threads[0].start()
            threads[0].join(MOMENT)
        return int(value)

    kind = psycopg2.extensions.new_type((20,), "SLOW", cast)
    psycopg2.extensions.register_type(kind, cursor)
    cursor.execute("SELECT 1::bigint, repeat('x', 100000), 'end' FROM generate_series(1, 10)")
    row = cursor.fetchone()
    if row != (1, "x" * 100000, "end"):
        print(f"Q12: {str(row)[:100]}")
        return WRONG
    threads[0].join()
    if cursor.fetchall() != [("other", "row")]:
        print("Q12: the query of the other thread has other rows")
        return WRONG
    print("Q12: one after the other")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
