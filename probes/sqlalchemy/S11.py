# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy[asyncio]==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S11"
# title = "threads that use the asyncio layer first end in a RecursionError"
# releases = ">=2.1,<=2.1.9"
# use = "supported"
# passes = "every thread gets its result, wherever the first one is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S11: threads that use the asyncio layer first end in a RecursionError.

Releases:   SQLAlchemy 2.1.0 to 2.1.9, without the GIL and with it. 2.0 imports greenlet at once.
Use:        several threads, each with an event loop and an engine of its own, that start together.
Symptom:    RecursionError out of the first greenlet_spawn(), which every call of an asyncio engine
            goes through.
Cause:      what the layer needs of greenlet is imported and made when it is first used. It counts
            as there as soon as the import is done, and who needs what is not there yet asks for it
            again, and again.

Shows:      nothing is left to luck. One thread is held at each line of the first use in turn, while
            another uses the layer as well. Each time with a new copy of the module, as in a new
            process.
"""

import asyncio
import importlib.util
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001


def new_layer():
    """The module as it is in a process that has not used it yet."""
    spec = importlib.util.find_spec("sqlalchemy.util.concurrency")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def interleave(first, second, place, where, *, opcodes=False):
    """Do `first` in a thread up to a place, then `second` in another, then the rest of `first`.

    Places are counted: lines, or instructions, of the functions that `where` is true for. Should
    `second` wait for `first`, that goes on. Return whether `first` has got to the place.
    """
    held, go, left, other_is = threading.Event(), threading.Event(), [place], []

    def trace(frame, event, _):
        if not where(frame.f_code):
            return None
        frame.f_trace_opcodes = opcodes
        if event == ("opcode" if opcodes else "line"):
            left[0] -= 1
            if left[0] == 0:
                held.set()
                go.wait()
                sys.settrace(None)  # from here on at full speed
        return trace

    def traced():
        sys.settrace(trace)
        try:
            first()
        finally:
            sys.settrace(None)
            held.set()

    def named():
        other_is.append(threading.get_native_id())
        second()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(traced)
        held.wait()
        other = pool.submit(named)
        until_it_waits(other, other_is)
        go.set()
        one.result()
        other.result()
    return left[0] <= 0


def until_it_waits(future, thread):
    """Wait until a thread is through, or waits for the other: it is asleep whenever looked at."""
    looks, before = 0, None
    while looks < LOOKS and not wait([future], A_MOMENT).done:
        now = times_asleep(thread[0]) if thread else None
        looks = looks + 1 if now is not None and now == before else 0
        before = now


def times_asleep(thread):
    """How often a thread has gone to sleep, as Linux says, if it is asleep now; else None."""
    if not TASKS.exists():
        return 0
    lines = Path(TASKS, str(thread), "status").read_text().splitlines()
    says = dict(line.split(":", 1) for line in lines)
    return says["voluntary_ctxt_switches"] if "sleeping" in says["State"] else None


def of_the_layer(code):
    return code.co_filename.endswith("util/concurrency.py")


def main():
    wrong, place, more = {}, 1, True
    while more:
        layer, results = new_layer(), []

        def use(layer=layer, results=results):
            try:
                results.append(asyncio.run(layer.greenlet_spawn(int, "7")))
            except Exception as error:
                results.append(type(error).__name__)

        more = interleave(use, use, place, of_the_layer)
        if results != [7, 7]:
            wrong[place] = results
        place += 1
    print(f"S11: held at {place - 2} lines, wrong: {wrong}")
    return WRONG_ANSWER if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
