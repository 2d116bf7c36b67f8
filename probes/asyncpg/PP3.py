# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "PP3"
# title = "for each value that is read, a function is called to check a buffer that is long enough"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "rows are decoded without one call of the function"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# needs = ["postgresql"]
# ///
"""PP3: for each value that is read, a function is called to check a buffer that is long enough.

Releases:   asyncpg 0.31.0 and 0.32.0.
Use:        every application that fetches rows.
Symptom:    a tenth of the time that it takes to decode a row of numbers or texts.
Cause:      before bytes are read, frb_check() is called, which raises if there are too few. It
            belongs to another compiled module than what decodes rows and reads the length of each
            value, so that it can't be inlined there. The functions that set a buffer's fields
            cost as much: it isn't declared that they can't raise, so that each time it is looked
            if there is an exception.

Shows:      the calls of frb_check() by the module that decodes rows, not those of the codecs, nor
            what else is in the cause. Compiled modules get each other's functions from a
            dictionary when they are imported. There, one that counts takes its place.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import ctypes
import importlib
import os
import sys
from importlib.abc import MetaPathFinder

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
ROWS = 100
QUERY = f"SELECT i, i::int8, i / 7::float8, i % 2 = 0 FROM generate_series(1, {ROWS}) AS i"  # noqa: S608

CHECK = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)
_api = ctypes.pythonapi
_api.PyCapsule_GetName.argtypes = [ctypes.py_object]
_api.PyCapsule_GetName.restype = ctypes.c_char_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_New.restype = ctypes.py_object


class Counter(MetaPathFinder):
    """Finds no module, but puts itself between two when the second is about to be imported."""

    calls = 0
    function = None

    def find_spec(self, name, *_):
        if name == "asyncpg.protocol.protocol" and self.function is None:
            self.replace(importlib.import_module("asyncpg.pgproto.pgproto").__pyx_capi__)

    def replace(self, functions):
        capsule = functions["frb_check"]
        self.signature = _api.PyCapsule_GetName(capsule)
        self.original = CHECK(_api.PyCapsule_GetPointer(capsule, self.signature))
        self.function = CHECK(self.count)
        pointer = ctypes.cast(self.function, ctypes.c_void_p)
        functions["frb_check"] = _api.PyCapsule_New(pointer, self.signature, None)

    def count(self, buffer, needed):
        self.calls += 1
        return self.original(buffer, needed)


async def fetch(asyncpg, dsn):
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(QUERY)
    await connection.close()
    return [tuple(row) for row in rows]


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("PP3: FREEWHEEL_POSTGRES_DSN is not set")
        return NOT_RUN
    counter = Counter()
    sys.meta_path.insert(0, counter)
    asyncpg = importlib.import_module("asyncpg")
    if counter.function is None:
        print("PP3: asyncpg.protocol.protocol was not imported after asyncpg.pgproto.pgproto")
        return NOT_RUN
    rows = asyncio.run(fetch(asyncpg, dsn))
    if rows != [(i, i, i / 7, i % 2 == 0) for i in range(1, ROWS + 1)]:
        raise RuntimeError("these are not the rows")
    print(f"PP3: {counter.calls} calls to decode {ROWS} rows of 4 columns")
    return WRONG_ANSWER if counter.calls else 0


if __name__ == "__main__":
    sys.exit(main())
