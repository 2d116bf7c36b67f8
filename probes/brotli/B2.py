# /// script
# requires-python = ">=3.14"
# dependencies = ["brotli==1.2.1"]
#
# [tool.freewheel.probe]
# defect = "B2"
# title = "two calls of one Decompressor get into the decoder at once"
# releases = "<=1.2.1"
# use = "misuse"
# passes = "the pieces are those of the data, each once, and the other calls say: concurrent access"
# fails-by = ["wrong answer", "crash", "hang", "exception"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# exclusive = true
# ///
"""B2: two calls of one Decompressor get into the decoder at once.

Use:        one Decompressor in several threads, with output_buffer_limit. With the GIL, if the
            argument has a __buffer__() that lets another thread in; without it, at any time.
Symptom:    bytes twice or not at all, brotli.error: decoder failed, a crash.
Cause:      as with the Compressor (B1). Besides, what is left of the input is a block that each
            call reads, frees and replaces.

Shows:      a call is asked for its bytes, of which there are none, while another one is in the
            decoder; then threads drain one decoder, a piece each time.
"""

import concurrent.futures
import sys
import threading

import brotli

WRONG_ANSWER = 3  # docs/probes.md
TRIES, THREADS = 6, 2
DATA = b"".join(b"%015d\n" % at for at in range(500_000))
STREAM = brotli.compress(DATA, quality=1)


class Late:
    """No bytes, only after something has been called."""

    def __init__(self, first):
        self.first = first

    def __buffer__(self, flags):
        self.first()
        return memoryview(b"")


def end(text):
    print(f"B2: {text}")
    sys.exit(WRONG_ANSWER)


def process(decompressor, argument, pieces, **keywords):
    try:
        pieces.append(decompressor.process(argument, **keywords))
    except brotli.error as error:
        if "concurrent access" not in str(error):
            end(f"refused: {error}")


def position(piece):
    """Where in the data a piece comes from; it begins anywhere in a line."""
    line_end = piece.find(b"\n") + 1
    return int(piece[line_end : line_end + 15] or -1) * 16 - line_end


def check(what, pieces):
    pieces = [piece for piece in pieces if piece]
    try:
        got = b"".join(sorted(pieces, key=position))
    except ValueError:
        got = b""
    if got != DATA:
        end(f"{what}: {sum(map(len, pieces))} bytes of {len(DATA)}, or others")


def meet():
    """One call is asked for its bytes while another one is in the decoder."""
    decompressor, pieces = brotli.Decompressor(), []
    process(decompressor, STREAM, pieces, output_buffer_limit=1)
    under_way = threading.Event()

    def other():
        process(decompressor, Late(under_way.set), pieces)
        under_way.set()  # it has been refused

    second = threading.Thread(target=other)

    def first():
        second.start()
        under_way.wait()

    process(decompressor, Late(first), pieces)
    second.join()
    if not decompressor.is_finished():
        process(decompressor, b"", pieces)
    check("two calls that meet", pieces)


def drain():
    """Threads drain one decoder, a piece each time."""
    decompressor, pieces = brotli.Decompressor(), []
    process(decompressor, STREAM, pieces, output_buffer_limit=1)
    start = threading.Barrier(THREADS)

    def work(_):
        start.wait()
        while True:
            process(decompressor, b"", pieces, output_buffer_limit=1)
            try:
                if decompressor.is_finished():
                    return
            except brotli.error as error:
                if "concurrent access" not in str(error):
                    end(f"refused: {error}")

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    check("a race", pieces)


def main():
    for _ in range(TRIES):
        meet()
    drain()
    print("B2: every byte once")


if __name__ == "__main__":
    main()
