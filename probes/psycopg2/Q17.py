# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q17"
# title = "poll() takes the answer of another thread"
# releases = "<=2.9.13"
# use = "supported"
# passes = "every query gets its answer, and every notification comes once"
# fails-by = ["wrong answer", "exception", "hang", "crash"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q17: poll() takes the answer of another thread.

Use:        the documented loop for notifications, select and connection.poll(), in one thread, and
            queries on the same connection in another. With the GIL and without.
Symptom:    OperationalError, an answer that never comes, or a crash.
Cause:      poll() uses libpq without the lock of the connection.

Shows:      one thread polls all the time, while another one executes queries that take a while.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

import psycopg2

WRONG, HANG, NOT_RUN = 3, 5, 77
QUERIES = 150
STATE = "SELECT state FROM pg_stat_activity WHERE pid = %s"
LOOKS = 20  # in a row, in which the server has nothing to do, and the thread still waits


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q17: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    pid = connection.get_backend_pid()
    channel = f"q17_{os.getpid()}"
    connection.cursor().execute(f"LISTEN {channel}")
    observer = psycopg2.connect(dsn)
    observer.autocommit = True
    problems, answered, done = [], [], threading.Event()

    def poll():
        try:
            while not done.is_set():
                connection.poll()
        except BaseException as error:
            problems.append(f"poll(): {error!r}")

    def query():
        try:
            with connection.cursor() as cursor:
                for number in range(QUERIES):
                    cursor.execute(
                        "SELECT %s, pg_sleep(0.001)::text, pg_notify(%s, %s)::text",
                        (number, channel, str(number)),
                    )
                    if (row := cursor.fetchone()) != (number, "", ""):
                        problems.append(f"the answer is {row}")
                    answered.append(number)
        except BaseException as error:
            problems.append(f"execute(): {error!r}")
        done.set()

    for work in (poll, poll, query):
        threading.Thread(target=work, daemon=True).start()
    looks = before = 0
    while looks < LOOKS and not done.wait(0.1):
        with observer.cursor() as cursor:
            cursor.execute(STATE, (pid,))
            idle = cursor.fetchone() == ("idle",) and len(answered) == before
        looks, before = looks + 1 if idle else 0, len(answered)
    came = sorted(int(notify.payload) for notify in connection.notifies)
    if not problems and done.is_set() and came != list(range(QUERIES)):
        problems.append(f"notifications came for {came}")
    if not problems and not done.is_set():
        print("Q17: a query waits for an answer that another thread has taken")
        return HANG
    print(f"Q17: {(problems or ['every answer was right'])[0]}")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
