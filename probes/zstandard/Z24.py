# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z24"
# title = "a reader reads memory that its source has given back"
# releases = "<=0.25.0"
# use = "supported"
# passes = "the right data, or BufferError for the source"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z24: a reader reads memory that its source has given back.

Use:        a stream_reader whose source returns a bytearray of its own, and clears or refills it
            later. With the GIL and without.
Symptom:    other data, ZstdError, a crash.
Cause:      the reader asks what its source returned for its buffer, releases that at once, and goes
            on reading its memory.

Shows:      a source clears its bytearray, if it can, after a part of it has been read, and the
            memory is used for something else.
"""

import contextlib
import os
import sys

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
DATA = os.urandom(1 << 20)


class Source:
    def __init__(self, content):
        self.block, self.calls = bytearray(content), 0

    def read(self, size=-1):
        self.calls += 1
        return self.block if self.calls == 1 else b""


def main():
    for maker, content in (
        (zstandard.ZstdCompressor(), DATA),
        (zstandard.ZstdDecompressor(), zstandard.ZstdCompressor().compress(DATA)),
    ):
        source = Source(content)
        reader = maker.stream_reader(source)
        got = reader.read(10)
        with contextlib.suppress(BufferError):
            source.block.clear()
        others = [bytearray(os.urandom(1 << 20)) for _ in range(5)]
        try:
            got += reader.read()
            if content is DATA:
                got = zstandard.ZstdDecompressor().decompressobj().decompress(got)
        except zstandard.ZstdError as error:
            print(f"Z24: {type(maker).__name__}: {error}")
            return WRONG_ANSWER
        if got != DATA:
            print(f"Z24: {type(maker).__name__}: other data")
            return WRONG_ANSWER
        source.block.clear()  # nothing holds it any more
        del others
    print("Z24: the right data")
    return 0


if __name__ == "__main__":
    sys.exit(main())
