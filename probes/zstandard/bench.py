# /// script
# requires-python = ">=3.9"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.benchmark]
# title = "frames, streams and messages with a dictionary, objects of its own for each worker"
# use = "supported"
# seconds = 30
# [tool.freewheel.benchmark.cases]
# compress = "a frame of 1 KiB"
# decompress = "a frame of 1 KiB"
# page = "a frame of 64 KiB, compressed and decompressed"
# large = "a frame of 8 MiB, compressed and decompressed"
# message = "a message of 200 bytes with a dictionary, compressed"
# message_back = "a message of 200 bytes with a dictionary, decompressed"
# writer = "1 KiB written to a stream_writer"
# reader = "1 KiB read from a stream_reader"
# ///
"""What compression costs. `nox -s bench -- zstandard` measures it."""

import io

import zstandard

BATCH = 50


def text(size):
    """Text of that size which compresses as text does: new bytes for each worker."""
    lines = b"".join(b"%d: item %d costs %d;" % (n, n * 7919 % 1009, n % 89) for n in range(5000))
    return (lines * (size // len(lines) + 1))[:size]


def _repeat(function, argument, batch=BATCH):
    while True:
        for _ in range(batch):
            function(argument)
        yield batch


def compress():
    return _repeat(zstandard.ZstdCompressor().compress, text(1024))


def decompress():
    frame = zstandard.ZstdCompressor().compress(text(1024))
    return _repeat(zstandard.ZstdDecompressor().decompress, frame)


def _round_trip(size, batch):
    compressor, decompressor = zstandard.ZstdCompressor(), zstandard.ZstdDecompressor()
    return _repeat(
        lambda data: decompressor.decompress(compressor.compress(data)), text(size), batch
    )


def page():
    return _round_trip(65536, 10)


def large():
    return _round_trip(8 << 20, 1)


def _dictionary():
    return zstandard.ZstdCompressionDict(text(8192))


def message():
    dictionary = _dictionary()
    dictionary.precompute_compress(level=3)
    return _repeat(zstandard.ZstdCompressor(dict_data=dictionary).compress, text(200))


def message_back():
    dictionary = _dictionary()
    frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(text(200))
    return _repeat(zstandard.ZstdDecompressor(dict_data=dictionary).decompress, frame)


class Sink:
    def write(self, data):
        return len(data)


def writer():
    return _repeat(zstandard.ZstdCompressor().stream_writer(Sink()).write, text(1024))


def reader():
    frame = zstandard.ZstdCompressor().compress(text(1024 * BATCH))
    decompressor = zstandard.ZstdDecompressor()
    while True:
        one = decompressor.stream_reader(io.BytesIO(frame))
        for _ in range(BATCH):
            one.read(1024)
        yield BATCH
