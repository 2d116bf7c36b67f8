# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z15"
# title = "a result of compress() keeps the memory of the worst case"
# releases = "<=0.25.0"
# use = "supported"
# passes = "small results of large inputs fit into little memory"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# memory = 0
# ///
"""Z15: a result of compress() keeps the memory of the worst case.

Use:        results of compress() that are kept, as in a cache. With the GIL and without.
Symptom:    memory for as many bytes as were compressed, not as they were compressed to.
Cause:      compress() makes a bytes object for the largest result that there can be, and only
            changes its length.

Shows:      small results of large inputs are kept under a limit on the address space that this
            program sets for itself.
"""

import mmap
import resource
import sys
from pathlib import Path

import zstandard

LEAK = 4  # docs/probes.md
MIB = 1 << 20
SIZE, TIMES, ROOM = 8 * MIB, 300, 400 * MIB


def main():
    compressor, data = zstandard.ZstdCompressor(level=1), bytes(SIZE)
    kept = [compressor.compress(data)]
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * mmap.PAGESIZE + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        for _ in range(TIMES):
            kept.append(compressor.compress(data))
    except MemoryError:
        print(f"Z15: no room for {len(kept) + 1} results of {len(kept[0])} bytes")
        return LEAK
    print(f"Z15: {len(kept)} results of {len(kept[0])} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
