# /// script
# requires-python = "==3.14.*"
# dependencies = ["greenlet==3.3.1"]
#
# [tool.freewheel.probe]
# defect = "G7"
# title = "greenlets that switch inside critical sections mix up each other's locks"
# releases = ">=3.3.1,<3.5.3"
# use = "supported"
# passes = "every greenlet finishes what it was doing, with the right result"
# fails-by = ["crash"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# ///
"""G7: greenlets that switch inside critical sections mix up each other's locks.

Free-threaded CPython protects lists, dicts, sets and the like with critical sections: locks that
are released whenever the thread blocks. The thread state has a list of those that are entered, and
its elements are on the C stack. A greenlet that switches in the middle of, say, list.sort(key=...)
takes the C stack with it, but leaves the list as it is. So the next greenlet finds elements on the
list that belong to another greenlet, or to none, because the stack is used for something else
meanwhile. One thread is enough.

What is seen: a segmentation fault, or "Fatal Python error: unlocking mutex that is not locked", as
soon as the thread leaves a critical section or blocks.

Here, greenlets switch away from within operations that hold one lock (list.sort) or two (the
difference of two sets, updating a dict from a dict), also one in the other, and are resumed in
another order. In between, the thread blocks for a moment.
"""

import random
import sys
import sysconfig
import threading
import time

from greenlet import getcurrent, greenlet

WRONG_ANSWER, NOT_RUN = 3, 77
GREENLETS = 5
THREADS = 2
ROUNDS = 25


class Colliding:
    """All have the same hash, so sets and dicts have to compare them, which calls ``pause``."""

    def __init__(self, value, pause):
        self.value = value
        self.pause = pause

    def __hash__(self):
        return 1

    def __eq__(self, other):
        self.pause()
        return self.value == other.value


def sort(pause):
    """One lock."""

    def key(value):
        pause()
        return value

    values = [3, 1, 2]
    values.sort(key=key)
    return values == [1, 2, 3]


def difference(pause):
    """Two locks."""
    one, other = ({Colliding(value, pause) for value in values} for values in ((0, 1), (1, 2)))
    one ^= other
    return {value.value for value in one} == {0, 2}


def update(pause):
    """Two locks."""
    quiet = [Colliding(value, lambda: None) for value in range(3)]
    target, source = dict.fromkeys(quiet, 0), {}
    for value in quiet[1:]:
        source[Colliding(value.value, pause)] = 1
    target.update(source)
    return [(key.value, value) for key, value in target.items()] == [(0, 0), (1, 1), (2, 1)]


def nested(pause):
    """Up to four locks, of which those of the outer operations may be suspended."""

    def key(value):
        updated.append(update(pause))
        pause()
        return -value

    updated = []
    values = [3, 1, 2]
    values.sort(key=key)
    return values == [3, 2, 1] and updated == [True] * 3


OPERATIONS = (sort, difference, update, nested)


def run(operation, choose):
    """Run ``operation`` in several greenlets at once, in an order of their own."""
    main = getcurrent()
    results = []

    def target():
        results.append(operation(main.switch))

    greenlets = [greenlet(target) for _ in range(GREENLETS)]
    while greenlets:
        one = choose(greenlets)
        one.switch()
        if one.dead:
            greenlets.remove(one)
        time.sleep(0)  # blocks, as far as CPython knows: the thread's locks are released
    return results == [True] * GREENLETS


def work(number, wrong):
    choose = random.Random(number).choice  # noqa: S311
    for operation in OPERATIONS:
        for _ in range(ROUNDS):
            if not run(operation, choose):
                wrong.append(operation.__name__)


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G7: not a free-threaded interpreter")
        return NOT_RUN
    wrong = []
    threads = [threading.Thread(target=work, args=(number, wrong)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in sorted(set(wrong)):
        print(f"G7: {name}: wrong result, {wrong.count(name)} times")
    return WRONG_ANSWER if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
