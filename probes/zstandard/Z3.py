# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z3"
# title = "a dictionary that two decompressors use first at the same time loses memory"
# releases = "<=0.25.0"
# use = "supported"
# passes = "what is in use does not grow with the number of dictionaries that have been"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# exclusive = true
# ///
"""Z3: a dictionary that two decompressors use first at the same time loses memory.

Use:        one dictionary, and a decompressor of its own for each thread, which is what
            dictionaries are for. With the GIL and without.
Symptom:    memory that grows, by 27 KiB for each time that two threads meet.
Cause:      the dictionary's form for decompression is made by the first decompressor that looks
            for it and does not find it, with the thread detached, and stored after that: by two
            that look at the same time, twice, and one of these is lost.

Shows:      threads make decompressors of a new dictionary together, again and again. What malloc()
            has given away is the same before and afterwards.
"""

import ctypes
import gc
import itertools
import sys
import threading
import time

import zstandard

LEAK = 4  # docs/probes.md


class Mallinfo(ctypes.Structure):
    """What mallinfo2() of the C library returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo


def allocated():
    """Bytes that malloc() has given away, where libzstd has its memory from."""
    gc.collect()
    info = mallinfo()
    return info.uordblks + info.hblkhd


PHASES, ROUNDS = 12, 300
SAMPLES = [
    b"user %d likes item %d and item %d" % (n, n * 7 % 100, n * 13 % 100) for n in range(2000)
]
RAW = zstandard.train_dictionary(4096, SAMPLES).as_bytes()
MUCH = 20 << 10  # less than is lost once


def meet(at, me, turn):
    """Wait for the other thread, without a pause if it is about to come."""
    at[me] = turn
    for spin in itertools.count():
        if at[not me] >= turn:
            return
        if spin > 300:
            time.sleep(0)


def work(me, at, shared):
    for turn in range(ROUNDS):
        if me == 0:
            shared[turn] = zstandard.ZstdCompressionDict(RAW)
        meet(at, me, 2 * turn)  # it is there
        dictionary = shared[turn]
        meet(at, me, 2 * turn + 1)  # both have it
        zstandard.ZstdDecompressor(dict_data=dictionary)
        if me == 0:
            shared.pop(turn - 2, None)


def phase():
    """Let two threads use dictionaries together; return what is in use then."""
    at, shared = [-1, -1], {}
    threads = [threading.Thread(target=work, args=(me, at, shared)) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared.clear()
    return allocated()


def main():
    before = phase()
    for _ in range(PHASES):
        grown = phase() - before
        if abs(grown) > MUCH:
            break
    print(f"Z3: {grown >> 10} KiB more")
    return LEAK if grown > MUCH else 0


if __name__ == "__main__":
    sys.exit(main())
