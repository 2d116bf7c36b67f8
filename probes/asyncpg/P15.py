# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P15"
# title = "making an instance of a subclass of Record raises SystemError"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "TypeError, as for Record itself"
# fails-by = ["wrong answer", "exception"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P15: making an instance of a subclass of Record raises SystemError.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well. Up to 0.30.0 it was a TypeError.
Symptom:    SystemError: could not get record module state. That stands for a bug in an extension.
Cause:      the constructor asks the type for its module, which a class made in Python hasn't got.

Shows:      a subclass is called, and copied.
"""

import copyreg
import sys

import asyncpg

WRONG = 3


class Row(asyncpg.Record):
    pass


class Further(Row):
    def __new__(cls, *args):
        return super().__new__(cls)


def main():
    ways = {
        "Record()": asyncpg.Record,
        "Row()": Row,
        "Row((1,))": lambda: Row((1,)),
        "Further()": Further,
        "Row.__new__(Row)": lambda: Row.__new__(Row),
        "Record.__new__(Row)": lambda: asyncpg.Record.__new__(Row),
        "copyreg": lambda: copyreg.__newobj__(Row),
    }
    wrong = 0
    for name, way in ways.items():
        try:
            way()
            outcome = "makes a record"
        except TypeError:
            continue
        except Exception as error:
            outcome = f"raises {error!r}"
        print(f"P15: {name} {outcome}")
        wrong += 1
    return WRONG if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
