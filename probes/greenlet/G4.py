# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G4"
# title = "a greenlet is started in one thread and gets a parent in another at the same time"
# releases = "<=3.5.6"
# use = "misuse"
# passes = "one of the two is refused, as with the GIL, and the greenlet ends in its thread"
# fails-by = ["crash", "wrong answer"]
# runs = { baseline = 10, patched = 20 }
# seconds = 120
# exclusive = true
# ///
"""G4: a greenlet is started in one thread and gets a parent in another at the same time.

Affects     all greenlet releases with free-threaded CPython; not with the GIL.
When        threads share a greenlet, which is misuse: either switch() or the assignment to
            `parent` has to be refused, whichever comes last.
What        when the greenlet ends, nobody can be told: "Fatal Python error: greenlet: ran out of
            parent greenlets while propagating exception". Two greenlets that two threads make
            each other's parent become a cycle, and everything that follows their parents hangs.
Why         what allows the start or the parent is looked at in one step, and the greenlet started
            or the parent set in another.

Shows it    with greenlets that have many ancestors, which takes long to look at. First, one
            thread starts a greenlet, and another sets its parent somewhere in that time. Then two
            threads make two greenlets each other's parent.
"""

import itertools
import random
import sys
import sysconfig
import threading
import time
from functools import partial

ANCESTORS = 50_000
ROUNDS = 30  # of each
PART = (0.4, 1.1)  # of the time that a start takes: when the other thread sets the parent


class Pair:
    """Another thread, which does something at the time this thread does something.

    They spin, because it takes long and varies until a thread that sleeps gets going. What they
    wait is their own processor time: on a busy machine, it stops with the thread.
    """

    def __init__(self):
        self.task = self.error = None
        self.ready = self.done = False
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while True:
            self.ready = True
            while not self.task:
                pass
            self.error = attempt(self.task)
            self.task = None
            self.done = True

    def run(self, here, there):
        while not self.ready:
            pass
        self.ready = self.done = False
        self.task = there
        error = attempt(here)
        while not self.done:
            pass
        return error, self.error


def attempt(task):
    from greenlet import error as greenlet_error

    try:
        task()
    except (greenlet_error, ValueError) as error:
        return error
    return None


def after(seconds, task, *arguments):
    def wait():
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
        task(*arguments)

    return wait


def start_and_set_parent(pair, ancestors):
    """Finish the greenlets that were started: a wrong parent ends the process."""
    from greenlet import getcurrent, greenlet

    main = getcurrent()

    def finish(one):
        if one:  # it is started, so this is its thread
            if one.parent is ancestors[-1]:
                one.parent = main
            one.switch()

    def adopt(one):
        one.parent = getcurrent()  # of the thread that runs this

    def duration():
        one = greenlet(main.switch, ancestors[-1])
        began = time.thread_time()
        one.switch()
        ended = time.thread_time()
        finish(one)
        return ended - began

    takes = min(duration() for _ in range(5))
    for _ in range(ROUNDS):
        one = greenlet(main.switch, ancestors[-1])
        wait = takes * random.uniform(*PART)  # noqa: S311  no secret
        yield pair.run(one.switch, after(wait, adopt, one))
        finish(one)


def set_parents(pair, ancestors):
    from greenlet import greenlet

    for _ in range(ROUNDS):
        one, two = greenlet(None, ancestors[-1]), greenlet(None, ancestors[-1])
        yield pair.run(partial(setattr, one, "parent", two), partial(setattr, two, "parent", one))
        one.parent = ancestors[0]  # or this would be the end, for all who follow a cycle


def main():
    from greenlet import getcurrent, greenlet

    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G4: not a free-threaded interpreter")
        return 77
    ancestors = [getcurrent(), *(greenlet(None) for _ in range(ANCESTORS))]
    for parent, child in reversed(list(itertools.pairwise(ancestors))):
        child.parent = parent  # in this order, for it follows the parents of the parent
    pair = Pair()
    both = 0
    for case in (start_and_set_parent, set_parents):
        refused = [[error is not None for error in errors] for errors in case(pair, ancestors)]
        here, there = map(sum, zip(*refused, strict=True))
        neither = refused.count([False, False])
        both += neither
        print(f"G4: {case.__name__}: refused here {here}, there {there}, nowhere {neither} times")
    return 3 if both else 0


if __name__ == "__main__":
    sys.exit(main())
