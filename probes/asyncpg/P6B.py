# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P6B"
# title = "dropping a row without columns writes a pointer past its end"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "CPython's debug allocator finds what follows each row untouched"
# fails-by = ["crash"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# ///
"""P6B: dropping a row without columns writes a pointer past its end.

Releases:   asyncpg 0.31.0 and 0.32.0, also with the GIL.
Use:        a query without columns, "SELECT FROM t WHERE ...", as in a test for existence; its
            rows are dropped.
Symptom:    heap corruption. Allocators that round sizes up, as CPython's own do on 64 bits, hide
            it: the 8 bytes are within what they gave.
Cause:      records to be used again are linked through their first item. One without columns
            has no space for that.

Shows:      as many rows as are kept, and some more, are made and dropped twice, with CPython's
            debug allocator, which aborts when the bytes around a block have changed.
"""

import os
import sys

ROWS = 2100  # 2,000 are kept; the others are freed, which is when the allocator looks


def main():
    if os.environ.get("PYTHONMALLOC") != "debug":
        os.environ["PYTHONMALLOC"] = "debug"
        os.execv(sys.executable, [sys.executable, "-X", "faulthandler", __file__])  # noqa: S606
    from asyncpg.protocol.protocol import _create_record

    for _ in range(3):
        rows = [_create_record({}, ()) for _ in range(ROWS)]
        del rows
    print(f"P6B: 3 times {ROWS} rows without columns were made and freed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
