# /// script
# requires-python = ">=3.14"
# dependencies = ["lz4==4.4.5"]
#
# [tool.freewheel.probe]
# defect = "L7"
# title = "what is asked for in vain is lost: buffers stay exported, results stay allocated"
# releases = "<=4.4.5"
# use = "supported"
# passes = "MemoryError, and nothing is kept"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# memory = 0
# ///
"""L7: what is asked for in vain is lost: buffers stay exported, results stay allocated.

Use:        a process with a limit on its memory, as in a container, and a block or frame from
            outside that is too large for it, or that says so. With the GIL and without.
Symptom:    BufferError: Existing exports of data: object cannot be re-sized, whenever the
            bytearray is used again; and each frame costs more than a hundred MiB for good.
Cause:      lz4.block returns early without releasing its arguments. lz4.frame forgets what it has
            so far when it cannot make that larger, and the header of a frame that it cannot
            begin.

Shows:      blocks and frames that do not fit under a limit that this program sets for itself:
            their buffers can be resized afterwards, and the process has not grown.
"""

import resource
import sys
from pathlib import Path

import lz4.block
import lz4.frame

LEAK, NOT_RUN = 4, 77  # docs/probes.md
MIB = 1 << 20


def memory():
    """The process's address space and what is resident of it, in bytes."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return [int(number) * resource.getpagesize() for number in pages[:2]]


def is_exported(data):
    try:
        data.append(0)
    except BufferError:
        return True
    return False


def fails(function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except (MemoryError, RuntimeError, ValueError):
        return True
    return False


def main():
    compressor = lz4.frame.LZ4FrameCompressor()
    parts = [compressor.begin(), *map(compressor.compress, [bytes(MIB)] * 300)]
    bomb = b"".join([*parts, compressor.flush()])
    large = bytearray(1900 * MIB)  # never touched
    limit = memory()[0] + 500 * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    problems = []

    claims = bytearray((0x7FFFFFFF).to_bytes(4, "little") + b"some text")
    dictionary = bytearray(b"some text")
    if not fails(lz4.block.decompress, claims, dict=dictionary):
        print("L7: lz4.block.decompress() has 2 GiB")
        return NOT_RUN
    problems += ["lz4.block.decompress()"] * (is_exported(claims) or is_exported(dictionary))

    if not fails(lz4.block.compress, large, dict=dictionary):
        print("L7: lz4.block.compress() has 1.9 GiB")
        return NOT_RUN
    problems += ["lz4.block.compress()"] * is_exported(dictionary)

    for attempt in range(4):
        if not fails(lz4.frame.decompress, bomb):
            print("L7: lz4.frame.decompress() has 2.4 GiB")
            return NOT_RUN
        if not attempt:
            before = memory()[1]  # what the allocator keeps for the next attempt does not count
    grown = (memory()[1] - before) / MIB
    problems += [f"lz4.frame.decompress(), {grown:.0f} MiB"] * (grown > 100)

    context = lz4.frame.create_compression_context()
    before = memory()[1]
    for _ in range(200_000):
        fails(lz4.frame.compress_begin, context, block_size=99)
    grown = (memory()[1] - before) / MIB
    problems += [f"lz4.frame.compress_begin(), {grown:.0f} MiB"] * (grown > 5)

    print(f"L7: kept by: {problems or 'nobody'}")
    return LEAK if problems else 0


if __name__ == "__main__":
    sys.exit(main())
