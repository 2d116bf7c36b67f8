# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G2"
# title = "a greenlet dropped by another thread makes its own thread hang"
# releases = ">=3.4.0,<=3.5.6"
# use = "supported"
# passes = "the calls return, and the `finally` block ran, in the greenlet's own thread"
# fails-by = ["hang"]
# runs = { baseline = 4, patched = 70 }
# seconds = 3
# ///
"""G2: a greenlet dropped by another thread makes its own thread hang.

Use:        a thread hands a suspended greenlet to another one, and that drops the last reference:
            a queue of work, a cache, a traceback.
Symptom:    the next greenlet call in the thread the greenlet belongs to, even getcurrent(), never
            returns, and not even Ctrl+C ends it.
Cause:      only its own thread can kill a greenlet, so the other one puts it on a list. The first
            holds the list's lock while it deletes the greenlets on it, and comes back for the lock
            in doing so. In free-threaded builds, with the GIL on or off. If the other thread lives
            on, it does not get as far: see G3.

Shows:      a thread suspends a greenlet in `try: ... finally: ...`; another thread drops it, and
            then ends, or stays. Then the first one makes greenlet calls. They return in
            milliseconds or never.
"""

import os
import sys
import sysconfig
import threading
import time

from greenlet import getcurrent, greenlet

WRONG_ANSWER, LEAK, NOT_RUN = 3, 4, 77  # docs/probes.md
CALLS = 200
PAUSE = 0.005  # seconds between them


def fail(code, what):
    print(f"G2: {what}", flush=True)
    os._exit(code)  # the end of the thread or of the process may hang


def threads_that_killed(stays, call):
    """Have a greenlet dropped by another thread; return the threads its `finally` block ran in."""
    main = getcurrent()
    ran = []

    def suspended():
        try:
            main.switch()
        finally:
            ran.append(threading.get_ident())

    box = [greenlet(suspended)]
    box[0].switch()
    taken, given, dropped, end = (threading.Event() for _ in range(4))

    def drop():
        taken_over = box[0]
        taken.set()
        given.wait()
        del taken_over  # the last reference
        dropped.set()
        while stays and not end.wait(0.001):
            pass  # run Python code, so that what is queued for this thread gets done

    other = threading.Thread(target=drop, daemon=True)
    other.start()
    taken.wait()
    box.clear()
    given.set()
    dropped.wait()
    if not stays:
        other.join()
    for _ in range(CALLS):
        call()
        if ran:
            break
        time.sleep(PAUSE)
    else:
        fail(LEAK, f"never killed, in {CALLS} calls")
    end.set()
    other.join()
    return ran


def switch():
    greenlet(int).switch()


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G2: this needs free-threaded CPython")
        sys.exit(NOT_RUN)
    for stays in (False, True):
        for call in (getcurrent, switch):
            thread = "stays" if stays else "ends"
            print(f"G2: dropped by a thread that {thread}; {call.__name__}() ...", flush=True)
            ran = threads_that_killed(stays, call)
            if ran != [threading.get_ident()]:
                fail(WRONG_ANSWER, "killed in the wrong thread, or more than once")
            print("G2: ... killed", flush=True)


if __name__ == "__main__":
    main()
