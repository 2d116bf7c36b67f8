# /// script
# requires-python = ">=3.14"
# dependencies = ["brotli==1.2.1"]
#
# [tool.freewheel.stress]
# title = "streams, whole and in pieces; objects that go from thread to thread"
# use = "supported"
# work = { quick = 4, full = 40 }
# seconds = 60
# exclusive = true
# ///
# ruff: noqa: S311  random choices must be repeatable
"""What applications do with Brotli, in four threads at once.

All that comes back is compared with what went in.

    python src/freewheel/proof/load.py probes/brotli/stress.py SECONDS
"""

import random
import threading

import brotli
from load import expect

PACKAGE = brotli
SLACK = {"MiB resident": 48}  # what libraries have for a while


# ------------------------------------------------------------------------------ data, and pieces

SIZES = 0, 1, 100, 3_000, 66_000, 300_000
TEXT = b"".join(b"%d: item %d costs %d;" % (n, n * 7919 % 1009, n % 89) for n in range(40_000))
NOISE = random.Random(1).randbytes(400_000)


def some(random):
    """Text, noise, or some of both; small or large."""
    size = random.choice(SIZES)
    at = random.randrange(100_000)
    return random.choice((TEXT, TEXT, NOISE))[at : at + size] + NOISE[at : at + size // 10]


def buffer(random, data):
    """The data as bytes, or in an object that has them."""
    return random.choice((bytes, bytearray, memoryview))(data)


def cut(random, data):
    """Pieces of it."""
    size = random.choice((len(data) + 1, 1000, 17_000, 100_000))
    return [buffer(random, data[at : at + size]) for at in range(0, len(data), size)]


# ----------------------------------------------------------------------------- the kinds of work


def settings(random):
    return {
        "mode": random.choice((brotli.MODE_GENERIC, brotli.MODE_TEXT)),
        "quality": random.choice((0, 1, 2, 4, 5)),
        "lgwin": random.randrange(10, 25),
    }


def whole(worker):
    """Whole streams."""
    random = worker.random
    data = some(random)
    stream = brotli.compress(buffer(random, data), **settings(random))
    expect("a stream", data, brotli.decompress(buffer(random, stream)))
    return 1


def pieces(worker):
    """Streams in pieces, of which some are flushed."""
    random = worker.random
    data = some(random)
    compressor, decompressor = brotli.Compressor(**settings(random)), brotli.Decompressor()
    parts = []
    for piece in cut(random, data):
        parts.append(compressor.process(piece))
        if random.randrange(4) == 0:
            parts.append(compressor.flush())
    stream = b"".join([*parts, compressor.finish()])
    got = [decompressor.process(piece) for piece in cut(random, stream)]
    expect("a stream in pieces", data, b"".join(got))
    expect("its end", True, decompressor.is_finished())
    return 1


def limited(worker):
    """A stream is decompressed a little at a time."""
    random = worker.random
    data = some(random)
    stream, decompressor = brotli.compress(data, quality=1), brotli.Decompressor()
    got = [decompressor.process(stream, output_buffer_limit=1)]
    while not decompressor.is_finished():
        got.append(decompressor.process(b"", output_buffer_limit=random.choice((1, 40_000))))
    expect("a little at a time", data, b"".join(got))
    return 1


class Compressor(brotli.Compressor):
    pass


def derived(worker):
    """Objects of derived classes, and attributes of theirs."""
    random = worker.random
    compressor = Compressor(quality=1)
    compressor.data = some(random)
    stream = compressor.process(compressor.data) + compressor.finish()
    expect("a derived class", compressor.data, brotli.decompress(stream))
    return 1


def refusals(worker):
    """What is broken is refused, and nothing is kept."""
    random = worker.random
    stream = bytearray(brotli.compress(NOISE[:2000])[: random.randrange(1, 1500)])
    try:
        brotli.decompress(stream)
    except brotli.error:
        stream.append(0)
    else:
        expect("half a stream", "refused", "accepted")
    return 1


class Shared:
    """A compressor that threads hand to each other, and what it was given."""

    def __init__(self):
        self.lock, self.compressor = threading.Lock(), brotli.Compressor(quality=2)
        self.data, self.parts = [], []


SHARED = [Shared() for _ in range(3)]


def handed_over(worker):
    """Between two calls, a compressor goes from one thread to another."""
    random = worker.random
    one = random.choice(SHARED)
    with one.lock:
        one.data.append(some(random))
        one.parts.append(one.compressor.process(one.data[-1]))
        if len(one.data) == 20:
            stream = b"".join([*one.parts, one.compressor.finish()])
            expect("handed over", b"".join(one.data), brotli.decompress(stream))
            one.compressor, one.data, one.parts = brotli.Compressor(quality=2), [], []
    return 1


KINDS = [whole, pieces, limited, derived, refusals, handed_over]
