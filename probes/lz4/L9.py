# /// script
# requires-python = ">=3.14"
# dependencies = ["lz4==4.4.5"]
#
# [tool.freewheel.probe]
# defect = "L9"
# title = "a block size in bytes crashes a compressor, or makes frames that cannot be read"
# releases = "<=4.4.5"
# use = "misuse"
# passes = "ValueError, or frames that can be read"
# fails-by = ["crash", "wrong answer", "exception"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""L9: a block size in bytes crashes a compressor, or makes frames that cannot be read.

Use:        block_size=65536 instead of BLOCKSIZE_MAX64KB, which is 4. With the GIL and without; no
            threads are needed.
Symptom:    a crash of LZ4FrameCompressor and of files; frames of compress() that nobody can read.
Cause:      the number goes to liblz4 as it is given, where not each function checks it.

Shows:      text is compressed with block sizes that are none, whole and in pieces.
"""

import sys

import lz4.frame

WRONG_ANSWER = 3  # docs/probes.md
SIZES = 3, 1024, 65536, -1
TEXT = b"text of any kind, " * 500_000


def whole(size):
    return lz4.frame.compress(TEXT, block_size=size)


def in_pieces(size):
    compressor = lz4.frame.LZ4FrameCompressor(block_size=size)
    return compressor.begin() + compressor.compress(TEXT) + compressor.flush()


def readable(compress, size):
    try:
        return lz4.frame.decompress(compress(size)) == TEXT
    except ValueError as error:
        print(f"L9: {compress.__name__}: {error}")
        return True
    except RuntimeError as error:
        print(f"L9: {compress.__name__}, block size {size}: {error}")
        return False


def main():
    results = [readable(compress, size) for size in SIZES for compress in (in_pieces, whole)]
    return 0 if all(results) else WRONG_ANSWER


if __name__ == "__main__":
    sys.exit(main())
