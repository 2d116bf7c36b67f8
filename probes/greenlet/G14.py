# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G14"
# title = "who looks at a greenlet of another thread gets, or frees, what that thread is using"
# releases = "<=3.5.6"
# use = "supported"
# passes = "contexts, frames and functions are those of the greenlet, or refused, as with the GIL"
# fails-by = ["crash", "wrong answer", "exception", "hang"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# exclusive = true
# ///
"""G14: who looks at a greenlet of another thread gets, or frees, what that thread is using.

Affects     all greenlet releases with free-threaded CPython. With the GIL, nobody can look in the
            middle of a switch.
When        a monitor, a tracer or a debugger reads gr_context or gr_frame of greenlets that other
            threads are switching to, or sets gr_context; or reads run of one that starts, or an
            attribute while __dict__ is set.
What        segmentation fault; None, though the greenlet has a context.
Why         a switch moves the context and the frame between the greenlet and the state of its
            thread. A getter takes a new reference to what may have been freed just now. A setter
            and a switch both take what was there, and it is freed twice. Setting __dict__ frees
            the old one at once, though CPython looks into it without a lock.

Shows it    by reading and setting from several threads while the owner switches. A context that is
            None is seen first, within a fraction of a second.
"""

import contextvars
import operator
import os
import sys
import sysconfig
import threading
import time
import types
from collections import deque
from itertools import repeat

from greenlet import getcurrent, greenlet

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
SECONDS = 1.0  # for each case, and longer where the machine is busy:
LOOKS = 200  # so many by each of those who look
LOOKERS = 3
MANY = 1_000
CONTEXTS = [contextvars.copy_context() for _ in range(50)]
PATIENCE = 5  # seconds
FRAME = types.FrameType


def switching(stop, box, run):
    """Switch to a greenlet and back until ``stop``. It runs ``run(switch)`` again and again."""

    def body():
        switch = getcurrent().parent.switch
        while not stop.is_set():
            run(switch)

    suspended = greenlet(body)
    suspended.switch()
    box.append(suspended)
    while not suspended.dead:
        suspended.switch()


def within_contexts(stop, box):
    switching(stop, box, lambda switch: contextvars.copy_context().run(switch))


def within_calls(stop, box):
    switching(stop, box, lambda switch: switch())


def starting(stop, box):
    """Start greenlets, the newest of which is in the box, with functions of their own."""
    box.append(None)
    while not stop.is_set():
        box[-1] = greenlet(lambda: None)
        box[-1].switch()


def replacing(stop, box):
    """Set __dict__ of a greenlet to one that has the same attribute."""
    box.append(type("Named", (greenlet,), {})())
    while not stop.is_set():
        new = map(dict, repeat((("name", "it"),), MANY))
        deque(map(setattr, repeat(box[-1]), repeat("__dict__"), new), maxlen=0)


def get_attribute(box, *, name=operator.attrgetter("name")):
    box[-1].__dict__.setdefault("name", "it")
    got = set(map(name, repeat(box[-1], MANY)))
    return None if got == {"it"} else f"the attribute is {got!r}"


def get_context(box):
    try:
        got = box[-1].gr_context
    except ValueError:  # it runs in another thread
        return None
    return None if type(got) is contextvars.Context else f"gr_context is {got!r}"


def set_context(box):
    for context in CONTEXTS:
        try:
            box[-1].gr_context = context
        except ValueError:
            continue


def get_frame(box):
    got = box[-1].gr_frame
    return None if got is None or type(got) is FRAME else f"gr_frame is {got!r}"


def get_run(box):
    try:
        got = box[-1].run
    except AttributeError:  # it has been started
        return None
    return None if callable(got) else f"run is {got!r}"


def describe(box):
    one = box[-1]
    bool(one), one.dead, one.parent, one._stack_saved  # noqa: SLF001
    return None if repr(one).startswith("<greenlet.greenlet object at 0x") else repr(one)


def race(own, looks):
    """What is wrong when several threads look at what one thread does."""
    stop, box, problems, turns = threading.Event(), [], [], [0] * LOOKERS

    def look(number):
        while not stop.is_set():
            problem = looks[turns[number] % len(looks)](box)
            turns[number] += 1
            if problem:
                problems.append(problem)
                return

    owner = threading.Thread(target=own, args=(stop, box), daemon=True)
    owner.start()
    while not box or box[-1] is None:
        time.sleep(0.001)
    lookers = (threading.Thread(target=look, args=(n,), daemon=True) for n in range(LOOKERS))
    threads = [owner, *lookers]
    for thread in threads[1:]:
        thread.start()
    ends = time.monotonic() + SECONDS
    while not problems and (time.monotonic() < ends or min(turns) < LOOKS):
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            problems.append("a thread does not end")
    return problems


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G14: this needs free-threaded CPython")
        return NOT_RUN
    status = 0
    for own, looks in [
        (within_contexts, [get_context]),
        (within_calls, [set_context]),
        (within_calls, [get_frame, describe]),
        (starting, [get_run, describe]),
        (replacing, [get_attribute]),
    ]:
        names = " and ".join(look.__name__ for look in looks)
        print(f"G14: {names} while another thread is in {own.__name__} ...", flush=True)
        for problem in race(own, looks):
            print(f"G14: {problem}"[:200], flush=True)
            status = WRONG_ANSWER
        if status:
            break
    return status


if __name__ == "__main__":
    result = main()
    sys.stdout.flush()
    os._exit(result)  # with the defect, threads may be left that never end
