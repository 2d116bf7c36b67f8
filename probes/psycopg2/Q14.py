# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q14"
# title = "the wait callback is given out after it was released"
# releases = "<=2.9.13"
# use = "supported"
# passes = "one of the callbacks, and none after it was replaced"
# fails-by = ["wrong answer", "crash"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q14: the wait callback is given out after it was released.

Use:        set_wait_callback() in one thread, while others execute or ask for it.
Symptom:    a crash.
Cause:      the old callback is released before the new one takes its place. Who comes in between
            gets one that is being freed.

Shows:      the old one's __del__ waits for a thread that asks which one is set. With the GIL and
            without. Needs no server.
"""

import os
import sys
import threading

import psycopg2.extensions

WRONG = 3


class Callback:
    seen = None

    def __call__(self, connection):
        pass

    def look(self):
        Callback.seen = type(psycopg2.extensions.get_wait_callback()).__name__

    def __del__(self):
        thread = threading.Thread(target=self.look)
        thread.start()
        thread.join()


def main():
    for _ in range(3):
        psycopg2.extensions.set_wait_callback(Callback())
        psycopg2.extensions.set_wait_callback(print)
        if Callback.seen != "builtin_function_or_method":
            print(f"Q14: while the old one was released, the callback was a {Callback.seen}")
            return WRONG
        psycopg2.extensions.set_wait_callback(None)
    print("Q14: the new one was there before the old one was gone")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
