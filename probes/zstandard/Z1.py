# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z1"
# title = "a compressor that is used by two operations mixes up their data"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "each operation has its own data, or says that the object is in use"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z1: a compressor that is used by two operations mixes up their data.

Use:        one ZstdCompressor for several threads, say as a global. The documentation says
            that it is not made for that. With the GIL and without.
Symptom:    frames of other data, or that cannot be read; a crash.
Cause:      the object has one context. Each operation begins it anew, without a look whether
            another one is at work in it.

Shows:      while copy_stream() waits for its source, compress() is called, by the source
            itself and in another thread. Then threads call compress() as fast as they can.
"""

import concurrent.futures
import io
import sys
import threading

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
DATA = b"".join(b"%d, " % (at * 7919 % 100_003) for at in range(40_000))
OTHER = b"".join(b"%d; " % (at * 104_729 % 100_003) for at in range(20_000))
INPUT = DATA
THREADS, CALLS = 4, 100


class Source:
    """The input in two pieces; something is called before the second one is there."""

    def __init__(self, before):
        half = len(INPUT) // 2
        self.pieces, self.before = [INPUT[:half], INPUT[half:], b""], before

    def read(self, size=-1):
        if len(self.pieces) == 2:
            self.before()
        return self.pieces.pop(0)


def check(what, frame, expected):
    try:
        got = zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    except zstandard.ZstdError as error:
        end(f"{what}: cannot be read: {error}")
    if got != expected:
        end(f"{what}: other data")


def end(text):
    print(f"Z1: {text}")
    sys.exit(WRONG_ANSWER)


def attempt(what, compressor, argument, expected):
    """Call compress(); return whether that was refused."""
    try:
        got = compressor.compress(argument)
    except zstandard.ZstdError as error:
        if "in use" not in str(error):
            end(f"{what}: {error}")
        return True
    check(what, got, expected)
    return False


def in_this_thread(function):
    function()


def in_another_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def meet(call):
    compressor, sink = zstandard.ZstdCompressor(), io.BytesIO()

    def before():
        call(lambda: attempt("within copy_stream()", compressor, OTHER, OTHER))

    try:
        compressor.copy_stream(Source(before), sink)
    except zstandard.ZstdError as error:
        end(f"copy_stream(): {error}")
    check("copy_stream()", sink.getvalue(), DATA)
    if attempt("afterwards", compressor, OTHER, OTHER):
        end("afterwards: still in use")


def race():
    compressor = zstandard.ZstdCompressor()
    start = threading.Barrier(THREADS)

    def work(_):
        start.wait()
        return sum(
            attempt("a race", compressor, *pair)
            for _ in range(CALLS)
            for pair in ((DATA, DATA), (OTHER, OTHER))
        )

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(work, range(THREADS)))


def main():
    meet(in_this_thread)
    meet(in_another_thread)
    print(f"Z1: {race()} of {2 * THREADS * CALLS} calls refused, the others have their data")


if __name__ == "__main__":
    sys.exit(main())
