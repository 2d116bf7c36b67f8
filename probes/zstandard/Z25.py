# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z25"
# title = "operations of a file that open() has made mix up their data"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "what was written can be read; threads take turns, a call from within a call does not"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z25: operations of a file that open() has made mix up their data.

Use:        a file of zstandard.open() that several threads share, as they share files of gzip or
            bz2, for a log for instance. With the GIL and without.
Symptom:    files that cannot be read, pieces in another order, a crash.
Cause:      as with other streams (Z5, Z6). Those are refused; a file is to be waited for.

Shows:      the file below keeps a piece until another thread's write() has returned, if that can
            return before. That write() must not fail. One that the file below makes must. Two
            files which write to each other do not wait for ever, and four threads read one file.
"""
# ruff: noqa: S311  noise must be repeatable

import concurrent.futures
import contextlib
import io
import random
import sys
import threading

import zstandard

WRONG_ANSWER, HANG = 3, 5  # docs/probes.md
NOISE = random.Random(1).randbytes(1_000_000)
HALF = len(NOISE) // 2
FIRST, SECOND = NOISE[:HALF], NOISE[HALF:]
WAIT = 0.5  # seconds for another thread's write(), which takes a hundredth of that
THREADS, SIZE = 4, 1000


class Sink:
    """A file below; something is called before it takes its first piece."""

    def __init__(self):
        self.parts, self.before = [], None

    def write(self, data):
        before, self.before = self.before, None
        if before:
            before()
        self.parts.append(bytes(data))
        return len(data)


def end(code, text):
    print(f"Z25: {text}")
    sys.exit(code)


def overtake():
    """Another thread writes while the file below has a piece."""
    sink = Sink()
    file = zstandard.open(sink, "wb")
    second = threading.Thread(target=file.write, args=(SECOND,))

    def before():
        second.start()
        second.join(WAIT)
        try:
            file.write(b"from within")
        except zstandard.ZstdError:
            return
        end(WRONG_ANSWER, "a write() from within a write() is accepted")

    sink.before = before
    file.write(FIRST)
    second.join()
    file.close()
    try:
        got = zstandard.ZstdDecompressor().decompressobj().decompress(b"".join(sink.parts))
    except zstandard.ZstdError as error:
        end(WRONG_ANSWER, f"the file cannot be read: {error}")
    if got != NOISE:
        end(WRONG_ANSWER, "other data, or in another order")


def feed_each_other():
    """Each file below writes to the other file, while both are being written to."""
    sinks = [Sink(), Sink()]
    files = [zstandard.open(sink, "wb") for sink in sinks]
    both = threading.Barrier(2)

    def before(other):
        both.wait(10)
        with contextlib.suppress(zstandard.ZstdError):
            files[other].write(SECOND)

    sinks[0].before, sinks[1].before = (lambda: before(1)), (lambda: before(0))
    threads = [threading.Thread(target=file.write, args=(FIRST,), daemon=True) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    if any(thread.is_alive() for thread in threads):
        end(HANG, "two files wait for each other")


def read_together():
    data = b"".join(b"%015d\n" % at for at in range(20_000))
    file = zstandard.open(io.BytesIO(zstandard.compress(data)))

    def read(_):
        return list(iter(lambda: file.read(SIZE), b""))

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        pieces = [piece for part in pool.map(read, range(THREADS)) for piece in part]
    if sorted(pieces) != sorted(data[at : at + SIZE] for at in range(0, len(data), SIZE)):
        end(WRONG_ANSWER, "the pieces that were read are not those of the data")


def main():
    overtake()
    feed_each_other()
    read_together()
    print("Z25: what was written can be read")


if __name__ == "__main__":
    sys.exit(main())
