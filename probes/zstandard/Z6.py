# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z6"
# title = "a read() of one stream_reader overwrites the input of another"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "each call gets the next piece, or says that the reader is in use"
# fails-by = ["wrong answer", "crash", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z6: a read() of one stream_reader overwrites the input of another.

Use:        read() of one reader in several threads, or by its source. The documentation says that
            it is not made for that. With the GIL and without.
Symptom:    pieces that are missing or in another order, a crash.
Cause:      input, and the object that owns it, are fields of the reader, which a read() that has
            waited for its source sets without looking.

Shows:      while a read() waits for its source, the source, and another thread, call read(),
            read1(), readinto() and readinto1(). tell(), closed and memory_size() are answered.
"""

import io
import sys
import threading

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
DATA = b"".join(b"%d, " % (at * 7919 % 100_003) for at in range(60_000))
FRAME = zstandard.ZstdCompressor().compress(DATA)


class Source:
    """An input that calls something before its second piece is there."""

    def __init__(self, data, before):
        self.file, self.before, self.calls = io.BytesIO(data), before, 0

    def read(self, size=-1):
        self.calls += 1
        piece = self.file.read(3000)
        if self.calls == 2:
            self.before()
        return piece


def end(text):
    print(f"Z6: {text}")
    sys.exit(WRONG_ANSWER)


def in_this_thread(function):
    function()


def in_another_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def read_twice(what, maker, data, call, check):
    pieces = []

    def before():
        target = bytearray(10)
        for function in (
            lambda: pieces.append(reader.read(10)),
            lambda: pieces.append(reader.read1(10)),
            lambda: pieces.append(bytes(target[: reader.readinto(target)])),
            lambda: pieces.append(bytes(target[: reader.readinto1(target)])),
        ):
            call(lambda function=function: attempt(function))
        call(lambda: (reader.tell(), reader.closed, maker.memory_size()))

    def attempt(function):
        try:
            function()
        except zstandard.ZstdError as error:
            if "in use" not in str(error):
                end(f"{what}, {call.__name__}: {error}")

    source = Source(data, before)
    reader = maker.stream_reader(source)
    try:
        pieces.append(reader.read(50_000))
        pieces += iter(lambda: reader.read(50_000), b"")
        got = check(b"".join(pieces))
    except zstandard.ZstdError as error:
        end(f"{what}, {call.__name__}: {error}")
    if got != DATA:
        end(f"{what}, {call.__name__}: {len(got)} bytes of {len(DATA)}, or others")


def read(frame):
    return zstandard.ZstdDecompressor().decompressobj().decompress(frame)


def main():
    for call in (in_this_thread, in_another_thread):
        read_twice("decompressing", zstandard.ZstdDecompressor(), FRAME, call, bytes)
        read_twice("compressing", zstandard.ZstdCompressor(), DATA, call, read)
    print("Z6: each piece once, in order")


if __name__ == "__main__":
    sys.exit(main())
