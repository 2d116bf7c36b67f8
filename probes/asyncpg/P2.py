# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P2"
# title = "asyncpg crashes when it is imported again after its modules were removed"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "8 copies that were imported in turn all work, and of others nothing is left"
# fails-by = ["crash", "wrong answer"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P2: asyncpg crashes when it is imported again after its modules were removed.

Releases:   asyncpg 0.31.0 and 0.32.0, also with the GIL; 0.30.0 is fine.
Use:        test runners, reloaders and sandboxes remove modules from sys.modules and import them
            again. Upstream's issue 1292.
Symptom:    segmentation fault in asyncpg.connect(). If the C files were made by Cython 3.3.1 or
            newer, and not by the 3.2.1 and 3.3.0 of the sdists, ImportError: "Re-importing it is
            not supported".
Cause:      asyncpg is compiled with CYTHON_USE_MODULE_STATE. When the import system asks for a
            module that exists already, Cython hands out the one there is. CPython takes what it
            gets for a new one, and gives it a new module state, which Cython does not fill,
            because it knows the module. Every type and constant in there is a null pointer.

Shows:      asyncpg is imported several times. After each, all copies so far use their connections,
            records and prepared statements, and catch their own errors. Then some more copies
            are imported and dropped, and nothing of these must be left.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import gc
import os
import sys

WRONG, LEAK, NOT_RUN = 3, 4, 77
COPIES = 8  # that are kept and used
DROPPED = 10  # that are not
TYPES = "SELECT $1::int4range AS range, $2::varbit AS bits, $3::point AS point"


class Wrong(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Wrong(what)


def import_again():
    for name in [name for name in sys.modules if name.split(".")[0] == "asyncpg"]:
        del sys.modules[name]
    import asyncpg

    return asyncpg


class Copy:
    """One import of asyncpg and what was made with it."""

    def __init__(self, number):
        self.number = number
        try:
            self.asyncpg = import_again()
        except ImportError as error:
            if number == 0:
                raise
            raise Wrong(f"asyncpg cannot be imported again: {error}") from error

    async def start(self, dsn):
        self.connection = await self.asyncpg.connect(dsn)
        self.record = await self.connection.fetchrow("SELECT 1 AS one, 'two' AS two")
        self.statement = await self.connection.prepare("SELECT $1::int * 2 AS twice")

    async def use(self):
        asyncpg, connection = self.asyncpg, self.connection
        check(dict(self.record) == {"one": 1, "two": "two"}, "the record has other values")
        check(isinstance(self.record, asyncpg.Record), "the record is not a Record")
        check(await self.statement.fetchval(21) == 42, "the statement gives another answer")
        values = (asyncpg.Range(1, 5), asyncpg.BitString("101"), asyncpg.Point(1, 2))
        row = await connection.fetchrow(TYPES, *values)
        check(tuple(row) == values, f"{values} became {tuple(row)}")
        check(
            all(type(a) is type(b) for a, b in zip(row, values, strict=True)),
            "values of another copy",
        )
        await self.refused(asyncpg.DivisionByZeroError, "SELECT 1 / 0")
        await self.refused(asyncpg.DataError, "SELECT $1::int", "not a number")
        # asyncpg must recognize its own exception to prepare the statement anew.
        await connection.execute("CREATE TEMPORARY TABLE changing AS SELECT 1 AS a")
        await connection.fetchrow("SELECT * FROM changing")
        await connection.execute("ALTER TABLE changing ADD b int")
        row = await connection.fetchrow("SELECT * FROM changing")
        check(tuple(row) == (1, None), f"the table that was changed has {tuple(row)}")
        await connection.execute("DROP TABLE changing")

    async def refused(self, kind, query, *arguments):
        try:
            await self.connection.fetch(query, *arguments)
        except kind:
            return
        except Exception as error:
            raise Wrong(f"{type(error)} is not this copy's {kind}") from error
        raise Wrong(f"{query} was not refused")


async def use_copies(dsn):
    copies = []
    for number in range(COPIES):
        copies.append(Copy(number))
        await copies[-1].start(dsn)
        gc.collect()
        for copy in copies:
            await copy.use()
    for copy in copies:
        await copy.connection.close()


def left_over():
    """How many objects each of some more imports leaves behind."""
    import_again()
    counts = []
    for _ in range(DROPPED):
        import_again()
        gc.collect()
        counts.append(len(gc.get_objects()))
    return (counts[-1] - counts[1]) / (DROPPED - 2)


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P2: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    try:
        asyncio.run(use_copies(dsn))
    except Wrong as wrong:
        print(f"P2: {wrong}")
        return WRONG
    left = left_over()
    print(f"P2: {COPIES} copies work; {left:.1f} objects left of each that was dropped")
    return LEAK if left >= 10 else 0


if __name__ == "__main__":
    sys.exit(main())
