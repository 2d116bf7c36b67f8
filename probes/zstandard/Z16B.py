# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z16B"
# title = "a source that returns more than it was asked for runs over a block"
# releases = "<=0.25.0"
# use = "supported"
# passes = "all is decompressed"
# fails-by = ["crash", "wrong answer", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z16B: a source that returns more than it was asked for runs over a block.

Use:        read_to_iter() of a source that takes read_size for a hint. With the GIL and without.
Symptom:    a crash.
Cause:      what read() has returned is copied into a block of read_size bytes, whatever its length.

Shows:      a source that returns all that it has at once.
"""

import os
import sys

import zstandard

WRONG_ANSWER = 3  # docs/probes.md


class Source:
    def __init__(self, content):
        self.rest = content

    def read(self, size=-1):
        piece, self.rest = self.rest, b""
        return piece


def main():
    data = os.urandom(8 << 20)
    frame = zstandard.ZstdCompressor().compress(data)
    for _ in range(3):
        for read_size in (1000, 1 << 17):
            pieces = zstandard.ZstdDecompressor().read_to_iter(Source(frame), read_size=read_size)
            if b"".join(pieces) != data:
                print(f"Z16B: read_size {read_size}: other data")
                return WRONG_ANSWER
    print("Z16B: all is decompressed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
