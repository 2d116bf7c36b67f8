# /// script
# requires-python = ">=3.14"
# dependencies = ["lz4==4.4.5"]
#
# [tool.freewheel.stress]
# title = "blocks, frames and files of each thread, and a log that all threads write to"
# use = "supported"
# work = { quick = 4, full = 40 }
# seconds = 60
# exclusive = true
# ///
# ruff: noqa: S311  random choices must be repeatable
"""What applications do with lz4, in four threads at once.

All that comes back is compared with what went in.

    python src/freewheel/proof/load.py probes/lz4/stress.py SECONDS
"""

import contextlib
import io
import random
import threading
from collections import Counter

import lz4.block
import lz4.frame
from load import expect

PACKAGE = lz4
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


def blocks(worker):
    """Blocks, with a dictionary and without, at each level."""
    random = worker.random
    data, keywords = some(random), random.choice(({}, {"dict": TEXT[:5000]}))
    mode = random.choice(
        ({}, {"mode": "fast", "acceleration": 5}, {"mode": "high_compression", "compression": 4})
    )
    block = lz4.block.compress(buffer(random, data), **mode, **keywords)
    expect("a block", data, lz4.block.decompress(buffer(random, block), **keywords))
    return 1


def settings(random):
    return {
        "block_size": random.randrange(4, 8),
        "block_linked": bool(random.randrange(2)),
        "compression_level": random.choice((0, 0, 3, 9)),
        "content_checksum": bool(random.randrange(2)),
        "block_checksum": bool(random.randrange(2)),
    }


def frames(worker):
    """Whole frames."""
    random = worker.random
    data = some(random)
    frame = lz4.frame.compress(buffer(random, data), **settings(random))
    expect("a frame", data, lz4.frame.decompress(buffer(random, frame)))
    return 1


def streams(worker):
    """Frames in pieces: a compressor and a decompressor, which are used again."""
    random = worker.random
    compressor = lz4.frame.LZ4FrameCompressor(**settings(random))
    decompressor = lz4.frame.LZ4FrameDecompressor()
    with compressor, decompressor:
        for _ in range(2):
            data = some(random)
            parts = [compressor.begin(), *map(compressor.compress, cut(random, data))]
            frame = b"".join([*parts, compressor.flush()])
            got = [decompressor.decompress(piece) for piece in cut(random, frame)]
            expect("a stream", data, b"".join(got))
            expect("its end", True, decompressor.eof)
    return 1


def limited(worker):
    """A frame is decompressed a little at a time; another one follows."""
    random = worker.random
    data = some(random)
    frame, decompressor = lz4.frame.compress(data), lz4.frame.LZ4FrameDecompressor()
    got = [decompressor.decompress(frame + b"next", max_length=5000)]
    while not decompressor.eof:
        got.append(decompressor.decompress(b"", max_length=5000))
    expect("a little at a time", data, b"".join(got))
    expect("what follows", b"next", decompressor.unused_data)
    return 1


def files(worker):
    """Files of two frames, read in several ways."""
    random = worker.random
    data, file = some(random), io.BytesIO()
    with lz4.frame.open(file, "wb", **settings(random)) as writer:
        for piece in cut(random, data):
            writer.write(piece)
        writer.flush()
        writer.write(b"the end")
    file.seek(0)
    with lz4.frame.open(file) as reader:
        expect("a file", data + b"the end", reader.read())
        reader.seek(len(data))
        expect("its end", b"the end", reader.readline())
    return 1


class Log:
    """A file that all threads write to, and what they have written."""

    def __init__(self):
        self.sink = io.BytesIO()
        self.file = lz4.frame.LZ4FrameFile(self.sink, mode="wb")
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
    got = lz4.frame.decompress(one.sink.getvalue()).splitlines(keepends=True)
    expect("the log", one.lines, Counter(got))
    return 1


def refusals(worker):
    """What is broken is refused, and nothing is kept."""
    random = worker.random
    # without its size in it: a broken size asks for as much memory as it says
    frame = bytearray(lz4.frame.compress(TEXT[:5000], content_checksum=True, store_size=False))
    frame[random.randrange(6, len(frame))] ^= 1 + random.randrange(255)
    with contextlib.suppress(RuntimeError):
        expect("a broken frame", TEXT[:5000], lz4.frame.decompress(frame))
    frame.append(0)
    header = lz4.frame.compress_begin(lz4.frame.create_compression_context(), source_size=1 << 50)
    huge = bytearray(header + bytes(4))
    with contextlib.suppress(MemoryError):
        expect("a frame of a pebibyte", "refused", lz4.frame.decompress(huge))
    huge.append(0)
    return 1


KINDS = [blocks, frames, streams, limited, files, log, refusals]
