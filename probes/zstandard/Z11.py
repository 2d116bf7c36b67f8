# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z11"
# title = "an object of a derived class corrupts the heap when it is freed"
# releases = "<=0.25.0"
# use = "supported"
# passes = "attributes keep their values"
# fails-by = ["crash", "wrong answer", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z11: an object of a derived class corrupts the heap when it is freed.

Use:        any class derived from one of zstandard's. No thread is needed. With the GIL and
            without.
Symptom:    attributes that change by themselves, crashes anywhere.
Cause:      destructors free the memory of the object themselves. That of an object of a derived
            class begins before the object.

Shows:      objects of derived classes with attributes are made and dropped.
"""

import gc
import sys

import zstandard

WRONG_ANSWER = 3  # docs/probes.md


class Compressor(zstandard.ZstdCompressor):
    pass


class Decompressor(zstandard.ZstdDecompressor):
    pass


class Dictionary(zstandard.ZstdCompressionDict):
    pass


class Parameters(zstandard.ZstdCompressionParameters):
    pass


def make(turn):
    made = []
    for number in range(100):
        made += [Compressor(), Decompressor(), Dictionary(b"some bytes"), Parameters()]
        for one in made[-4:]:
            one.tag = [turn, number, type(one)]
    return made


def main():
    for turn in range(15):
        made = make(turn)
        del made[::2]
        more = make(-turn)
        for one in [*made, *more]:
            if abs(one.tag[0]) != turn or one.tag[2] is not type(one):
                print(f"Z11: turn {turn}: {one!r} has {one.tag!r}")
                return WRONG_ANSWER
        del made, more, one
        gc.collect()
    print("Z11: attributes keep their values")
    return 0


if __name__ == "__main__":
    sys.exit(main())
