# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q8"
# title = "connection.notices is used after another thread took it away"
# releases = "<=2.9.13"
# use = "supported"
# passes = "the notice is lost or comes, and nothing else happens"
# fails-by = ["wrong answer", "crash", "hang", "exception"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q8: connection.notices is used after another thread took it away.

Use:        connection.notices and connection.notifies are replaced, as the documentation says that
            they may be, while others execute statements.
Symptom:    a crash.
Cause:      the list is used without a reference to it, and looked at once more at the end.

Shows:      a list whose append() waits for a thread that takes it away from the connection. With
            the GIL and without.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

import psycopg2

WRONG, NOT_RUN = 3, 77
NOTICE = "DO $$ BEGIN RAISE NOTICE 'one'; END $$"


class Notices:
    def __init__(self, take):
        self.take = take
        self.came = []

    def append(self, notice):
        self.came.append(notice)
        thread = threading.Thread(target=self.take)
        thread.start()
        thread.join()


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q8: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    connection = psycopg2.connect(dsn)
    cursor = connection.cursor()
    for _ in range(5):
        connection.notices = notices = Notices(lambda: delattr(connection, "notices"))
        cursor.execute(NOTICE)
        cursor.execute("SELECT 42")
        if len(notices.came) != 1 or cursor.fetchone() != (42,):
            print(f"Q8: {notices.came}")
            return WRONG
    print("Q8: the notices came")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
