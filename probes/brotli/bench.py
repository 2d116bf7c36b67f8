# /// script
# requires-python = ">=3.9"
# dependencies = ["brotli==1.2.1"]
#
# [tool.freewheel.benchmark]
# title = "streams, whole and in pieces, objects of its own for each worker"
# use = "supported"
# seconds = 30
# [tool.freewheel.benchmark.cases]
# small = "1 KiB, compressed at quality 4 and decompressed"
# page = "64 KiB, compressed at quality 4 and decompressed"
# large = "8 MiB, compressed at quality 1 and decompressed"
# compressor = "1 KiB given to a Compressor whose stream goes on"
# decompressor = "64 KiB taken from a Decompressor in pieces of 32 KiB"
# ///
"""What compression costs. `nox -s bench -- brotli` measures it."""

import brotli

BATCH = 20


def text(size):
    """Text of that size which compresses as text does: new bytes for each worker."""
    lines = b"".join(b"%d: item %d costs %d;" % (n, n * 7919 % 1009, n % 89) for n in range(5000))
    return (lines * (size // len(lines) + 1))[:size]


def _round_trip(size, batch, quality):
    data = text(size)
    while True:
        for _ in range(batch):
            brotli.decompress(brotli.compress(data, quality=quality))
        yield batch


def small():
    return _round_trip(1024, BATCH, 4)


def page():
    return _round_trip(65536, 2, 4)


def large():
    return _round_trip(8 << 20, 1, 1)


def compressor():
    data, one = text(1024), brotli.Compressor(quality=4)
    while True:
        for _ in range(BATCH):
            one.process(data)
        yield BATCH


def decompressor():
    data = brotli.compress(text(65536), quality=4)
    while True:
        for _ in range(BATCH):
            one = brotli.Decompressor()
            one.process(data, output_buffer_limit=1)
            while not one.is_finished():
                one.process(b"", output_buffer_limit=1)
        yield BATCH
