# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q34"
# title = "what another thread writes while a buffer is quoted ends outside of memory"
# releases = "<=2.9.13"
# use = "supported"
# passes = "a mixture of the bytes that the buffer had"
# fails-by = ["wrong answer", "crash", "hang", "exception"]
# runs = { baseline = 15, patched = 9 }
# seconds = 20
# ///
"""Q34: what another thread writes while a buffer is quoted ends outside of memory.

Use:        Binary(bytearray) in one thread, while another one changes the bytes in place.
Symptom:    a crash.
Cause:      libpq reads the bytes twice, for the size of the result and to write it. The export of
            a buffer keeps its size, not its bytes.

Shows:      nothing can be put in between, so threads do both for some seconds, and the first
            failure ends it. The GIL is off, although psycopg2 turns it on. Needs no server.
"""

import concurrent.futures
import os
import sys
import time

if os.environ.get("PYTHON_GIL") != "0":  # psycopg2 turns the GIL on, which would hide it
    os.environ["PYTHON_GIL"] = "0"
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606  this program, once more

import psycopg2

WRONG = 3
SECONDS = 1
SIZE = 300_000
shared = bytearray(b"a" * SIZE)
BEFORE, AFTER = b"a" * SIZE, bytes(SIZE)


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


def change():
    for value in (AFTER, BEFORE):
        shared[:] = value
        time.sleep(0.0003)


def quote():
    text = psycopg2.Binary(shared).getquoted()
    inside = text.removeprefix(b" ").removeprefix(b"E")[1:].removesuffix(b"'::bytea")
    if inside.strip(b"a0\\"):
        raise AssertionError(inside[:60])


def main():
    problem = race(change, quote, quote)
    print(f"Q34: {problem or 'every byte was one of the two'}")
    return WRONG if problem else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
