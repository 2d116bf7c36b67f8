# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P3"
# title = "an iterator over a record crashes, or gives wrong pairs, when threads share it"
# releases = ">=0.31,<=0.32.0"
# use = "misuse"
# passes = "each item of a record comes out of its iterators once, and each key with its own value"
# fails-by = ["crash", "wrong answer", "exception"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# exclusive = true
# ///
"""P3: an iterator over a record crashes, or gives wrong pairs, when threads share it.

Releases:   asyncpg 0.31.0 and 0.32.0, on free-threaded CPython; never with the GIL.
Use:        several threads call next() on one iterator of record.items(), record.values() or
            iter(record): work handed out item by item. With the GIL, each item comes out once.
Symptom:    segmentation fault; before that, items come out twice, or with another item's key.
Cause:      the position, the iterator over the keys and the references to both are changed
            without a lock. Threads that come to the end together drop the same reference twice.

Shows:      threads empty many such iterators, and what they got is compared with the record.
            The threads have to be at work at the same time, or one has to be interrupted within a
            few instructions: where nothing can be put in between, many tries are. It stops at the
            first wrong one.
"""

import sys
import threading
from operator import itemgetter

WRONG, NOT_RUN = 3, 77
THREADS = 4
ITERATORS = 6  # of each kind, at a time
ROUNDS = 4
COLUMNS = 200_000  # more than a server sends, so that the threads meet also on a busy machine
VALUE = {"items": itemgetter(1), "values": None}  # what the items are sorted by


def make_record():
    from asyncpg.protocol.protocol import _create_record

    return _create_record(
        {f"c{number}": number for number in range(COLUMNS)},
        tuple(range(1000, 1000 + COLUMNS)),  # numbers that are counted, not immortal
    )


def empty_together(iterators):
    """Let threads empty the iterators, in the same order; what came out of each.

    A thread that is behind finds iterators that are empty, and so catches up.
    """
    start = threading.Barrier(THREADS)
    got = []
    errors = []
    left = []

    def work():
        mine = []
        start.wait()
        try:
            for iterator in iterators:
                mine.append(list(iterator))
                left.append(iterator.__length_hint__())
        except BaseException as error:
            errors.append(error)
        got.append(mine)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
    if any(left):
        raise AssertionError("an iterator that is exhausted says that it has more")
    return [[item for items in of_each for item in items] for of_each in zip(*got, strict=True)]


def main():
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        print("P3: the GIL is on")
        return NOT_RUN
    record = make_record()
    kinds = {"items": type(record).items, "values": iter}
    for name, iterate in list(kinds.items()) * ROUNDS:
        expected = list(iterate(record))
        for got in empty_together([iterate(record) for _ in range(ITERATORS)]):
            if sorted(got, key=VALUE[name]) != expected:
                print(f"P3: {name}: {len(got)} came from an iterator over {COLUMNS}, or wrong ones")
                return WRONG
    print(f"P3: {ROUNDS * ITERATORS} iterators of each kind gave what the record has")
    return 0


if __name__ == "__main__":
    sys.exit(main())
