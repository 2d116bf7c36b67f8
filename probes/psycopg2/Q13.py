# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q13"
# title = "a row is given to two threads that fetch from one cursor"
# releases = "<=2.9.13"
# use = "misuse"
# passes = "each row once, or an exception"
# fails-by = ["wrong answer", "crash", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q13: a row is given to two threads that fetch from one cursor.

Use:        threads share a cursor, which they should not, and fetch from it. With the GIL and
            without.
Symptom:    rows come twice, and others never.
Cause:      the number of the row is read, and raised when the row has been made.

Shows:      a type caster, which is Python code, fetches in another thread, and goes on when that is
            done, or when it has waited for a moment.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

import psycopg2
import psycopg2.extensions

WRONG, NOT_RUN = 3, 77
MOMENT = 0.2  # seconds: the other thread must wait for this one, so that only time ends this
ROWS = 6


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q13: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    cursor = psycopg2.connect(dsn).cursor()
    threads, rows = [], []

    def cast(value, cursor):
        if not threads:
            threads.append(threading.Thread(target=lambda: rows.append(cursor.fetchone())))
            threads[0].start()
            threads[0].join(MOMENT)
        return int(value)

    kind = psycopg2.extensions.new_type((20,), "SLOW", cast)
    psycopg2.extensions.register_type(kind, cursor)
    cursor.execute(f"SELECT generate_series(1, {ROWS})::bigint")
    rows.append(cursor.fetchone())
    threads[0].join()
    rows += cursor.fetchall()
    print(f"Q13: {sorted(rows)}")
    return 0 if sorted(rows) == [(number,) for number in range(1, ROWS + 1)] else WRONG


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
