# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "PP4"
# title = "threads count references to the type of each UUID that they free"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "UUIDs come and go without a reference to their type being counted"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# ///
"""PP4: threads count references to the type of each UUID that they free.

Releases:   asyncpg 0.31.0 and 0.32.0.
Use:        threads that fetch rows with UUIDs, each with a loop and a connection of its own.
Symptom:    they hinder each other.
Cause:      the compiled modules define CYTHON_USE_TYPE_SPECS, so that their types are allocated and
            each of their objects has a reference to its type. CPython counts the new ones in each
            thread by itself, but Cython drops them with Py_DECREF(), an atomic operation on one
            counter of the process unless the thread is the one that made the type.

Shows:      what sys.getrefcount() has of the type, before and after one thread has made UUIDs and
            freed them. It does not have what threads count by themselves, until a collection adds
            that; so what is dropped elsewhere is missing.
"""

import gc
import sys
import threading

from asyncpg.pgproto.pgproto import UUID

WRONG_ANSWER = 3  # docs/probes.md
VALUES = 1000


def count():
    gc.disable()
    before = sys.getrefcount(UUID)
    for number in range(VALUES):
        UUID(number.to_bytes(16))
    dropped.append(before - sys.getrefcount(UUID))


dropped = []


def main():
    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
    if not dropped:
        raise RuntimeError("the thread has not come to its end")
    print(f"PP4: {VALUES} UUIDs freed, {dropped[0]} references dropped where all threads count")
    return WRONG_ANSWER if dropped[0] else 0


if __name__ == "__main__":
    sys.exit(main())
