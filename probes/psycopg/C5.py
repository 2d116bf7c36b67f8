# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg==3.3.9"]
#
# [tool.freewheel.probe]
# defect = "C5"
# title = "a class is adapted as its base class at its first use in two threads"
# releases = "<=3.3.9"
# use = "supported"
# passes = "every thread finds the dumper that is registered for the class"
# fails-by = ["wrong answer", "exception"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""C5: a class is adapted as its base class at its first use in two threads.

Use:        the first datetime, UUID or Decimal of a program is a parameter in two threads, with
            connections of their own. With the GIL and without.
Symptom:    a datetime is sent as a date and loses its time; or "cannot adapt type".
Cause:      dumpers are registered by the name of the class. At the first use, the entry is taken
            away and put there for the class. A thread that is between the look-up by class and the
            one by name finds neither, and goes on to the base class.

Shows:      a class whose module is computed when it is asked for; meanwhile another thread looks
            the class up. Needs no server.
"""

import sys
import threading

import psycopg
from psycopg.adapt import Dumper, PyFormat

WRONG = 3


class Base:
    pass


class Meta(type):
    meanwhile = None

    @property
    def __module__(cls):
        if Meta.meanwhile:
            thread, Meta.meanwhile = threading.Thread(target=Meta.meanwhile), None
            thread.start()
            thread.join()
        return "application"


class Special(Base, metaclass=Meta):
    pass


class BaseDumper(Dumper):
    def dump(self, obj):
        return b"base"


class SpecialDumper(Dumper):
    def dump(self, obj):
        return b"special"


def find():
    return psycopg.adapters.get_dumper(Special, PyFormat.TEXT)


def main():
    psycopg.adapters.register_dumper(Base, BaseDumper)
    psycopg.adapters.register_dumper("application.Special", SpecialDumper)
    found = []
    Meta.meanwhile = lambda: found.append(find())
    found.append(find())
    found.append(find())
    print(f"C5: {[dumper.__name__ for dumper in found]}")
    return 0 if found == [SpecialDumper] * 3 else WRONG


if __name__ == "__main__":
    sys.exit(main())
