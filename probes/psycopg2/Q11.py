# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q11"
# title = "a second thread enters a connection before the first one has committed"
# releases = "<=2.9.13"
# use = "supported"
# passes = "the second block begins when the first one is committed"
# fails-by = ["wrong answer", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q11: a second thread enters a connection before the first one has committed.

Use:        two threads use "with connection" on a shared connection. With the GIL and without.
Symptom:    what the second block does is committed, or undone, by the first one's end.
Cause:      leaving the block says that nobody is inside before it commits, and entering it looks
            and says so in two steps without the lock.

Shows:      a COMMIT that takes a moment in the server; another thread tries to enter meanwhile.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading
import time

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

WRONG, NOT_RUN = 3, 77
SETUP = """
CREATE FUNCTION pg_temp.slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
CREATE TEMP TABLE q11 (number int);
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON q11 DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION pg_temp.slow();
"""


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q11: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    connection = psycopg2.connect(dsn)
    connection.cursor().execute(SETUP)
    connection.commit()
    seen = []

    def enter():
        time.sleep(0.2)  # the COMMIT is under way
        try:
            with connection:
                seen.append(connection.get_transaction_status())
        except psycopg2.ProgrammingError:
            seen.append("refused")

    thread = threading.Thread(target=enter)
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO q11 VALUES (1)")
        thread.start()
    thread.join()
    if seen not in (["refused"], [TRANSACTION_STATUS_IDLE]):
        print(f"Q11: inside of both blocks: the status of the transaction is {seen}")
        return WRONG
    print("Q11: one after the other")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
