# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "GP1"
# title = "every greenlet maps memory for its first Python frame and unmaps it at its end"
# releases = "<=3.5.6"
# use = "supported"
# passes = "in no case more than one page fault in ten greenlets"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""GP1: every greenlet maps memory for its first Python frame and unmaps it at its end.

Use:        greenlet(f).switch() in a loop, as SQLAlchemy's asyncio layer does for every statement.
Symptom:    creating and running a short greenlet takes about 10 microseconds, and two threads
            together get less done than one. With the GIL and without, since CPython 3.11.
Cause:      a greenlet starts without a data stack, so its first frame makes CPython map a 16 KiB
            chunk, and the greenlet's end unmaps it. The first write to the new chunk is a page
            fault; mapping and unmapping stop the other threads of the process.

Shows:      the page faults of the process, which the kernel counts, per greenlet that was created
            and run to its end, once warm. In one thread and in two; one greenlet after the other,
            and 8 of a thread alive at once. No time is taken: a count says the same on a busy
            machine. With the defect there is one per greenlet, without it none; a count that is
            too high is the wrong answer that this exits with.
"""

import resource
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from greenlet import getcurrent, greenlet

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
GREENLETS = 2000  # in each thread
WARM_UP = 800
ALIVE = 8
MOST = 0.1  # page faults for each greenlet


def page_faults(thread_count, work):
    """Run work(WARM_UP), then work(GREENLETS), in each thread; return the latter's page faults."""
    meet = threading.Barrier(thread_count + 1)

    def run():
        try:
            work(WARM_UP)
            meet.wait()  # warm
            meet.wait()  # start
            work(GREENLETS)
            meet.wait()  # done
            meet.wait()  # a thread's end has page faults of its own
        except BaseException:
            meet.abort()
            raise

    def count():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    with ThreadPoolExecutor(thread_count) as pool:
        threads = [pool.submit(run) for _ in range(thread_count)]
        try:
            meet.wait()
            before = count()
            meet.wait()
            meet.wait()
            after = count()
            meet.wait()
        finally:
            for thread in threads:
                thread.result()
    return after - before


def function(pause):
    if pause:
        pause()


def no_greenlets(count):
    for _ in range(count):
        function(None)


def one_by_one(count):
    for _ in range(count):
        greenlet(function).switch(None)


def some_at_once(count):
    pause = getcurrent().switch
    for _ in range(count // ALIVE):
        alive = [greenlet(function) for _ in range(ALIVE)]
        for one in alive * 2:  # start all of them, then finish all of them
            one.switch(pause)
        if not all(one.dead for one in alive):
            raise RuntimeError("a greenlet is not finished")


def main():
    def rate(thread_count, work):
        return page_faults(thread_count, work) / (thread_count * GREENLETS)

    if max(rate(1, no_greenlets), rate(2, no_greenlets)) > MOST:
        print("GP1: as many page faults without greenlets")
        return NOT_RUN
    rates = {
        "1 thread": rate(1, one_by_one),
        "2 threads": rate(2, one_by_one),
        f"1 thread, {ALIVE} alive": rate(1, some_at_once),
        f"2 threads, {ALIVE} alive each": rate(2, some_at_once),
    }
    numbers = "; ".join(f"{case}: {number:.3f}" for case, number in rates.items())
    print(f"GP1: page faults per greenlet: {numbers}")
    return WRONG_ANSWER if max(rates.values()) > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
