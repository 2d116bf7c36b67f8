# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z14"
# title = "__init__() again loses a context that others may be using"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "it is refused, or nothing is lost; the object works"
# fails-by = ["leak", "crash", "wrong answer", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z14: __init__() again loses a context that others may be using.

Use:        __init__() of an object that has been initialised. With the GIL and without.
Symptom:    100 KiB and more that are lost each time; a crash if the object is in use.
Cause:      __init__() makes a context, or a copy of a dictionary, and stores it over the one that
            is there.

Shows:      objects are initialised again, also while copy_stream() waits for its source, and work
            as before. What malloc() has given away is the same afterwards.
"""

import contextlib
import ctypes
import gc
import io
import struct
import sys

import zstandard

WRONG_ANSWER, LEAK = 3, 4  # docs/probes.md


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


DATA = b"".join(b"%d, " % (at * 7919 % 100_003) for at in range(3000))
FRAME = zstandard.ZstdCompressor().compress(DATA)
TIMES, MUCH = 100, 1 << 20


def again(one, *arguments):
    with contextlib.suppress(zstandard.ZstdError):
        one.__init__(*arguments)


class Source:
    """The frame in two pieces, and something is called in between."""

    def __init__(self, between):
        self.pieces, self.between = [FRAME[:100], FRAME[100:], b""], between

    def read(self, size=-1):
        if len(self.pieces) == 2:
            self.between()
        return self.pieces.pop(0)


def main():
    decompressor, sink = zstandard.ZstdDecompressor(), io.BytesIO()
    try:
        decompressor.copy_stream(Source(lambda: again(decompressor)), sink)
    except zstandard.ZstdError as error:
        print(f"Z14: copy_stream(): {error}")
        return WRONG_ANSWER
    if sink.getvalue() != DATA or decompressor.decompress(FRAME) != DATA:
        print("Z14: other data")
        return WRONG_ANSWER
    segments = zstandard.BufferWithSegments(DATA, struct.pack("=QQ", 0, len(DATA)))
    for one, *arguments in (
        (zstandard.ZstdCompressor(),),
        (decompressor,),
        (zstandard.ZstdCompressionParameters(), 3),
        (zstandard.BufferWithSegmentsCollection(segments), segments),
    ):
        again(one, *arguments)
        before = allocated()
        for _ in range(TIMES):
            again(one, *arguments)
        grown = allocated() - before
        print(f"Z14: {type(one).__name__}: {grown >> 10} KiB more")
        if grown > MUCH:
            return LEAK
    return 0


if __name__ == "__main__":
    sys.exit(main())
