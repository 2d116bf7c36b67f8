# /// script
# requires-python = ">=3.14"
# dependencies = ["lz4==4.4.5"]
#
# [tool.freewheel.probe]
# defect = "L2"
# title = "a shared LZ4FrameCompressor makes frames that cannot be read"
# releases = "<=4.4.5"
# use = "misuse"
# passes = "the frame has every piece that was accepted, whole and once"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# exclusive = true
# ///
"""L2: a shared LZ4FrameCompressor makes frames that cannot be read.

Use:        compress() of one compressor in several threads. With the GIL and without.
Symptom:    RuntimeError: LZ4F_decompress failed, or pieces missing, when the frame is read; a
            crash.
Cause:      liblz4 gathers what it is given in a buffer of the context, and sums it up in a
            checksum there. It does so with the thread detached, and nothing is locked: two calls
            copy to the same place, and the second to get there may be past the buffer's end.

Shows:      threads that start together compress pieces of 300 KB, fewer than fit the buffer, so
            that no order of results matters. flush() gives the whole frame.
"""

import collections
import concurrent.futures
import sys
import threading

import lz4.frame

WRONG_ANSWER = 3  # docs/probes.md
THREADS, CALLS, SIZE, ROUNDS = 4, 3, 300_000, 80
PIECES = [
    [b"%3d %3d |||" % (thread, n) * (SIZE // 11) for n in range(CALLS)] for thread in range(THREADS)
]


def one_round(pool):
    """Return what is wrong with a frame that all threads have a part in."""
    compressor = lz4.frame.LZ4FrameCompressor(
        block_size=lz4.frame.BLOCKSIZE_MAX4MB, content_checksum=True
    )
    parts = [compressor.begin()]
    start = threading.Barrier(THREADS)

    def work(pieces):
        start.wait()
        accepted = []
        for piece in pieces:
            try:
                parts.append(compressor.compress(piece))
            except RuntimeError as error:
                if "in use" not in str(error):
                    raise
            else:
                accepted.append(piece)
        return accepted

    accepted = collections.Counter()
    for pieces in pool.map(work, PIECES):
        accepted.update(pieces)
    parts.append(compressor.flush())
    try:
        got = lz4.frame.decompress(b"".join(parts))
    except RuntimeError as error:
        return f"the frame cannot be read: {error}"
    size = SIZE // 11 * 11
    found = collections.Counter(got[at : at + size] for at in range(0, len(got), size))
    return None if found == accepted else "the pieces are not those that were accepted"


def main():
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for turn in range(ROUNDS):
            if problem := one_round(pool):
                print(f"L2: round {turn}: {problem}")
                return WRONG_ANSWER
    print(f"L2: {ROUNDS} frames, all whole")
    return 0


if __name__ == "__main__":
    sys.exit(main())
