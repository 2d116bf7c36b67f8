# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.stress]
# title = "frames, streams, files, lists and dictionaries of all threads"
# use = "supported"
# work = { quick = 4, full = 40 }
# seconds = 60
# exclusive = true
# ///
# ruff: noqa: S311  random choices must be repeatable
"""What applications do with zstandard, in four threads at once.

All that comes back is compared with what went in.

    python src/freewheel/proof/load.py probes/zstandard/stress.py SECONDS
"""

import io
import random
import threading
from collections import Counter

import zstandard
from load import EXCEPTION, end, expect

PACKAGE = zstandard
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

COUNT = 3000
SAMPLES = [
    b"user %d likes item %d and item %d" % (n, n * 7 % 100, n * 13 % 100) for n in range(COUNT)
]
DICTIONARY = zstandard.train_dictionary(8192, SAMPLES)  # of all threads
PARAMETERS = zstandard.ZstdCompressionParameters.from_level(2, write_checksum=True)


def compressor(random):
    if random.randrange(3) == 0:
        return zstandard.ZstdCompressor(compression_params=PARAMETERS)
    return zstandard.ZstdCompressor(level=random.choice((-1, 1, 3, 5)))


def whole(worker):
    """Whole frames, by objects that are used again."""
    random = worker.random
    one, other = compressor(random), zstandard.ZstdDecompressor()
    for _ in range(3):
        data = some(random)
        frame = one.compress(buffer(random, data))
        expect("a frame", data, other.decompress(buffer(random, frame)))
    return 1


def messages(worker):
    """Small messages with the dictionary that all threads share."""
    random = worker.random
    if random.randrange(10) == 0:
        DICTIONARY.precompute_compress(level=random.choice((1, 3)))
    one = zstandard.ZstdCompressor(dict_data=DICTIONARY)
    other = zstandard.ZstdDecompressor(dict_data=DICTIONARY)
    for data in random.choices(SAMPLES, k=5):
        expect("a message", data, other.decompress(one.compress(data)))
    return 1


def objects(worker):
    """Streams in pieces."""
    random = worker.random
    data = some(random)
    one, other = compressor(random).compressobj(), zstandard.ZstdDecompressor().decompressobj()
    frame = b"".join([*map(one.compress, cut(random, data)), one.flush()])
    got = [other.decompress(piece) for piece in cut(random, frame)]
    expect("a stream", data, b"".join(got))
    return 1


class Source:
    """What read() returns is of any kind."""

    def __init__(self, random, data):
        self.random, self.file = random, io.BytesIO(data)

    def read(self, size=-1):
        return buffer(self.random, self.file.read(size))


def streams(worker):
    """Writers and readers of both kinds."""
    random = worker.random
    data, sink, back = some(random), io.BytesIO(), io.BytesIO()
    with compressor(random).stream_writer(sink, closefd=False) as writer:
        for piece in cut(random, data):
            writer.write(piece)
    frame = sink.getvalue()
    with zstandard.ZstdDecompressor().stream_writer(back, closefd=False) as writer:
        for piece in cut(random, frame):
            writer.write(piece)
    expect("a writer", data, back.getvalue())
    with zstandard.ZstdDecompressor().stream_reader(Source(random, frame)) as reader:
        size = random.choice((-1, 1000, 70_000))
        expect("a reader", data, reader.read() if size < 0 else b"".join(pieces(reader, size)))
    with compressor(random).stream_reader(Source(random, data)) as reader:
        frame = b"".join(pieces(reader, 5000))
    expect(
        "a compressing reader", data, zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    )
    return 1


def pieces(reader, size):
    return iter(lambda: reader.read(size), b"")


def iterators(worker):
    """Iterators, chunkers and copies."""
    random = worker.random
    data, sink = some(random), io.BytesIO()
    frame = b"".join(compressor(random).read_to_iter(Source(random, data)))
    expect("an iterator", data, b"".join(zstandard.ZstdDecompressor().read_to_iter(frame)))
    chunker = compressor(random).chunker(chunk_size=4000)
    chunks = [chunk for piece in cut(random, data) for chunk in chunker.compress(piece)]
    zstandard.ZstdDecompressor().copy_stream(
        io.BytesIO(b"".join([*chunks, *chunker.finish()])), sink
    )
    expect("a chunker", data, sink.getvalue())
    return 1


def lists(worker):
    """Many inputs at once, by threads of libzstd."""
    random = worker.random
    inputs = [some(random)[:5000] for _ in range(20)] + [b"not empty", b""]
    frames = zstandard.ZstdCompressor().multi_compress_to_buffer(inputs, threads=2)
    expect("many", len(inputs), len(frames))
    got = zstandard.ZstdDecompressor().multi_decompress_to_buffer(frames, threads=2)
    expect("many", inputs, [one.tobytes() for one in got])
    try:
        zstandard.ZstdDecompressor().multi_decompress_to_buffer([])
    except ValueError:
        return 1
    return expect("no frames", "ValueError", "a result")


class Derived(zstandard.ZstdCompressor):
    pass


def derived(worker):
    """Objects of derived classes, and attributes of theirs."""
    random = worker.random
    one = Derived()
    one.data = some(random)
    expect(
        "a derived class", one.data, zstandard.ZstdDecompressor().decompress(one.compress(one.data))
    )
    return 1


SHARED = zstandard.ZstdCompressor(), zstandard.ZstdDecompressor()  # which is misuse


def refused(worker):
    """Objects that all threads use give the right answer, or none."""
    random = worker.random
    one, other = SHARED
    data = some(random)
    try:
        frame = one.compress(data)
        expect("a shared object", data, zstandard.ZstdDecompressor().decompress(frame))
        expect("a shared object", data, other.decompress(frame))
    except zstandard.ZstdError as error:
        if "in use" not in str(error):
            end(EXCEPTION, f"refused: {error}")
    return 1


class Log:
    """A file that all threads write to, and what they have written."""

    def __init__(self):
        self.sink = io.BytesIO()
        self.file = zstandard.open(self.sink, "wb")
        self.lines = Counter()
        self.writers = 0


logs, look = [Log()], threading.Lock()


def log(worker):
    """Write to the log that all threads write to; the last writer of a full one reads it."""
    random = worker.random
    with look:
        one = logs[-1]
        one.writers += 1
    mine = [b"%d: %d\n" % (threading.get_ident(), random.randrange(10**9)) for _ in range(20)]
    for line in mine:
        one.file.write(line)
    with look:
        one.lines.update(mine)
        one.writers -= 1
        if logs[-1] is one and len(one.lines) > 2000:
            logs.append(Log())
        if one.writers or logs[-1] is one:
            return 1
        logs.remove(one)
    one.file.close()
    got = zstandard.ZstdDecompressor().decompressobj().decompress(one.sink.getvalue())
    expect("the log", one.lines, Counter(got.splitlines(keepends=True)))
    return 1


KINDS = [whole, messages, objects, streams, iterators, lists, derived, refused, log]
