# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q6"
# title = "a query of another thread cuts a COPY short"
# releases = "<=2.9.13"
# use = "supported"
# passes = "the COPY is whole, and the query gets its answer after it"
# fails-by = ["wrong answer", "exception", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q6: a query of another thread cuts a COPY short.

Use:        a shared connection with a cursor for each thread: COPY in one thread, and a query in
            another. The documentation says that commands are serialised. With the GIL and without.
Symptom:    psycopg2.errors.QueryCanceled: COPY terminated by new PQexec; no COPY in progress.
Cause:      the lock of the connection is given back before the data is moved.

Shows:      the file of the COPY starts a query in another thread, and goes on when it is done, or
            when it has waited for a moment. In both directions.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

import psycopg2

WRONG, NOT_RUN = 3, 77
ROWS = 20000
MOMENT = 0.2  # seconds: the query must wait for the COPY, so that only time ends this
PATIENCE = 20


class File:
    """Rows to read or to write; in the middle of it another thread makes a query."""

    def __init__(self, connection):
        self.connection = connection
        self.rows = "".join(f"{number}\n" for number in range(ROWS))
        self.at, self.written, self.answer, self.thread = 0, [], None, None

    def query(self):
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT 42")
                self.answer = cursor.fetchone()
        except psycopg2.Error as error:
            self.answer = error

    def interrupt(self):
        if not self.thread:
            self.thread = threading.Thread(target=self.query, daemon=True)
            self.thread.start()
            self.thread.join(MOMENT)

    def read(self, size):
        self.interrupt()
        self.at += size
        return self.rows[self.at - size : self.at]

    def write(self, text):
        self.interrupt()
        self.written.append(text)

    def problem(self):
        self.thread.join(PATIENCE)
        return self.answer != (42,) and f"the query gave {self.answer!r}"


def problems(connection):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE q6 (number int)")
        file = File(connection)
        cursor.copy_from(file, "q6")
        yield cursor.rowcount != ROWS and f"{cursor.rowcount} rows were copied"
        yield file.problem()
        file = File(connection)
        cursor.copy_expert(f"COPY (SELECT generate_series(0, {ROWS - 1})) TO STDOUT", file)
        text = b"".join(file.written).decode()
        yield text != file.rows and f"{len(text)} of {len(file.rows)} bytes came back"
        yield file.problem()


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q6: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    for problem in filter(None, problems(connection)):
        print(f"Q6: {problem}")
        return WRONG
    print("Q6: both were whole")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
