# /// script
# requires-python = "==3.14.*"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "GP3"
# title = "each switch copies every frame of the greenlet that it leaves"
# releases = "<=3.5.6"
# use = "supported"
# passes = "a call below a switch makes it longer by less than a fifth of what a call itself takes"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 20 }
# seconds = 30
# exclusive = true
# ///
"""GP3: each switch copies every frame of the greenlet that it leaves.

Affects     all greenlet releases with CPython 3.12 or newer, with the GIL as without.
When        greenlets are switched that are some calls deep: what every application does.
What        every function that was called on the way to the switch makes it slower. A thread has
            more of them than a main program, so two threads switched less often than two processes.
Why         a switch walks the frames of the greenlet that it leaves, for gr_frame. Since some lie
            on the C stack, and that is saved elsewhere while a greenlet is suspended, it copies
            each of them to look at it. But this one is not suspended yet.

Shows it    by comparison, in the same moments: a switch and the one back with 100 calls below, and
            with none, by as many calls of an empty function. The shortest of many times counts. A
            frame takes 0.28 to 0.41 of a call with the defect, 0.12 without.
"""

import sys
import time

from greenlet import getcurrent, greenlet

DEPTH = 100
BATCH = 1000  # switches and back
TIMES = 20
LIMIT = 0.2  # of what a call takes
ATTEMPTS = 5  # on a busy machine, the best of them


def switches(depth):
    """Each step switches to a greenlet that is so deep, and back."""
    main = getcurrent()

    def run(left):
        if left:
            run(left - 1)
        else:
            while True:
                main.switch()

    suspended = greenlet(run)
    suspended.switch(depth)
    there = suspended.switch
    while True:
        for _ in range(BATCH):
            there()
        yield


def calls():
    """Each step calls an empty function, as often as the frames are walked that are in the way."""

    def empty():
        pass

    while True:
        for _ in range(BATCH * DEPTH):
            empty()
        yield


def shortest(steps):
    """The shortest time that a step takes, for each of them, taken in turn."""
    best = [float("inf")] * len(steps)
    for _ in range(TIMES):
        for number, one in enumerate(steps):
            started = time.perf_counter()
            next(one)
            best[number] = min(best[number], time.perf_counter() - started)
    return best


def main():
    found = float("inf")
    for _ in range(ATTEMPTS):
        deep, shallow, called = shortest([switches(DEPTH), switches(0), calls()])
        found = min(found, (deep - shallow) / called)
        if found < LIMIT:
            break
    print(f"GP3: a frame takes {found:.2f} of a call")
    return 3 if found >= LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
