"""GP1: every greenlet maps memory for its first Python frame and unmaps it at its end.

Releases:   all greenlet releases with CPython 3.11 or newer, with the GIL and without.
Use:        greenlet(f).switch() in a loop, as SQLAlchemy's asyncio layer does for every statement.
Symptom:    creating and running a short greenlet takes about 10 microseconds, and two threads
            together get less done than one.
Cause:      a greenlet starts without a data stack, so its first frame makes CPython map a 16 KiB
            chunk, and the greenlet's end unmaps it. The first write to the new chunk is a page
            fault; mapping and unmapping stop the other threads of the process.

Shows:      the page faults of the process, which the kernel counts, per greenlet that was created
            and run to its end, once warm. In one thread and in two; one greenlet after the other,
            and 8 of a thread alive at once. No time is taken. With the defect there is one per
            greenlet, without it none.

Pass (0):   in no case more than one page fault in ten greenlets.
Fail (1):   in some case more than that: memory does not stay mapped from one greenlet to the next.
Not run (2): no greenlet, page faults are not counted, or there are as many without greenlets.
"""

import sys
import threading

GREENLETS = 4000  # in each thread
WARM_UP = 800
ALIVE = 8
MOST = 0.1  # page faults for each greenlet


class NotRun(Exception):
    pass


def page_faults(thread_count, work):
    """Run work(WARM_UP), then work(GREENLETS), in each thread; return the latter's page faults."""
    import resource

    warm, start, done, end = (threading.Barrier(thread_count + 1, timeout=60) for _ in range(4))
    errors = []

    def run():
        try:
            work(WARM_UP)
            warm.wait()
            start.wait()
            work(GREENLETS)
            done.wait()
            end.wait()  # a thread's end has page faults of its own
        except Exception as error:
            errors.append(error)
            for barrier in (warm, start, done, end):
                barrier.abort()

    threads = [threading.Thread(target=run) for _ in range(thread_count)]
    for thread in threads:
        thread.start()
    try:
        warm.wait()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start.wait()
        done.wait()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        end.wait()
    except threading.BrokenBarrierError:
        pass
    for thread in threads:
        thread.join()
    if errors:
        raise NotRun(f"a thread failed: {errors[0]!r}")
    if not after:
        raise NotRun("this system does not count page faults")
    return after - before


def main():
    from greenlet import getcurrent, greenlet

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
                raise NotRun("a greenlet is not finished")

    def rate(thread_count, work):
        return page_faults(thread_count, work) / (thread_count * GREENLETS)

    if max(rate(1, no_greenlets), rate(2, no_greenlets)) > MOST:
        raise NotRun("as many page faults without greenlets")
    rates = {
        "1 thread": rate(1, one_by_one),
        "2 threads": rate(2, one_by_one),
        f"1 thread, {ALIVE} alive": rate(1, some_at_once),
        f"2 threads, {ALIVE} alive each": rate(2, some_at_once),
    }
    numbers = "; ".join(f"{case}: {number:.3f}" for case, number in rates.items())
    print(f"GP1: page faults per greenlet: {numbers}")
    return 1 if max(rates.values()) > MOST else 0


if __name__ == "__main__":
    try:
        status = main()
    except Exception as error:
        print(f"GP1: could not run: {error!r}")
        status = 2
    sys.exit(status)
