# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q2"
# title = "registering an adapter frees the one that other threads are about to call"
# releases = "<=2.9.13"
# use = "supported"
# passes = "every value is adapted by one of the registered adapters"
# fails-by = ["exception", "wrong answer", "crash", "hang"]
# runs = { baseline = 15, patched = 9 }
# seconds = 20
# ///
"""Q2: registering an adapter frees the one that other threads are about to call.

Use:        register_adapter() in some threads, and parameters of that type in others.
Symptom:    a crash.
Cause:      an adapter is looked up in extensions.adapters without taking a reference to it. What
            another thread registers takes its place, and it is freed before it is called.

Shows:      nothing can be put in between, so threads do both for some seconds, and the first
            failure ends it. The GIL is off, although psycopg2 turns it on. Classes and their
            subclasses are looked up in different places. Needs no server.
"""

import concurrent.futures
import os
import sys
import time

if os.environ.get("PYTHON_GIL") != "0":  # psycopg2 turns the GIL on, which would hide it
    os.environ["PYTHON_GIL"] = "0"
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606  this program, once more

import psycopg2.extensions

WRONG = 3
SECONDS = 3


class Point:
    pass


class Special(Point):
    pass


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
    for _ in range(100):
        text = "point"  # so that each function is a new one
        psycopg2.extensions.register_adapter(
            Point, lambda value, text=text: psycopg2.extensions.AsIs(text)
        )


def adapt():
    for value in (Point(), Special()) * 50:
        if psycopg2.extensions.adapt(value).getquoted() != b"point":
            raise AssertionError("another text")


def main():
    register()
    problem = race(register, register, adapt, adapt, adapt)
    print(f"Q2: {problem or 'every value was right'}")
    return WRONG if problem else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
