# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S6"
# title = "a listener with once=True makes an operation of the application fail"
# releases = "<=2.1.9"
# use = "supported"
# passes = "it is called once, and every operation succeeds, wherever a thread is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S6: a listener with once=True makes an operation of the application fail.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL; with it, if it is handed over there.
Use:        event.listen(engine, "checkout", prepare, once=True), and several threads.
Symptom:    IndexError: pop from empty list, out of what the thread did, such as connect().
Cause:      the wrapper asks whether the list with the function is empty, and takes it out then.

Shows:      nothing is left to luck. One thread fires the event, held at each line of the wrapper
            in turn; another fires it as well.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

from sqlalchemy import QueuePool, event

WRONG_ANSWER = 3  # docs/probes.md
A_MOMENT = 5  # seconds for a thread that waits for the other; none does here


class Connection:
    """What a pool needs of a DBAPI connection."""

    def close(self):
        pass

    rollback = commit = close


def interleave(first, second, place, where, *, opcodes=False):
    """Do `first` in a thread up to a place, then `second` in another, then the rest of `first`.

    Places are counted: lines, or instructions, of the functions that `where` is true for. Should
    `second` wait for `first`, that goes on. Return whether `first` has got to the place.
    """
    held, go, left = threading.Event(), threading.Event(), [place]

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

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(traced)
        held.wait()
        other = pool.submit(second)
        wait([other], A_MOMENT)
        go.set()
        one.result()
        other.result()
    return left[0] <= 0


def once(code):
    return "only_once" in code.co_qualname


def main():
    wrong, place, more = [], 1, True
    while more:
        calls, errors = [], []
        pool = QueuePool(Connection, pool_size=8)

        def listener(*_, calls=calls):
            calls.append(1)

        def use(pool=pool, errors=errors):
            try:
                pool.connect().close()
            except IndexError as error:
                errors.append(error)

        event.listen(pool, "checkout", listener, once=True)
        more = interleave(use, use, place, once)
        use()
        if len(calls) != 1 or errors:
            wrong.append((place, len(calls), errors))
        place += 1
    print(f"S6: held at {place - 2} lines, wrong at (place, calls, errors): {wrong}")
    return WRONG_ANSWER if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
