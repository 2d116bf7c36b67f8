# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z5"
# title = "pieces of one stream_writer overtake each other on their way to the object below"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "what was accepted is whole and in order, and the other calls say that it is in use"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z5: pieces of one stream_writer overtake each other on their way to the object below.

Use:        write() of one writer in several threads, or by the object below. The documentation
            says that it is not made for that. With the GIL and without.
Symptom:    frames that cannot be read, data in another order, a crash.
Cause:      write() fills a buffer of the writer, hands it to the object below, and fills it again.
            Meanwhile another write() can do the same.

Shows:      the object below keeps a piece until another write() has returned, which is made by
            the object itself, and in another thread; the same for flush() and close().
"""
# ruff: noqa: S311  noise must be repeatable

import random
import sys
import threading

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
NOISE = random.Random(1).randbytes(1_000_000)
FRAME = zstandard.ZstdCompressor().compress(NOISE)


class Sink:
    """Something is called before it takes its first piece."""

    def __init__(self):
        self.parts, self.before = [], None

    def write(self, data):
        before, self.before = self.before, None
        if before:
            before()
        self.parts.append(bytes(data))
        return len(data)


def end(text):
    print(f"Z5: {text}")
    sys.exit(WRONG_ANSWER)


def in_this_thread(function):
    function()


def in_another_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def attempt(function, *arguments):
    """Return whether a call was accepted."""
    try:
        function(*arguments)
    except zstandard.ZstdError as error:
        if "in use" not in str(error):
            end(f"{function.__name__}(): {error}")
        return False
    return True


def overtake(maker, data, call, check):
    """Write the rest of the data while the object below has a piece of its beginning."""
    sink = Sink()
    writer = maker.stream_writer(sink, closefd=False)
    first, second, accepted = data[: len(data) // 2], data[len(data) // 2 :], []

    def before():
        call(lambda: accepted.append(attempt(writer.write, second)))
        call(lambda: accepted.append(attempt(writer.flush)))
        call(lambda: accepted.append(attempt(writer.close)))

    sink.before = before
    attempt(writer.write, first)
    if not any(accepted):
        attempt(writer.write, second)
    attempt(writer.close)
    try:
        got = check(b"".join(sink.parts))
    except zstandard.ZstdError as error:
        end(f"{call.__name__}: cannot be read: {error}")
    if got != NOISE:
        end(f"{call.__name__}: other data")


def read(frame):
    return zstandard.ZstdDecompressor().decompressobj().decompress(frame)


def main():
    for call in (in_this_thread, in_another_thread):
        overtake(zstandard.ZstdCompressor(), NOISE, call, read)
        overtake(zstandard.ZstdDecompressor(), FRAME, call, bytes)
    print("Z5: what was accepted is whole")


if __name__ == "__main__":
    sys.exit(main())
