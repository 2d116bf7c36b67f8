# /// script
# requires-python = ">=3.9"
# dependencies = ["lz4==4.4.5"]
#
# [tool.freewheel.benchmark]
# title = "blocks, frames and files, objects of its own for each worker"
# use = "supported"
# seconds = 30
# [tool.freewheel.benchmark.cases]
# block = "a block of 1 KiB, compressed and decompressed"
# frame_small = "a frame of 1 KiB, compressed and decompressed"
# frame = "a frame of 64 KiB, compressed and decompressed"
# frame_large = "a frame of 8 MiB, compressed and decompressed"
# compressor = "1 KiB given to an LZ4FrameCompressor whose frame goes on"
# decompressor = "a frame of 1 KiB given to an LZ4FrameDecompressor that is kept"
# write = "1 KiB written to an LZ4FrameFile"
# read = "1 KiB read from an LZ4FrameFile"
# dictionary = "a message of 200 bytes as a block with a dictionary, compressed and decompressed"
# ///
"""What compression costs. `nox -s bench -- lz4` measures it."""

import io

import lz4.block
import lz4.frame

BATCH = 100


def text(size):
    """Text of that size which compresses as text does: new bytes for each worker."""
    lines = b"".join(b"%d: item %d costs %d;" % (n, n * 7919 % 1009, n % 89) for n in range(5000))
    return (lines * (size // len(lines) + 1))[:size]


def _block_round_trip(size, batch, **keywords):
    data = text(size)
    while True:
        for _ in range(batch):
            lz4.block.decompress(lz4.block.compress(data, **keywords), **keywords)
        yield batch


def block():
    return _block_round_trip(1024, BATCH)


def dictionary():
    return _block_round_trip(200, BATCH, dict=text(4096))


def _frame_round_trip(size, batch):
    data = text(size)
    while True:
        for _ in range(batch):
            lz4.frame.decompress(lz4.frame.compress(data))
        yield batch


def frame_small():
    return _frame_round_trip(1024, BATCH)


def frame():
    return _frame_round_trip(65536, 10)


def frame_large():
    return _frame_round_trip(8 << 20, 1)


def compressor():
    data, one = text(1024), lz4.frame.LZ4FrameCompressor()
    one.begin()
    while True:
        for _ in range(BATCH):
            one.compress(data)
        yield BATCH


def decompressor():
    data, one = lz4.frame.compress(text(1024)), lz4.frame.LZ4FrameDecompressor()
    while True:
        for _ in range(BATCH):
            one.decompress(data)
        yield BATCH


class Sink(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        return len(data)


def write():
    data = text(1024)
    file = lz4.frame.LZ4FrameFile(Sink(), mode="wb")
    while True:
        for _ in range(BATCH):
            file.write(data)
        yield BATCH


def read():
    data = lz4.frame.compress(text(1024 * BATCH))
    while True:
        with lz4.frame.open(io.BytesIO(data)) as file:
            for _ in range(BATCH):
                file.read(1024)
        yield BATCH
