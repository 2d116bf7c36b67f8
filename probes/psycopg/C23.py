# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg==3.3.9"]
#
# [tool.freewheel.probe]
# defect = "C23"
# title = "a query of another thread goes into a pipeline, which ends before its answer"
# releases = "<=3.3.9"
# use = "supported"
# passes = "every thread gets its own answers"
# fails-by = ["wrong answer", "hang", "exception"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""C23: a query of another thread goes into a pipeline, which ends before its answer.

Use:        connection.pipeline() in one thread and execute() in others, on a shared connection.
            With the GIL and without.
Symptom:    AttributeError: 'NoneType' object has no attribute '_fetch_gen'; or AssertionError,
            another thread's answer, or none.
Cause:      the pipeline belongs to the connection. What other threads do meanwhile goes into it,
            and they look at it before they use it, when it may have ended.

Shows:      a trace function stops the other thread where it is about to fetch from the pipeline, if
            it gets there; the first thread ends the pipeline when it does, or after a moment.

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
        print("C23: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    connection = psycopg.connect(dsn, autocommit=True)
    answers = []
    reached, ended = threading.Event(), threading.Event()
    fetch = psycopg.Cursor._fetch_pipeline.__code__  # noqa: SLF001  where it looks
    # The first line that is executed after the look at the pipeline.
    line = max(number for *_, number in fetch.co_lines() if number)

    def trace(frame, event, arg):
        if frame.f_code is fetch and event == "line" and frame.f_lineno >= line - 1:
            reached.set()
            ended.wait()
        return trace

    def query():
        sys.settrace(trace)
        try:
            answers.append(connection.execute("SELECT 42").fetchone())
        except BaseException as error:
            answers.append(error)

    other = threading.Thread(target=query, daemon=True)
    with connection.pipeline():
        cursor = connection.execute("SELECT 7")
        other.start()
        reached.wait(MOMENT)
    answers.append(cursor.fetchone())
    ended.set()
    other.join()
    print(f"C23: {answers}")
    return 0 if sorted(answers, key=str) == [(42,), (7,)] else WRONG


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
