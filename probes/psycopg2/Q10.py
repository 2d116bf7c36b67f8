# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q10"
# title = "parameters are written past the end of their tuple when the sequence grows"
# releases = "<=2.9.13"
# use = "supported"
# passes = "an exception, or the parameters as they were at one moment"
# fails-by = ["wrong answer", "crash", "hang", "exception"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 20
# ///
"""Q10: parameters are written past the end of their tuple when the sequence grows.

Use:        a list of parameters to which another thread appends. With the GIL and without.
Symptom:    a crash.
Cause:      the tuple of quoted parameters is as long as the sequence is at the first placeholder.
            What has been appended by the time the other placeholders come is written behind it.

Shows:      the first parameter's adapter is Python code, which waits for a thread that appends.
            A list, and a sequence of another kind. Needs a connection, but executes nothing.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import collections
import os
import sys
import threading

import psycopg2

WRONG, NOT_RUN = 3, 77
MORE = 20000


class Slow:
    """A parameter that appends to its own sequence while it is quoted, in another thread."""

    def __init__(self, shared):
        self.shared = shared

    def __conform__(self, protocol):
        return self

    def getquoted(self):
        thread = threading.Thread(target=self.shared.extend, args=(["x"] * MORE,))
        thread.start()
        thread.join()
        return b"'slow'"


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q10: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    cursor = psycopg2.connect(dsn).cursor()
    for kind in (list, collections.UserList) * 3:
        shared = kind()
        shared.extend([Slow(shared), "x"])
        try:
            text = cursor.mogrify(", ".join(["%s"] * (MORE + 2)), shared)
        except (IndexError, TypeError, psycopg2.ProgrammingError):
            continue
        if text != b"'slow'" + b", 'x'" * (MORE + 1):
            print(f"Q10: {text[:100]}")
            return WRONG
    print("Q10: the parameters that came too late were refused")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
