# /// script
# requires-python = ">=3.14"
# dependencies = ["brotli==1.2.1"]
#
# [tool.freewheel.probe]
# defect = "B1"
# title = "two calls of one Compressor get into the encoder at once"
# releases = "<=1.2.1"
# use = "misuse"
# passes = "what was accepted can be read again, and the other calls say: concurrent access"
# fails-by = ["wrong answer", "crash", "hang", "exception"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# exclusive = true
# ///
"""B1: two calls of one Compressor get into the encoder at once.

Use:        one Compressor in several threads. With the GIL, if the argument has a __buffer__()
            that lets another thread in; without it, at any time.
Symptom:    a stream that cannot be read, brotli.error: encoder failed, a crash.
Cause:      process() looks at a flag that keeps others out, and sets it later. What is between
            runs Python code, or lets a thread by that looks at the flag at the same time.

Shows:      a call is asked for its bytes while another one is in the encoder; then threads
            compress as fast as they can, so little that no order of results matters.
"""

import collections
import concurrent.futures
import itertools
import sys
import threading

import brotli

WRONG_ANSWER = 3  # docs/probes.md
TRIES = 4
THREADS, CALLS, SIZE = 2, 1500, 1036


def is_refusal(error):
    return "concurrent access" in str(error)


def end(text):
    print(f"B1: {text}")
    sys.exit(WRONG_ANSWER)


class Late:
    """Bytes that are there only after something has been called."""

    def __init__(self, data, first):
        self.data, self.first = data, first

    def __buffer__(self, flags):
        self.first()
        return memoryview(self.data)


def record(mark):
    return b"".join(b"%s %d;" % (mark, at * 7919 % 100_003) for at in range(100_000))


FIRST, SECOND = record(b"first"), record(b"second")


def check(parts, last, accepted):
    """What the parts of a stream have in them is what was accepted, in some order."""
    for order in (parts, parts[::-1]):
        try:
            got = brotli.decompress(b"".join([*order, last]))
        except brotli.error:
            continue
        if got in (b"".join(accepted), b"".join(reversed(accepted))):
            return
    end("what was accepted cannot be read")


def meet():
    """One call is asked for its bytes while another one is in the encoder."""
    compressor = brotli.Compressor(quality=5, lgwin=16)
    parts, accepted = [], []

    under_way = threading.Event()

    def process(first, data):
        try:
            part = compressor.process(Late(data, first))
        except brotli.error as error:
            if not is_refusal(error):
                end(f"refused: {error}")
        else:
            accepted.append(data)
            parts.append(part)

    def other():
        process(under_way.set, SECOND)
        under_way.set()  # it has been refused

    second = threading.Thread(target=other)

    def first():
        second.start()
        under_way.wait()

    process(first, FIRST)
    second.join()
    check(parts, compressor.finish(), accepted)


def race():
    """Threads compress as fast as they can."""
    compressor = brotli.Compressor(quality=2, lgwin=24, lgblock=24)
    start = threading.Barrier(THREADS)
    early = []

    def work(thread):
        accepted = []
        start.wait()
        for call in range(CALLS):
            data = b"%3d %7d |" % (thread, call) * (SIZE // 14)
            try:
                early.append(compressor.process(data))
            except brotli.error as error:
                if not is_refusal(error):
                    end(f"refused: {error}")
            else:
                accepted.append(data)
        return accepted

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        pieces = itertools.chain.from_iterable(pool.map(work, range(THREADS)))
        accepted = collections.Counter(pieces)
    try:
        got = brotli.decompress(b"".join(early) + compressor.finish())
    except brotli.error as error:
        end(f"a race: {error}")
    size = SIZE // 14 * 13
    if collections.Counter(got[at : at + size] for at in range(0, len(got), size)) != accepted:
        end("a race: not the pieces that were accepted")


def main():
    for _ in range(TRIES):
        meet()
    race()
    print("B1: what was accepted can be read")


if __name__ == "__main__":
    main()
