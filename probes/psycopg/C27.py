# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg==3.3.9"]
#
# [tool.freewheel.probe]
# defect = "C27"
# title = "stream() is refused because of the pipeline of another thread"
# releases = "<=3.3.9"
# use = "supported"
# passes = "both threads get their answers"
# fails-by = ["wrong answer", "hang", "exception"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""C27: stream() is refused because of the pipeline of another thread.

Use:        stream() in one thread and executemany() in another, on a shared connection. With the
            GIL and without.
Symptom:    ProgrammingError: stream() cannot be used in pipeline mode
Cause:      executemany() uses a pipeline while it has the lock of the connection, and stream()
            looks whether there is one before it takes the lock.

Shows:      the parameters of executemany() come from a generator, which starts stream() in another
            thread, and goes on when it is done, or when it has waited for a moment.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

import psycopg

WRONG, NOT_RUN = 3, 77
MOMENT = 0.3  # seconds: the other thread must wait, so that only time ends this


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("C27: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    connection = psycopg.connect(dsn, autocommit=True)
    connection.execute("CREATE TEMP TABLE c27 (number int)")
    answers = []

    def stream():
        try:
            answers.extend(connection.cursor().stream("SELECT generate_series(1, 3)"))
        except psycopg.Error as error:
            answers.append(error)

    thread = threading.Thread(target=stream)

    def parameters():
        yield (1,)
        thread.start()
        thread.join(MOMENT)
        yield (2,)

    connection.cursor().executemany("INSERT INTO c27 VALUES (%s)", parameters())
    thread.join()
    stored = connection.execute("SELECT number FROM c27 ORDER BY number").fetchall()
    print(f"C27: {answers}, {stored}")
    return 0 if (answers, stored) == ([(1,), (2,), (3,)], [(1,), (2,)]) else WRONG


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
