# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg==3.3.9"]
#
# [tool.freewheel.probe]
# defect = "C26"
# title = "a loader that was registered on a new connection is lost"
# releases = "<=3.3.9"
# use = "supported"
# passes = "the loader is there"
# fails-by = ["wrong answer"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""C26: a loader that was registered on a new connection is lost.

Use:        connection.adapters.register_loader() in one thread, while another one makes the first
            cursor. With the GIL and without.
Symptom:    values are loaded as if nothing had been registered.
Cause:      the map of a connection is made when it is first asked for. Each of two threads that ask
            at the same time makes one, and the last one stays.

Shows:      a trace function stops the thread that makes a cursor where it makes the map; meanwhile
            the other one registers. It goes on when that is done, or after a moment.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

import psycopg
from psycopg.adapt import AdaptersMap, Loader

WRONG, NOT_RUN = 3, 77
MOMENT = 0.3  # seconds: the other thread must wait, so that only time ends this
TEXT = 25  # the type in the server's catalogue


class Mine(Loader):
    def load(self, data):
        return "mine"


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("C26: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    connection = psycopg.connect(dsn)

    def register():
        connection.adapters.register_loader(TEXT, Mine)

    other = threading.Thread(target=register)

    def trace(frame, event, arg):
        if frame.f_code is AdaptersMap.__init__.__code__ and not other.ident:
            other.start()
            other.join(MOMENT)

    def make_cursor():
        sys.settrace(trace)
        connection.cursor()

    first = threading.Thread(target=make_cursor)
    first.start()
    first.join()
    other.join()
    value = connection.execute("SELECT 'text'::text").fetchone()
    connection.close()
    print(f"C26: {value}")
    return 0 if value == ("mine",) else WRONG


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
