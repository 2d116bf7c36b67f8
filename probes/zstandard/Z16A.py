# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z16A"
# title = "a source that returns other than bytes is read at random"
# releases = "<=0.25.0"
# use = "supported"
# passes = "bytes-like objects are read, others raise TypeError"
# fails-by = ["crash", "wrong answer", "exception"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z16A: a source that returns other than bytes is read at random.

Use:        copy_stream() or read_to_iter() of a source whose read() returns a bytearray, a
            memoryview, or something wrong. With the GIL and without.
Symptom:    a crash, or SystemError: returned a result with an exception set.
Cause:      what read() returns is asked for its bytes as a bytes object, that this fails is
            ignored, and address and length, which have not been set, are used.

Shows:      sources of several kinds.
"""

import io
import sys

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
DATA = b"some text, " * 5000
FRAME = zstandard.ZstdCompressor().compress(DATA)


class Source:
    def __init__(self, content, kind):
        self.file, self.kind = io.BytesIO(content), kind

    def read(self, size=-1):
        return self.kind(self.file.read(size))


def copy(maker, source):
    sink = io.BytesIO()
    maker.copy_stream(source, sink)
    return sink.getvalue()


def iterate(maker, source):
    return b"".join(maker.read_to_iter(source))


def read(maker, source):
    return maker.stream_reader(source).read()


def main():
    for kind in (bytearray, memoryview, bytes, len, str):
        for function in (copy, iterate, read):
            for maker, content in (
                (zstandard.ZstdCompressor(), DATA),
                (zstandard.ZstdDecompressor(), FRAME),
            ):
                what = f"{function.__name__}(), {type(maker).__name__}, {kind.__name__}"
                try:
                    got = function(maker, Source(content, kind))
                except TypeError:
                    if kind in (len, str):
                        continue
                    print(f"Z16A: {what}: refused")
                    return WRONG_ANSWER
                if content is DATA:
                    got = zstandard.ZstdDecompressor().decompressobj().decompress(got)
                if got != DATA:
                    print(f"Z16A: {what}: other data")
                    return WRONG_ANSWER
    print("Z16A: what has bytes is read")
    return 0


if __name__ == "__main__":
    sys.exit(main())
