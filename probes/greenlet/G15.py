# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G15"
# title = "references that others get to a greenlet that is being killed are miscounted"
# releases = "<=3.5.6"
# use = "supported"
# passes = "a greenlet that others refer to lives on, and goes away with the last reference"
# fails-by = ["crash", "leak", "exception", "wrong answer", "hang"]
# runs = { baseline = 10, patched = 15 }
# seconds = 120
# exclusive = true
# ///
"""G15: references that others get to a greenlet that is being killed are miscounted.

Affects     all greenlet releases with free-threaded CPython.
When        a suspended greenlet loses its last reference, while another thread calls a weak
            reference to it: a registry of tasks, WeakSet or WeakValueDictionary, is enough.
What        the greenlet is never freed; or it is freed twice, and the process crashes.
Why         to kill it, greenlet gives it a reference again. When that goes, the number of
            references is read, and one less is written back. What other threads have counted
            in between is lost.

Shows it    by weak references that one thread calls all the time while another one drops suspended
            greenlets, which wait for that before they end. None of them must be left afterwards.
            (The first thread may drop the last reference. Without the patch for G2, that crashes.)
"""

import operator
import os
import sys
import sysconfig
import threading
import time
import weakref
from collections import deque
from itertools import repeat

from greenlet import GreenletExit, getcurrent, greenlet

WRONG_ANSWER, LEAK, NOT_RUN = 3, 4, 77  # docs/probes.md
KILLED = 3_000


def suspend(parent, box, looked_at):
    """What the greenlets run: when they are killed, they wait until somebody looks at them."""
    try:
        parent.switch()
    except GreenletExit:
        while looked_at[0] is not box[0]:
            time.sleep(0)


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G15: this needs free-threaded CPython")
        return NOT_RUN
    box, looked_at, stop = [lambda: None], [None], threading.Event()

    def look():
        while not stop.is_set():
            looked_at[0] = reference = box[0]
            try:
                deque(map(operator.call, repeat(reference, 3_000)), maxlen=0)
            except BaseException as error:
                print(f"G15: a weak reference raises {error!r}"[:200], flush=True)
                os._exit(WRONG_ANSWER)

    looker = threading.Thread(target=look)
    looker.start()
    references = []
    for _ in range(KILLED):
        suspended = greenlet(suspend)
        suspended.switch(getcurrent(), box, looked_at)
        box[0] = weakref.ref(suspended)
        references.append(box[0])
        del suspended
    stop.set()
    looker.join()
    # It may have left some to this thread, which sees to them when it starts one.
    for _ in range(2):
        greenlet(lambda: None).switch()
    left = sum(reference() is not None for reference in references)
    print(f"G15: {left} of {KILLED} greenlets are left")
    return LEAK if left else 0


if __name__ == "__main__":
    sys.exit(main())
