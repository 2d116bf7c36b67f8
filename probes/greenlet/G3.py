# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G3"
# title = "a greenlet dropped by another thread is never killed"
# releases = "<=3.5.6"
# use = "supported"
# passes = "each `finally` block ran once, in its greenlet's thread, and so did each `__del__`"
# fails-by = ["leak", "crash"]
# runs = { baseline = 10, patched = 60 }
# seconds = 30
# ///
"""G3: a greenlet dropped by another thread is never killed.

Use:        a thread hands suspended greenlets to another one, and that drops the last reference:
            a queue of work, a cache, a traceback.
Symptom:    as long as the other thread lives, the greenlets' `finally` blocks do not run, and what
            they refer to stays.
Cause:      only its own thread can kill a greenlet, so the thread that drops it brings it back to
            life and puts it on a list for its own thread. In doing that, it becomes the owner of
            the object. So when the right thread drops the reference from the list, that is only a
            request to the owner, which finds that it cannot kill the greenlet and puts it on the
            list again. And it is on the list before it is alive again, so that its own thread may
            free it meanwhile: rarely, that is a crash. In free-threaded builds, with the GIL on or
            off.

Shows:      a thread suspends greenlets in `try: ... finally: ...`; another one drops them and
            lives on. The first makes greenlet calls for as long as this can take. Some are
            instances of a subclass that has a __del__ method, some were created by the other
            thread.
"""

import os
import sys
import sysconfig
import threading
import time
from collections import Counter

from greenlet import getcurrent, greenlet

WRONG_ANSWER, LEAK, NOT_RUN = 3, 4, 77  # docs/probes.md
CALLS = 100
PAUSE = 0.002  # seconds between them
KINDS = ("created elsewhere", "greenlet", "subclass")
EACH = 4

ran = []  # the kind, and the thread its `finally` block ran in
deleted = []


class WithDel(greenlet):
    def __del__(self):
        deleted.append("subclass")


def fail(code, what):
    print(f"G3: {what}", flush=True)
    os._exit(code)  # the end of the other thread may hang: that is G2


def suspended(main, kind):
    try:
        main.switch()
    finally:
        ran.append((kind, threading.get_ident()))


def drop_elsewhere():
    """Have another thread drop greenlets of this one, and make greenlet calls while it lives."""
    main = getcurrent()
    box = []
    created, start, taken, given, dropped, end = (threading.Event() for _ in range(6))

    def drop():
        box.extend(greenlet(suspended, main) for _ in range(EACH))
        created.set()
        start.wait()
        taken_over = box[:]
        taken.set()
        given.wait()
        del taken_over[:]  # the last references
        dropped.set()
        while not end.wait(0.001):
            pass  # run Python code, so that what is queued for this thread gets done

    other = threading.Thread(target=drop, daemon=True)
    other.start()
    created.wait()
    box.extend(greenlet(suspended) for _ in range(EACH))
    box.extend(WithDel(suspended) for _ in range(EACH))
    for index, one in enumerate(box):
        one.switch(main, KINDS[index // EACH])
    del one
    start.set()
    taken.wait()
    box.clear()
    given.set()
    dropped.wait()
    for _ in range(CALLS):
        greenlet(int).switch()
        getcurrent()
        if len(ran) == len(KINDS) * EACH and len(deleted) == EACH:
            break
        time.sleep(PAUSE)
    return other, end


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G3: this needs free-threaded CPython")
        sys.exit(NOT_RUN)
    other, end = drop_elsewhere()
    killed = Counter(kind for kind, _ in ran)
    elsewhere = [kind for kind, thread in ran if thread != threading.get_ident()]
    what = f"of {EACH} each were killed {dict(killed)}, {len(deleted)} calls of __del__"
    if any(killed[kind] < EACH for kind in KINDS) or len(deleted) < EACH:
        fail(LEAK, what)
    if any(killed[kind] > EACH for kind in KINDS) or len(deleted) > EACH:
        fail(WRONG_ANSWER, what)
    if elsewhere:
        fail(WRONG_ANSWER, f"killed in the wrong thread: {elsewhere}")
    end.set()
    other.join()
    print(f"G3: {what}")


if __name__ == "__main__":
    main()
