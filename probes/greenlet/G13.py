# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G13"
# title = "the main greenlet of a thread that has ended is freed while it is in use"
# releases = "<=3.5.6"
# use = "supported"
# passes = "threads that use greenlets end, and what others refer to is there as long as they do"
# fails-by = ["crash", "wrong answer"]
# runs = { baseline = 10, patched = 15 }
# seconds = 120
# ///
"""G13: the main greenlet of a thread that has ended is freed while it is in use.

Affects     all greenlet releases with free-threaded CPython. With the GIL, only the second case.
When        short threads use greenlets, if only by getcurrent(); they are started by another
            thread than the main one, and their OS threads have the same identifiers in turn.
            Or a thread ends, and another one has its main greenlet in a local variable.
What        segmentation fault, at once or in a later collection.
Why         when a thread has ended, greenlet counts the references to its main greenlet. If there
            is one too many, and the collector knows nobody who has it, it is taken for lost
            on the stack of a greenlet that could not be ended, and dropped. But it can be
            CPython's: the reference that waits, in a queue, for the thread that owns the greenlet
            to merge its two counts; and a new thread with the same identifier is taken for that
            one. Or it can be a local variable's, which the collector does not see.

Shows it    with both cases. Memory that was freed too early is used by other greenlets meanwhile.
"""

import sys
import sysconfig
import threading
import time

from greenlet import getcurrent, greenlet

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
THREADS = 5_000
HOLDERS = 20


def run_pending(until):
    """The main thread does what ended threads have left to it, when it runs Python code."""
    while not until():
        time.sleep(0.001)


def short_threads():
    """Each ends while the next one starts, with the same identifier, in most cases."""
    for _ in range(THREADS):
        thread = threading.Thread(target=getcurrent)
        thread.start()
        thread.join()


def hold():
    """Return what has become of the main greenlet of a thread that has ended."""
    given, end = threading.Event(), threading.Event()
    box = []

    def give():
        box.append(getcurrent())
        given.set()
        end.wait()

    thread = threading.Thread(target=give)
    thread.start()
    given.wait()
    held = box.pop()
    end.set()
    thread.join()
    for _ in range(20):
        time.sleep(0.001)  # see run_pending()
    others = [greenlet() for _ in range(100)]
    return type(held) is greenlet and held.dead and held not in others


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G13: this needs free-threaded CPython")
        return NOT_RUN
    print(f"G13: {THREADS} short threads ...", flush=True)
    spawner = threading.Thread(target=short_threads)
    spawner.start()
    run_pending(lambda: not spawner.is_alive())
    print(f"G13: {HOLDERS} main greenlets in local variables ...", flush=True)
    held = [hold() for _ in range(HOLDERS)]
    print(f"G13: ... {held.count(True)} as they were")
    return 0 if all(held) else WRONG_ANSWER


if __name__ == "__main__":
    sys.exit(main())
