# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q20"
# title = "the names of psycopg2.errors are gone after a second import"
# releases = "<=2.9.13"
# use = "supported"
# passes = "they are there, and the classes are those of before"
# fails-by = ["exception", "wrong answer"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q20: the names of psycopg2.errors are gone after a second import.

Use:        psycopg2 is imported, dropped from sys.modules and imported again, as test runners and
            reloaders do. With the GIL and without.
Symptom:    AttributeError: module 'psycopg2.errors' has no attribute 'UniqueViolation'
Cause:      the extension puts them there when it is initialised, and it is initialised once.

Shows:      just that. Needs no server.
"""

import gc
import sys

WRONG = 3


def use():
    import psycopg2
    import psycopg2.errors
    import psycopg2.extras

    names = {name for name in dir(psycopg2.errors) if name[0].isupper()}
    return names, psycopg2.errors.UniqueViolation, psycopg2.errors.Error is psycopg2.Error


def main():
    first = use()
    for name in [name for name in sys.modules if name.split(".")[0] == "psycopg2"]:
        del sys.modules[name]
    gc.collect()
    second = use()
    print(f"Q20: {len(first[0])} names, then {len(second[0])}")
    return 0 if first == second and first[2] else WRONG


if __name__ == "__main__":
    sys.exit(main())
