# /// script
# requires-python = ">=3.14"
# dependencies = ["lz4==4.4.5"]
#
# [tool.freewheel.probe]
# defect = "L4"
# title = "a new frame frees the buffers that another thread's call works in"
# releases = "<=4.4.5"
# use = "misuse"
# passes = "no crash, and afterwards both contexts can be used"
# fails-by = ["wrong answer", "crash", "hang", "exception"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# exclusive = true
# ///
"""L4: a new frame frees the buffers that another thread's call works in.

Use:        compress_begin() or compress_flush() in one thread and compress_chunk() in another, or
            reset_decompression_context() and decompress_chunk(). With the GIL and without.
Symptom:    a crash.
Cause:      compress_begin() frees the context's buffers and makes others, of the size that the
            new frame needs, and nothing keeps it out while compress_chunk() works in them.

Shows:      threads do all of that on one context for a moment. Exceptions are in order then. At
            the end one thread writes and reads a frame.
"""

import concurrent.futures
import itertools
import sys
import threading

import lz4.frame

WRONG_ANSWER = 3  # docs/probes.md
CALLS = 20
DATA = b"".join(b"%d, " % (at * 7919 % 100_003) for at in range(60_000))
SIZES = (
    lz4.frame.BLOCKSIZE_MAX64KB,
    lz4.frame.BLOCKSIZE_MAX4MB,
    lz4.frame.BLOCKSIZE_MAX256KB,
)


def race(*functions):
    """Call all functions again and again, each in a thread; return how often one has raised.

    That ends when the first, which takes longest, has been called often enough.
    """
    start, ended = threading.Barrier(len(functions)), threading.Event()

    def work(function):
        refused, calls = 0, 0
        start.wait()
        while not ended.is_set():
            try:
                function()
            except (RuntimeError, ValueError):
                refused += 1
            calls += 1
            if function is functions[0] and calls == CALLS:
                ended.set()
        return refused

    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        return sum(pool.map(work, functions))


def main():
    context = lz4.frame.create_compression_context()
    lz4.frame.compress_begin(context, compression_level=9)
    sizes = itertools.cycle(SIZES)
    refused = race(
        lambda: lz4.frame.compress_chunk(context, DATA),
        lambda: lz4.frame.compress_begin(context, block_size=next(sizes), compression_level=9),
        lambda: lz4.frame.compress_flush(context, end_frame=False),
    )
    print(f"L4: compressing: {refused} exceptions", flush=True)
    header = lz4.frame.compress_begin(context)
    chunk = lz4.frame.compress_chunk(context, DATA)
    frame = header + chunk + lz4.frame.compress_flush(context)
    if lz4.frame.decompress(frame) != DATA:
        print("L4: the compression context cannot be used any more")
        return WRONG_ANSWER

    context = lz4.frame.create_decompression_context()
    places = itertools.cycle(range(0, len(frame) - 5000, 5000))

    def decompress():
        at = next(places)
        lz4.frame.decompress_chunk(context, frame[at : at + 5000])

    def whole():
        for _ in range(50):
            decompress()

    refused = race(whole, decompress, lambda: lz4.frame.reset_decompression_context(context))
    print(f"L4: decompressing: {refused} exceptions", flush=True)
    lz4.frame.reset_decompression_context(context)
    if lz4.frame.decompress_chunk(context, frame)[0] != DATA:
        print("L4: the decompression context cannot be used any more")
        return WRONG_ANSWER
    return 0


if __name__ == "__main__":
    sys.exit(main())
