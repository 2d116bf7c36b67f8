# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q1"
# title = "registering a type frees the caster that other threads are about to use"
# releases = "<=2.9.13"
# use = "supported"
# passes = "every value is cast as registered"
# fails-by = ["exception", "wrong answer", "crash", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 20
# ///
"""Q1: registering a type frees the caster that other threads are about to use.

Use:        register_default_json() in some threads, as the initialiser of a worker does, and
            queries on connections of their own in others, or cursor.cast(), as here.
Symptom:    psycopg2.Error: internal error: no casting function found; or a crash.
Cause:      a caster is looked up in the table of types without taking a reference to it. Another
            thread's registration replaces it, and it is freed before it is called.

Shows:      nothing can be put in between, so threads do both for some seconds, and the first
            failure ends it. The GIL is off, although psycopg2 turns it on.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import concurrent.futures
import json
import os
import sys
import time

if os.environ.get("PYTHON_GIL") != "0":  # psycopg2 turns the GIL on, which would hide it
    os.environ["PYTHON_GIL"] = "0"
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606  this program, once more

import psycopg2
import psycopg2.extras

WRONG, NOT_RUN = 3, 77
SECONDS = 3
JSON = 114  # the type in the server's catalogue


def race(*functions):
    """Call all functions again and again, each in a thread; return the first problem."""
    problems = []
    end = time.monotonic() + SECONDS

    def work(function):
        try:
            while not problems and time.monotonic() < end:
                function()
        except BaseException as error:
            problems.append(repr(error))

    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        list(pool.map(work, functions))
    return problems[0] if problems else None


def register():
    psycopg2.extras.register_default_json(globally=True, loads=json.loads)


def casting(dsn):
    cursor = psycopg2.connect(dsn).cursor()

    def cast():
        for _ in range(100):
            if (value := cursor.cast(JSON, "[1]")) != [1]:
                raise AssertionError(value)

    return cast


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q1: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    register()
    problem = race(register, register, casting(dsn), casting(dsn))
    print(f"Q1: {problem or 'every value was right'}")
    return WRONG if problem else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
