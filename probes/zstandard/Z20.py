# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z20"
# title = "read_to_iter() of bytes crashes where a block does not fit"
# releases = "<=0.25.0"
# use = "supported"
# passes = "all is compressed"
# fails-by = ["crash", "wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z20: read_to_iter() of bytes crashes where a block does not fit.

Use:        ZstdCompressor.read_to_iter() of a bytes object that does not get smaller. No thread is
            needed. With the GIL and without.
Symptom:    a crash.
Cause:      when a piece of the input is used up in a later call than the one that took it, the
            iterator drops what its source returned; a buffer has no source.

Shows:      bytes that do not get smaller, with several sizes of pieces.
"""

import os
import sys

import zstandard

WRONG_ANSWER = 3  # docs/probes.md


def main():
    data = os.urandom(1 << 20)
    for keywords in ({}, {"write_size": 1000}, {"read_size": 1 << 20}, {"write_size": 50}):
        frame = b"".join(zstandard.ZstdCompressor(level=1).read_to_iter(data, **keywords))
        if zstandard.ZstdDecompressor().decompress(frame) != data:
            print(f"Z20: {keywords}: other data")
            return WRONG_ANSWER
    print("Z20: all is compressed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
