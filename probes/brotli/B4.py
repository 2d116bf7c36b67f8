# /// script
# requires-python = ">=3.14"
# dependencies = ["brotli==1.2.1"]
#
# [tool.freewheel.probe]
# defect = "B4"
# title = "classes and modules that have been used are never freed"
# releases = "<=1.2.1"
# use = "supported"
# passes = "classes and modules that nothing refers to are collected"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""B4: classes and modules that have been used are never freed.

Use:        a class derived from Compressor or Decompressor; a module that is removed and imported
            again, as reloaders, test runners and subinterpreters do. With the GIL and without.
Symptom:    memory that grows, with all that those classes and modules refer to.
Cause:      an instance has a reference to its class, and its destructor does not give it back.

Shows:      classes and modules are used and dropped; weak references tell whether they go.
"""

import gc
import importlib
import sys
import weakref

LEAK, NOT_RUN = 4, 77  # docs/probes.md
DATA = b"some text, some text, some text"
TIMES = 5


def use(compressor, decompressor):
    one = compressor()
    if decompressor().process(one.process(DATA) + one.finish()) != DATA:
        print("B4: a round trip goes wrong")
        sys.exit(NOT_RUN)


def derived(brotli):
    """Weak references to derived classes that have been used."""

    class Compressor(brotli.Compressor):
        pass

    class Decompressor(brotli.Decompressor):
        pass

    use(Compressor, Decompressor)
    return weakref.ref(Compressor), weakref.ref(Decompressor)


def imported():
    """Weak references to the classes of a module that has been used and removed."""
    for name in ("_brotli", "brotli"):
        sys.modules.pop(name, None)
    brotli = importlib.import_module("brotli")
    use(brotli.Compressor, brotli.Decompressor)
    return weakref.ref(brotli.Compressor), weakref.ref(brotli.Decompressor)


def alive(references):
    gc.collect()
    return sum(reference() is not None for reference in references)


def main():
    brotli = importlib.import_module("brotli")
    references = [one for _ in range(TIMES) for one in derived(brotli)]
    classes = alive(references)
    del brotli
    references = [one for _ in range(TIMES) for one in imported()]
    for name in ("_brotli", "brotli"):
        del sys.modules[name]
    modules = alive(references)
    print(f"B4: {classes} derived classes and {modules} classes of {TIMES} modules stay")
    return LEAK if classes or modules else 0


if __name__ == "__main__":
    sys.exit(main())
