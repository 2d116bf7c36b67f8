# /// script
# requires-python = ">=3.14"
# dependencies = ["lz4==4.4.5"]
#
# [tool.freewheel.probe]
# defect = "L1"
# title = "compress_chunk() on a shared context returns blocks made of another call's data"
# releases = "<=4.4.5"
# use = "misuse"
# passes = "every call returns the block of its own data, or says that the context is in use"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# exclusive = true
# ///
"""L1: compress_chunk() on a shared context returns blocks made of another call's data.

Use:        one compression context for several threads, which the README's "thread safe" invites.
            Without the GIL: with it, LZ4 works with the GIL released too, and the same happens.
Symptom:    blocks that cannot be read, or that have another thread's bytes in them; a crash.
Cause:      liblz4 works in the context's tables with the thread detached and nothing locked.

Shows:      threads that start together compress blocks that are independent of each other and
            complete, at the level that takes longest, so that they are in liblz4 together. Each
            block is read again by itself.
"""

import concurrent.futures
import sys
import threading

import lz4.frame

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
THREADS, CALLS = 4, 40
END = bytes(4)


def is_refusal(error):
    return "in use" in str(error)


def main():
    context = lz4.frame.create_compression_context()
    header = lz4.frame.compress_begin(
        context, block_linked=False, auto_flush=True, compression_level=9
    )
    start = threading.Barrier(THREADS)

    def work(thread):
        data = b"".join(b"%d-%d," % (thread, at * 7919 % 100_003) for at in range(12_000))
        start.wait()
        for _ in range(CALLS):
            try:
                block = lz4.frame.compress_chunk(context, data)
            except RuntimeError as error:
                if not is_refusal(error):
                    return f"{error!r}"
                continue
            try:
                if lz4.frame.decompress(header + block + END) != data:
                    return "a block of other data"
            except RuntimeError as error:
                return f"a block that cannot be read: {error}"
        return None

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        wrong = [problem for problem in pool.map(work, range(THREADS)) if problem]
    print(f"L1: {wrong or 'every block is that of its call'}")
    return WRONG_ANSWER if wrong else 0


if __name__ == "__main__":
    if sys._is_gil_enabled():  # noqa: SLF001  documented, underscore and all
        print("L1: this needs free-threaded CPython with the GIL off")
        sys.exit(NOT_RUN)
    sys.exit(main())
