# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z26"
# title = "multi_decompress_to_buffer() makes a block of no size for a frame that says it is huge"
# releases = "<=0.25.0"
# use = "supported"
# passes = "MemoryError for a frame that says that it is larger than any memory"
# fails-by = ["crash", "wrong answer", "exception"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z26: multi_decompress_to_buffer() makes a block of no size for a frame that says it is huge.

Use:        multi_decompress_to_buffer() of a frame from elsewhere. With the GIL and without; no
            threads are needed.
Symptom:    a crash.
Cause:      the size that the frame has in its header is rounded up to a power of two. Above the
            largest one that makes 0.

Shows:      a frame has a size of almost 2**64 in its header. The allocator gives a block of no
            size, and what follows frees another one twice.
"""

import struct
import sys

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
MAGIC, EIGHT_BYTES_OF_SIZE, WINDOW = 0xFD2FB528, 3 << 6, 10 << 3
SIZE, CONTENT = 2**64 - 2**20, b"content"


def main():
    header = struct.pack("<IBBQ", MAGIC, EIGHT_BYTES_OF_SIZE, WINDOW, SIZE)
    block = struct.pack("<I", len(CONTENT) << 3 | 1)[:3] + CONTENT  # raw, and the last one
    if zstandard.frame_content_size(header + block) != SIZE:
        print("Z26: not a frame that says that it is huge")
        return WRONG_ANSWER
    try:
        zstandard.ZstdDecompressor().multi_decompress_to_buffer([header + block])
    except MemoryError:
        print("Z26: MemoryError")
        return 0
    print("Z26: accepted")
    return WRONG_ANSWER


if __name__ == "__main__":
    sys.exit(main())
