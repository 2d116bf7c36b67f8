# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "GP2"
# title = "each switch turns garbage collection off and on, in memory that all threads share"
# releases = "<=3.5.6"
# use = "supported"
# passes = "while other threads switch, collection stays as it is set: always on, or always off"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 15 }
# seconds = 30
# exclusive = true
# ///
"""GP2: each switch turns garbage collection off and on, in memory that all threads share.

Affects     all greenlet releases with free-threaded CPython, the GIL on or off.
When        threads switch greenlets, each its own: what every application does.
What        two threads get less done than two processes do. gc.isenabled() says no where nobody
            disabled it, and what gc.disable() does in one thread, a switch in another may undo.
Why         a switch makes a frame object, which must not make a collection run. So greenlet
            disables collection for that moment. There is one flag for all threads: they wait for
            each other to write to it, and see what the others wrote. (Since 3.5.6 it is read and
            written in one step; before, it could stay off for good: G11.) Free-threaded CPython
            never collects garbage while something is allocated.

Shows it    by what is written, not by the time that takes. Two threads switch. Another looks at
            the flag now and then, first where collection is on, then after gc.disable(), until it
            was something else, or has been right often enough. With the defect it is wrong in a
            third of the moments.
"""

import gc
import sys
import sysconfig
import threading
import time

THREADS = 2
MOMENTS = 1500  # at which the flag has to be as it was set
PAUSE = 0.0001  # seconds; the next moment is some other one for the threads


class Switching:
    """Threads that switch to and fro, and count."""

    def __init__(self):
        self.counts = [0] * THREADS
        self.ended = False
        self.threads = [threading.Thread(target=self.run, args=[n]) for n in range(THREADS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self.ended = True
        for thread in self.threads:
            thread.join()

    def run(self, number):
        from greenlet import getcurrent, greenlet

        main = getcurrent()

        def switch_back():
            while True:
                main.switch()

        def switch():  # each call has a frame of its own
            other.switch()

        other = greenlet(switch_back)
        while not self.ended:
            switch()
            self.counts[number] += 1


def other_than(expected, switching):
    """Whether somebody changed the flag in one of so many moments, between which they switched."""
    for _ in range(MOMENTS):
        before = switching.counts[:]
        while all(now == then for now, then in zip(switching.counts, before, strict=True)):
            time.sleep(PAUSE)
            if gc.isenabled() != expected:
                return True
    return False


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED") or not gc.isenabled():
        print("GP2: needs a free-threaded interpreter, and garbage collection")
        return 77
    with Switching() as switching:
        turned_off = other_than(True, switching)
        gc.disable()
        turned_on = other_than(False, switching)
    print(f"GP2: seen off where it was on: {turned_off}, on where it was off: {turned_on}")
    return 3 if turned_off or turned_on else 0


if __name__ == "__main__":
    sys.exit(main())
