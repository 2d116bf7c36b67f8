# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "GP3"
# title = "each switch copies every frame of the greenlet that it leaves"
# releases = "<=3.5.6"
# use = "supported"
# passes = "a call below a switch makes it longer by less than 0.22 of what a call itself takes"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# ///
"""GP3: each switch copies every frame of the greenlet that it leaves.

Affects     all greenlet releases with CPython 3.12 or newer, with the GIL as without.
When        greenlets are switched that are some calls deep: what every application does.
What        every function that was called on the way to the switch makes it slower. A thread has
            more of them than a main program, so two threads switched less often than two processes.
Why         a switch walks the frames of the greenlet that it leaves, for gr_frame. Since some lie
            on the C stack, and that is saved elsewhere while a greenlet is suspended, it copies
            each of them to look at it. But this one is not suspended yet.

Shows it    by comparison, in pairs: a switch and the one back with 100 calls below, and with none,
            by as many calls of an empty function, in the processor time of the thread, each a
            moment after the other. A frame takes 0.28 to 0.41 of a call with the defect, 0.12 to
            0.16 without. A single pair says little on a busy machine, so each has one vote, for
            more than LIMIT or for less, until chance would bring so many votes for one side once
            in a million times. If that does not happen, it is unclear: that is no verdict, and the
            probe asks to be run again.
"""

import sys
import time
from itertools import count
from math import comb

from greenlet import getcurrent, greenlet

WRONG_ANSWER, UNCLEAR = 3, 75  # docs/probes.md
DEPTH = 100
BATCH = 50  # switches and back
LIMIT = 0.22  # of what a call takes
CHANCE = 1e-6
MOST = 2000  # pairs


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


def taken(step):
    """The processor time that one step takes."""
    started = time.thread_time_ns()
    next(step)
    return time.thread_time_ns() - started


def by_chance(votes, pairs):
    """The probability that a fair coin falls so often on one side, or more often."""
    return sum(comb(pairs, more) for more in range(votes, pairs + 1)) / 2**pairs


def main():
    steps = [switches(DEPTH), switches(0), calls()]
    for step in steps:
        next(step)
    slow, found = 0, []
    for pairs in count(1):
        deep, shallow, called = map(taken, steps)
        found.append((deep - shallow) / called)
        slow += found[-1] >= LIMIT
        if by_chance(max(slow, pairs - slow), pairs) < CHANCE or pairs == MOST:
            break
    median = sorted(found)[len(found) // 2]
    print(
        f"GP3: a frame takes {median:.2f} of a call; more than {LIMIT} in {slow} of {pairs} pairs"
    )
    if pairs == MOST:
        return UNCLEAR
    return WRONG_ANSWER if slow > pairs - slow else 0


if __name__ == "__main__":
    sys.exit(main())
