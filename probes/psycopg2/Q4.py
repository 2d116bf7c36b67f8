# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q4"
# title = "rows and parameters are in an encoding that another thread has changed"
# releases = "<=2.9.13"
# use = "supported"
# passes = "every text arrives as it was"
# fails-by = ["wrong answer", "exception", "crash"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q4: rows and parameters are in an encoding that another thread has changed.

Use:        set_client_encoding() in one thread, while others use the connection.
Symptom:    another text, UnicodeDecodeError, or a crash.
Cause:      rows are decoded in the encoding that the connection has when they are fetched, and a
            query is sent in the one that it has then, not in the one that it was put together in.
            The codecs and the name are freed and replaced without the lock.

Shows:      rows that are fetched after another thread has changed the encoding; and a parameter
            whose adapter waits for a thread that changes it. With the GIL and without.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

import psycopg2

WRONG, NOT_RUN = 3, 77
TEXT = "é ü ß"


def elsewhere(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


class Slow:
    """A parameter during whose adaptation another thread changes the encoding, once."""

    def __init__(self, connection, encoding):
        self.connection = connection
        self.encoding = encoding

    def __conform__(self, protocol):
        return self

    def getquoted(self):
        elsewhere(self.connection.set_client_encoding, self.encoding)
        return b"NULL"


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q4: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    connection = psycopg2.connect(dsn)
    for before, after in (("UTF8", "WIN1252"), ("WIN1252", "UTF8")) * 2:
        connection.set_client_encoding(before)
        cursor = connection.cursor()
        cursor.execute("SELECT %s, length(%s)", (TEXT, TEXT))
        elsewhere(connection.set_client_encoding, after)
        row = cursor.fetchone()
        if row != (TEXT, len(TEXT)):
            print(f"Q4: {row} was fetched after the change")
            return WRONG
        connection.set_client_encoding(before)
        cursor.execute("SELECT length(%s), %s, %s", (TEXT, Slow(connection, after), TEXT))
        row = cursor.fetchone()
        if row != (len(TEXT), None, TEXT):
            print(f"Q4: {row} was sent during the change")
            return WRONG
    print("Q4: every text was right")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
