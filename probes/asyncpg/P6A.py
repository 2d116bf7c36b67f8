# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P6A"
# title = "a class of records that is part of a cycle is never freed"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "a collection frees such classes, and sees what a record refers to"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# ///
"""P6A: a class of records that is part of a cycle is never freed.

Releases:   asyncpg 0.31.0 and 0.32.0, also with the GIL.
Use:        a class of records (the record_class of a query) is made where it is used, and a
            record of it can be reached from it: as a default, an example or in a cache.
Symptom:    neither the class nor the record is ever freed.
Cause:      record_traverse visits the values, but not the type of the record and not its
            descriptor. A heap type is owned by its instances; when the base type is a heap type,
            too, CPython leaves it to that one to visit the type.

Shows:      such classes are made and dropped; after a collection none must be left. Then the
            collector is asked what a record and its iterators refer to.
"""

import gc
import sys
import weakref

LEAK = 4
CLASSES = 20


def make_class():
    import asyncpg
    from asyncpg.protocol.record import RecordDescriptor

    class Row(asyncpg.Record):
        pass

    # As the decoder does it, which is what fills in the columns; so there are none.
    Row.example = RecordDescriptor({}, ()).make_record(Row, 0)
    return weakref.ref(Row)


def main():
    from asyncpg.protocol.protocol import _create_record
    from asyncpg.protocol.record import RecordDescriptor

    made = [make_class() for _ in range(CLASSES)]
    for _ in range(3):
        gc.collect()
    left = sum(reference() is not None for reference in made)
    print(f"P6A: {left} of {CLASSES} classes are left after a collection")

    unseen = []
    record = _create_record({"a": 0}, ("x",))
    if RecordDescriptor not in map(type, gc.get_referents(record)):
        unseen.append("a record's descriptor")
    descriptor = RecordDescriptor({}, ())
    for owner in (record, iter(record), record.items(), descriptor):
        if type(owner) not in gc.get_referents(owner):
            unseen.append(f"the type of a {type(owner).__name__}")
    print(f"P6A: the collector does not see: {', '.join(unseen) or 'nothing'}")
    return LEAK if left or unseen else 0


if __name__ == "__main__":
    sys.exit(main())
