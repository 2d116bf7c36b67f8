# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q33"
# title = "an adapter that threads share releases its connection twice"
# releases = "<=2.9.13"
# use = "supported"
# passes = "every connection is released once, and the adapter can be used"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q33: an adapter that threads share releases its connection twice.

Use:        a constant such as Binary(b"...") is a parameter in several threads, which have
            connections of their own.
Symptom:    a crash, or a connection that is closed under its owner.
Cause:      prepare() releases the old connection before it stores the new one. Whoever comes in
            between finds the old one still there and releases it, too. So does the list's
            adapter, and the text that is kept.

Shows:      the last reference to a connection is the adapter's, and its __del__ waits for a thread
            that prepares the adapter for another one. With the GIL and without.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

import psycopg2
import psycopg2.extensions

WRONG, NOT_RUN = 3, 77


class Connection(psycopg2.extensions.connection):
    dying = None

    def __del__(self):
        if self.dying:
            thread = threading.Thread(target=self.dying)
            thread.start()
            thread.join()


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q33: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    others = [psycopg2.connect(dsn) for _ in range(2)]
    before = [sys.getrefcount(connection) for connection in others]
    for make in (psycopg2.Binary, psycopg2.extensions.QuotedString):
        for _ in range(5):
            shared = make(b"constant")
            first = psycopg2.connect(dsn, connection_factory=Connection)
            first.dying = lambda shared=shared: shared.prepare(others[1])
            shared.prepare(first)
            del first
            shared.prepare(others[0])
            if b"constant" not in shared.getquoted() and b"636f" not in shared.getquoted():
                print(f"Q33: {shared.getquoted()}")
                return WRONG
            del shared
    for connection in others:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    del connection, cursor
    if before != [sys.getrefcount(connection) for connection in others]:
        print("Q33: a connection is held for ever, or not enough")
        return WRONG
    print("Q33: each connection was released once")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
