# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z7"
# title = "a shared compressobj or decompressobj loses pieces"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "every piece that was accepted is there once, and the other calls say that it is in use"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# exclusive = true
# ///
"""Z7: a shared compressobj or decompressobj loses pieces.

Use:        one compressobj or decompressobj in several threads. The documentation says that it is
            not made for that. With the GIL and without.
Symptom:    pieces that are missing, other data, ZstdError, a crash.
Cause:      both work in the context of their compressor or decompressor, and in a buffer of their
            own, with the thread detached and nothing that keeps a second call out.

Shows:      threads give whole frames to one decompressobj, a frame for each call; and pieces to
            one compressobj, fewer than fit its context, so that no order of results matters.
"""

import collections
import concurrent.futures
import itertools
import sys
import threading

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
THREADS, CALLS, SIZE, ROUNDS = 4, 3, 9_000, 150
PIECES = [
    [b"%d %d |" % (thread, call) * (SIZE // 5) for call in range(CALLS)]
    for thread in range(THREADS)
]
FRAMES = [
    [(zstandard.ZstdCompressor().compress(piece), piece) for piece in (one * 12 for one in pieces)]
    for pieces in PIECES
]


def end(text):
    print(f"Z7: {text}")
    sys.exit(WRONG_ANSWER)


def attempt(function, argument):
    """Return the answer in a list, or an empty one if the call was refused."""
    try:
        return [function(argument)]
    except zstandard.ZstdError as error:
        if "in use" not in str(error):
            end(f"{function.__name__}(): {error}")
        return []


def compress(pool):
    one, start = zstandard.ZstdCompressor().compressobj(), threading.Barrier(THREADS)
    parts = []

    def work(pieces):
        start.wait()
        accepted = []
        for piece in pieces:
            if part := attempt(one.compress, piece):
                parts.extend(part)
                accepted.append(piece)
        return accepted

    accepted = itertools.chain.from_iterable(pool.map(work, PIECES))
    expected = collections.Counter(accepted)
    try:
        frame = b"".join([*parts, one.flush()])
        got = zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    except zstandard.ZstdError as error:
        end(f"cannot be read: {error}")
    size = SIZE // 5 * 5
    if collections.Counter(got[at : at + size] for at in range(0, len(got), size)) != expected:
        end("not the pieces that were accepted")


def decompress(pool):
    one = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    start = threading.Barrier(THREADS)

    def work(frames):
        start.wait()
        for frame, data in frames:
            if any(got != data for got in attempt(one.decompress, frame)):
                end("decompress(): other data")

    list(pool.map(work, FRAMES))


def main():
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for _ in range(ROUNDS):
            decompress(pool)
            compress(pool)
    print("Z7: every piece once")


if __name__ == "__main__":
    sys.exit(main())
