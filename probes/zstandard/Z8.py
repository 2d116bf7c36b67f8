# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z8"
# title = "an iterator that is advanced from two places loses its input"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "each call gets the next piece, or says that it is in use"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z8: an iterator that is advanced from two places loses its input.

Use:        one iterator of read_to_iter(), or of a chunker, in several threads, or advanced by its
            own source. The documentation says that it is not made for that. With the GIL and
            without.
Symptom:    pieces that are missing or in another order, a crash.
Cause:      input, and the object that owns it, are fields of the iterator, which a call that has
            waited for the source sets without looking.

Shows:      while an iterator waits for its source, the source, and another thread, ask for the
            next piece. Then threads advance the iterator of a chunker together.
"""
# ruff: noqa: S311  noise must be repeatable

import concurrent.futures
import io
import itertools
import random
import sys
import threading

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
NOISE = random.Random(1).randbytes(1_500_000)
FRAME = zstandard.ZstdCompressor().compress(NOISE)
THREADS = 4


class Source:
    """An input that calls something before its second piece is there."""

    def __init__(self, data, before):
        self.file, self.before, self.calls = io.BytesIO(data), before, 0

    def read(self, size=-1):
        self.calls += 1
        piece = self.file.read(size)
        if self.calls == 2:
            self.before()
        return piece


def end(text):
    print(f"Z8: {text}")
    sys.exit(WRONG_ANSWER)


def in_this_thread(function):
    function()


def in_another_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def advance_twice(what, maker, data, call, check):
    pieces = []

    def attempt():
        try:
            pieces.append(next(iterator))
        except zstandard.ZstdError as error:
            if "in use" not in str(error):
                end(f"{what}, {call.__name__}: {error}")

    source = Source(data, lambda: call(attempt))
    iterator = maker.read_to_iter(source, read_size=200_000, write_size=10_000)
    try:
        pieces += iterator
        got = check(b"".join(pieces))
    except zstandard.ZstdError as error:
        end(f"{what}, {call.__name__}: {error}")
    if got != NOISE:
        end(f"{what}, {call.__name__}: {len(got)} bytes of {len(NOISE)}, or others")


def read(frame):
    return zstandard.ZstdDecompressor().decompressobj().decompress(frame)


def chunks():
    return zstandard.ZstdCompressor(level=1).chunker(chunk_size=1000).compress(NOISE)


def drain(iterator):
    start = threading.Barrier(THREADS)

    def work(_):
        start.wait()
        pieces = []
        while True:
            try:
                pieces.append(next(iterator))
            except StopIteration:
                return pieces
            except zstandard.ZstdError as error:
                if "in use" not in str(error):
                    end(f"a chunker: {error}")

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return list(itertools.chain.from_iterable(pool.map(work, range(THREADS))))


def main():
    for call in (in_this_thread, in_another_thread):
        advance_twice("decompressing", zstandard.ZstdDecompressor(), FRAME, call, bytes)
        advance_twice("compressing", zstandard.ZstdCompressor(), NOISE, call, read)
    if sorted(drain(chunks())) != sorted(chunks()):
        end("a chunker: other chunks")
    print("Z8: each piece once, in order")


if __name__ == "__main__":
    sys.exit(main())
