# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z22"
# title = "sizes of segments are not checked as they are used"
# releases = "<=0.25.0"
# use = "supported"
# passes = "right sizes are accepted, wrong ones are a ValueError"
# fails-by = ["wrong answer", "crash"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z22: sizes of segments are not checked as they are used.

Use:        multi_decompress_to_buffer() of a collection with decompressed_sizes; a frame without
            content; BufferWithSegments with segments from elsewhere. With the GIL and without.
Symptom:    right sizes are refused, wrong ones accepted and read past their end; a crash.
Cause:      bytes are compared with frames, sums that are too large for their type with sizes, and
            a block of no size is freed twice.

Shows:      all of that, with sizes that are right and wrong.
"""
# ruff: noqa: PLR0911  one return for each problem

import struct
import sys

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
INPUTS = [b"some text, " * 10 * (number + 1) for number in range(40)]
SIZES = struct.pack(f"={len(INPUTS)}Q", *map(len, INPUTS))


def is_refused(function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except ValueError:
        return True
    except (MemoryError, zstandard.ZstdError) as error:
        print(f"Z22: {error!r}")
    return False


def main():
    compressor, decompressor = zstandard.ZstdCompressor(), zstandard.ZstdDecompressor()
    decompress = decompressor.multi_decompress_to_buffer
    frames = compressor.multi_compress_to_buffer(INPUTS)
    try:
        got = decompress(frames, decompressed_sizes=SIZES)
    except ValueError as error:
        print(f"Z22: right sizes: {error}")
        return WRONG_ANSWER
    if [one.tobytes() for one in got] != INPUTS:
        print("Z22: right sizes: other data")
        return WRONG_ANSWER
    for sizes in (SIZES[:-1], SIZES[:-8], bytes(len(INPUTS))):
        if not is_refused(decompress, frames, decompressed_sizes=sizes):
            print(f"Z22: {len(sizes)} bytes of sizes are accepted")
            return WRONG_ANSWER
    outside = struct.pack("=QQ", (1 << 64) - 2, 4)
    if not is_refused(zstandard.BufferWithSegments, b"some text", outside):
        print("Z22: a segment outside of its buffer is accepted")
        return WRONG_ANSWER
    if not is_refused(decompress, []):
        print("Z22: no frames are accepted")
        return WRONG_ANSWER
    empty, full = compressor.compress(b""), compressor.compress(b"some text")
    for inputs, expected in (([empty], [b""]), ([empty, full, empty], [b"", b"some text", b""])):
        got = [one.tobytes() for one in decompress(inputs)]
        if got != expected:
            print(f"Z22: frames without content: {got}")
            return WRONG_ANSWER
    print("Z22: right sizes are accepted, wrong ones refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
