# /// script
# requires-python = "==3.14.*"
# dependencies = ["greenlet==3.3.1"]
#
# [tool.freewheel.probe]
# defect = "G8"
# title = "a suspended greenlet keeps the locks of the objects it is working on"
# releases = ">=3.3.1,<3.5.4"
# use = "supported"
# passes = "other threads can use these objects while the greenlet is suspended"
# fails-by = ["hang", "crash"]
# runs = { baseline = 10, patched = 20 }
# seconds = 20
# ///
"""G8: a suspended greenlet keeps the locks of the objects it is working on.

Free-threaded CPython protects objects with critical sections: locks that are released whenever the
thread blocks, so that threads that wait for each other do not deadlock. asyncio holds the lock of a
task for as long as a step of that task takes. A greenlet that switches away in the middle does not
release the locks. Until its thread blocks the next time, or, with greenlet 3.5.3, until somebody
switches back to it, every other thread that needs one of these objects hangs.

Here, a greenlet is suspended in a step of an asyncio task, or while it sorts a list. Another thread
asks for the state of the task, or appends to the list. The first thread goes on computing until the
other one is done. (It must not block, and so not print either: while it does, the locks are
released; if it can still find them, which is defect G7.)
"""

import asyncio
import contextlib
import os
import sys
import sysconfig
import threading
import time

from greenlet import getcurrent, greenlet

HANG, NOT_RUN = 5, 77
PATIENCE = 2  # seconds of processor time; without the defect it takes microseconds


def other_thread_can(use, suspend):
    """Whether another thread can ``use`` something while ``suspend`` has suspended a greenlet."""
    ready, go, done = [], [], []

    def run():
        ready.append(True)
        while not go:
            pass
        use()
        done.append(True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not ready:
        time.sleep(0.001)
    one = suspend()
    go.append(True)
    deadline = time.thread_time() + PATIENCE
    while not done:  # to sleep would release what this thread holds
        if time.thread_time() > deadline:
            return False
    while not one.dead:
        one.switch()
    thread.join()
    return True


def use_task_during_step():
    """Another thread asks for the state of a task, one step of which is suspended."""
    main = getcurrent()
    tasks = []

    async def step():
        main.switch()

    async def run():
        tasks.append(asyncio.ensure_future(step()))
        await tasks[0]

    def suspend():
        one = greenlet(asyncio.run)
        one.switch(run())
        return one

    def use():
        tasks[0].done()

    return other_thread_can(use, suspend)


def use_list_during_sort():
    """Another thread appends to a list that is being sorted."""
    main = getcurrent()
    values = [2, 1]

    def key(value):
        main.switch()
        return value

    def sort():
        with contextlib.suppress(ValueError):  # "list modified during sort", as with the GIL
            values.sort(key=key)

    def suspend():
        one = greenlet(sort)
        one.switch()
        return one

    def use():
        values.append(3)

    return other_thread_can(use, suspend)


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G8: not a free-threaded interpreter")
        return NOT_RUN
    for case in (use_task_during_step, use_list_during_sort):
        if not case():
            os._exit(HANG)
    return 0


if __name__ == "__main__":
    sys.exit(main())
