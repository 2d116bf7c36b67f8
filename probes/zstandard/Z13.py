# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z13"
# title = "a compressing reader that is not read to the end keeps what its source returned"
# releases = "<=0.25.0"
# use = "supported"
# passes = "memory does not grow with the number of readers"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z13: a compressing reader that is not read to the end keeps what its source returned.

Use:        a stream_reader of a compressor that is dropped early, or whose source raises. With the
            GIL and without.
Symptom:    memory that grows, by as much as a read() of the source returns, or as read() is to.
Cause:      the destructor does not drop what the source returned last, and read() not its result
            when the source raises.

Shows:      readers are dropped early, and have sources that raise.
"""

import contextlib
import mmap
import os
import sys
from pathlib import Path

import zstandard

LEAK = 4  # docs/probes.md


def resident():
    """Bytes of the process that are in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * mmap.PAGESIZE


CONTENT = os.urandom(1 << 20)


class Source:
    def __init__(self, error):
        self.error = error

    def read(self, size=-1):
        if self.error:
            raise OSError("cannot read")
        return bytes(bytearray(CONTENT))


def drop(error):
    reader = zstandard.ZstdCompressor(level=1).stream_reader(Source(error))
    with contextlib.suppress(OSError):
        reader.read(20_000 if error else 10)


def main():
    for error, times in ((False, 60), (True, 4000)):
        for _ in range(times // 10):
            drop(error)
        before = resident()
        for _ in range(times):
            drop(error)
        grown = (resident() - before) >> 20
        print(f"Z13: {'the source raises' if error else 'dropped early'}: {grown} MiB more")
        if grown > 16:
            return LEAK
    return 0


if __name__ == "__main__":
    sys.exit(main())
