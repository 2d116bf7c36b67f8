# /// script
# requires-python = "==3.14.*"
# dependencies = ["asyncpg==0.31.0"]
#
# [tool.freewheel.probe]
# defect = "P7"
# title = "Record.get() with a wrong number of arguments crashes"
# releases = ">=0.31,<0.32"
# use = "supported"
# passes = "TypeError, each time"
# fails-by = ["crash", "exception"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# ///
"""P7: Record.get() with a wrong number of arguments crashes.

Releases:   asyncpg 0.31.0, also with the GIL; 0.32.0 has mended it.
Use:        record.get() is called with a wrong number of arguments.
Symptom:    segmentation fault, or SystemError; it should be a TypeError.
Cause:      record_get sets the TypeError, but does not return; it then looks up a key that it has
            not been given, which is a pointer that was never set.
"""

import sys


def main():
    from asyncpg.protocol.protocol import _create_record

    record = _create_record({"a": 0}, ("x",))
    for arguments in [(), ("a", 1, 2), ("b", 1, 2)]:
        try:
            got = record.get(*arguments)
        except TypeError as error:
            print(f"P7: get{arguments} was refused: {error}")
        else:
            raise AssertionError(f"get{arguments} gave {got!r}")
    if (record.get("a"), record.get("b"), record.get("b", 1)) != ("x", None, 1):
        raise AssertionError("get() with arguments that are right gives other values")
    return 0


if __name__ == "__main__":
    sys.exit(main())
