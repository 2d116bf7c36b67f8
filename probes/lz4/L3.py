# /// script
# requires-python = ">=3.14"
# dependencies = ["lz4==4.4.5"]
#
# [tool.freewheel.probe]
# defect = "L3"
# title = "decompress_chunk() on a shared context returns other data, or none"
# releases = "<=4.4.5"
# use = "misuse"
# passes = "every call returns the data of its own frame"
# fails-by = ["wrong answer", "crash", "hang", "exception"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# exclusive = true
# ///
"""L3: decompress_chunk() on a shared context returns other data, or none.

Use:        one decompression context, or one LZ4FrameDecompressor, for several threads. With the
            GIL and without.
Symptom:    part of the data, nothing, RuntimeError for a frame that is in order, a crash.
Cause:      liblz4 works in the context with the thread detached and nothing locked. And
            LZ4FrameDecompressor keeps what it has not used yet in its attributes, between one
            call of the context and the next.

Shows:      threads give whole frames to one context, then to one decompressor, a frame for each
            call, so that each call has an answer of its own in any order.
"""

import concurrent.futures
import sys
import threading

import lz4.frame

WRONG_ANSWER = 3  # docs/probes.md
THREADS, CALLS = 4, 25


def race(decompress):
    """Return what is wrong with the answers."""
    start = threading.Barrier(THREADS)

    def work(thread):
        pairs = []
        for size in (100, 1_500_000, 500_000):
            data = b"".join(b"%d-%d|" % (thread, at) for at in range(size // 6))
            pairs.append((lz4.frame.compress(data, content_checksum=True), data))
        start.wait()
        for _ in range(CALLS):
            for frame, data in pairs:
                try:
                    got = decompress(frame)
                except RuntimeError as error:
                    if "in use" not in str(error):
                        return repr(error)
                else:
                    if got != data:
                        return f"{len(got)} bytes instead of {len(data)}, or others"
        return None

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return [problem for problem in pool.map(work, range(THREADS)) if problem]


def main():
    context = lz4.frame.create_decompression_context()
    wrong = race(lambda frame: lz4.frame.decompress_chunk(context, frame)[0])
    wrong = wrong or race(lz4.frame.LZ4FrameDecompressor().decompress)
    print(f"L3: {wrong or 'every call has the data of its frame'}")
    return WRONG_ANSWER if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
