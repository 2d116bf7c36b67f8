# /// script
# requires-python = "==3.14.*"
# dependencies = ["greenlet==3.3.1"]
#
# [tool.freewheel.probe]
# defect = "G11"
# title = "switching in several threads turns garbage collection off"
# releases = ">=3.3.1,<3.5.6"
# use = "supported"
# passes = "collection is still enabled"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# exclusive = true
# ///
"""G11: switching in several threads turns garbage collection off.

Each switch disables garbage collection for a moment and then restores what it was before. That
setting belongs to the interpreter, not to the thread. Without the GIL, two threads do that at the
same time: the second one finds collection disabled by the first and, when that has restored it,
disables it again, for good. Then garbage is never collected, and the process grows until it is
killed. Likewise, if a third one calls gc.disable() in between, collection is enabled behind its
back.

Here, threads switch to short greenlets, while collection is enabled, and while it is disabled.
"""

import gc
import sys
import sysconfig
import threading
import time

from greenlet import getcurrent, greenlet

WRONG_ANSWER, NOT_RUN = 3, 77
THREADS = 8
SECONDS = 1.6  # of processor time, of all threads together


def switch(one):
    """Switch, from a frame that has not switched before."""
    one.switch()


def work(stop):
    main = getcurrent()

    def target():
        while True:
            switch(main)

    one = greenlet(target)
    while not stop:
        for _ in range(1000):
            switch(one)


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G11: not a free-threaded interpreter")
        return NOT_RUN
    stop = []
    threads = [threading.Thread(target=work, args=(stop,)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    while time.process_time() < SECONDS:
        time.sleep(0.01)
    stop.append(True)
    for thread in threads:
        thread.join()
    if not gc.isenabled():
        print("G11: collection is disabled")
        return WRONG_ANSWER
    return 0


if __name__ == "__main__":
    sys.exit(main())
