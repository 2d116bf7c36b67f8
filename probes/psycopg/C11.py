# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg==3.3.9"]
#
# [tool.freewheel.probe]
# defect = "C11"
# title = "a registration is lost when another thread connects or registers"
# releases = "<=3.3.9"
# use = "supported"
# passes = "what was registered is there"
# fails-by = ["wrong answer", "exception"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""C11: a registration is lost when another thread connects or registers.

Use:        psycopg.adapters.register_dumper() in one thread, while others register, too, and
            connect. With the GIL and without.
Symptom:    ProgrammingError: cannot adapt type 'Mine'
Cause:      maps of adapters share their tables until one of them changes, and know by a flag whose
            they are. They look at it, copy the table and write into it without a lock.

Shows:      a class whose hash is computed in Python, when it is written into the table; meanwhile
            another thread makes a map, as each connection has one, and registers. It goes on when
            that is done, or when it has waited for a moment. Needs no server.
"""

import sys
import threading

import psycopg
from psycopg.adapt import AdaptersMap, Dumper, PyFormat

WRONG = 3
MOMENT = 0.3  # seconds: the other thread must wait, so that only time ends this


class Meta(type):
    meanwhile = None

    def __hash__(cls):
        if Meta.meanwhile:
            thread, Meta.meanwhile = threading.Thread(target=Meta.meanwhile), None
            thread.start()
            thread.join(MOMENT)
        return 1


class Mine(metaclass=Meta):
    pass


class Other:
    pass


class MyDumper(Dumper):
    def dump(self, obj):
        return b"mine"


def main():
    done = threading.Event()

    def connect_and_register():
        AdaptersMap(psycopg.adapters)
        psycopg.adapters.register_dumper(Other, MyDumper)
        done.set()

    Meta.meanwhile = connect_and_register
    psycopg.adapters.register_dumper(Mine, MyDumper)
    done.wait()
    for kind in (Other, Mine):
        for form in (PyFormat.TEXT, PyFormat.AUTO):
            try:
                psycopg.adapters.get_dumper(kind, form)
            except psycopg.ProgrammingError as error:
                print(f"C11: {error}")
                return WRONG
    print("C11: both are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
