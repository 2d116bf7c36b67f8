# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z23"
# title = "a decompressing writer loses its block when the object below raises"
# releases = "<=0.25.0"
# use = "supported"
# passes = "memory does not grow with the number of failures"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z23: a decompressing writer loses its block when the object below raises.

Use:        stream_writer() of a decompressor over something that fails: a full disk, a closed
            connection. With the GIL and without.
Symptom:    memory that grows, by 128 KiB for each failure.
Cause:      write() does not free its block for the output when write() of the object below raises.

Shows:      writes that fail.
"""

import contextlib
import mmap
import sys
from pathlib import Path

import zstandard

LEAK = 4  # docs/probes.md


def resident():
    """Bytes of the process that are in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * mmap.PAGESIZE


FRAME = zstandard.ZstdCompressor().compress(b"x" * 100_000)


class Sink:
    def write(self, data):
        raise OSError("no space left")


def fail(times):
    for _ in range(times):
        writer = zstandard.ZstdDecompressor().stream_writer(Sink())
        with contextlib.suppress(OSError):
            writer.write(FRAME)


def main():
    fail(100)
    before = resident()
    fail(500)
    grown = (resident() - before) >> 20
    print(f"Z23: {grown} MiB more")
    return LEAK if grown > 16 else 0


if __name__ == "__main__":
    sys.exit(main())
