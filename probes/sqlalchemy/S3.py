# /// script
# requires-python = ">=3.14,<3.16"
# dependencies = ["SQLAlchemy==2.1.9"]
#
# [tool.freewheel.probe]
# defect = "S3"
# title = "a pool without an overflow limit loses count of its connections"
# releases = "<=2.1.9"
# use = "supported"
# passes = "with all connections returned, none counts as checked out, wherever a thread is held"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 120
# ///
"""S3: a pool without an overflow limit loses count of its connections.

Releases:   SQLAlchemy up to 2.0.58 and 2.1.9, without the GIL; with it, if it is handed over there.
Use:        QueuePool(max_overflow=-1) or pool_size=0, and several threads.
Symptom:    checkedout() and status() are wrong for good, and so are metrics made of them.
Cause:      the count is changed by += and -=, without a lock where there is no limit.

Shows:      nothing is left to luck. One thread takes and returns connections, held at each
            instruction of the two functions that count in turn, while another does the same.
            Then all connections are back, and none may count as checked out.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import QueuePool

WRONG_ANSWER = 3  # docs/probes.md
TASKS = Path("/proc/self/task")
# How often a thread must be seen asleep, and how many seconds apart, until it counts as waiting.
LOOKS, A_MOMENT = (3 if TASKS.exists() else 50), 0.001
POOLS = {
    "no limit": lambda: QueuePool(Connection, pool_size=1, max_overflow=-1),
    "a limit": lambda: QueuePool(Connection, pool_size=1, max_overflow=9),
}


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


def counts(code):
    return code.co_name in {"_inc_overflow", "_dec_overflow"}


def use(pool):
    for connection in [pool.connect() for _ in range(2)]:
        connection.close()


def main():
    failed = False
    for what, make in POOLS.items():
        drifted, place, more = [], 1, True
        while more:
            pool = make()

            def work(pool=pool):
                use(pool)

            more = interleave(work, work, place, counts, opcodes=True)
            if pool.checkedout():
                drifted.append((place, pool.checkedout()))
            place += 1
        failed |= bool(drifted)
        print(f"S3: {what}: held at {place - 2} places, drifted: {drifted}")
    return WRONG_ANSWER if failed else 0


if __name__ == "__main__":
    sys.exit(main())
