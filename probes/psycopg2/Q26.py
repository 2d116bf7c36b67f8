# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q26"
# title = "a list that shrinks while it is quoted is read past its end"
# releases = "<=2.9.13"
# use = "supported"
# passes = "an exception, or the list as it was at one moment"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 20
# ///
"""Q26: a list that shrinks while it is quoted is read past its end.

Use:        a list is a parameter, and another thread empties it. With the GIL and without.
Symptom:    a crash.
Cause:      the adapter of lists asks for the length once, and borrows the items. Items that are
            gone by the time their turn comes are used after they were freed.

Shows:      the first item's adapter is Python code, which waits for a thread that empties the
            list and makes others from its memory. Needs a connection, but executes nothing.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

import psycopg2

WRONG, NOT_RUN = 3, 77
ITEMS = 5000


class Slow:
    """An item that empties its own list while it is quoted, in another thread."""

    def __init__(self, shared):
        self.shared = shared

    def __conform__(self, protocol):
        return self

    def empty(self):
        self.shared.clear()
        self.others = [bytearray(64) for _ in range(ITEMS)]

    def getquoted(self):
        thread = threading.Thread(target=self.empty)
        thread.start()
        thread.join()
        return b"'slow'"


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q26: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    cursor = psycopg2.connect(dsn).cursor()
    for _ in range(5):
        shared = []
        shared.append(Slow(shared))
        shared.extend(f"item {number}" for number in range(ITEMS))
        wanted = ", ".join(["ARRAY['slow'", *(f"'item {n}'" for n in range(ITEMS))])
        text = cursor.mogrify("%s", (shared,)).decode()
        if text.replace(",", ", ") != wanted + "]":
            print(f"Q26: {text[:100]}")
            return WRONG
    print("Q26: the list as it was")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
