# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z19"
# title = "classes that have been used are never freed"
# releases = "<=0.25.0"
# use = "supported"
# passes = "classes that nothing refers to are collected"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z19: classes that have been used are never freed.

Use:        a class derived from one of zstandard's. With the GIL and without.
Symptom:    classes, and all that they refer to, that are never collected.
Cause:      an object has a reference to its class, and its destructor does not give it back.

Shows:      derived classes are used and dropped; weak references tell whether they go.
"""

import gc
import sys
import weakref

import zstandard

LEAK, NOT_RUN = 4, 77  # docs/probes.md


def use():
    """Weak references to derived classes that have been used."""

    class Compressor(zstandard.ZstdCompressor):
        pass

    class Decompressor(zstandard.ZstdDecompressor):
        pass

    class Dictionary(zstandard.ZstdCompressionDict):
        pass

    frame = Compressor().compress(b"some text")
    if Decompressor(Dictionary(b"")).decompress(frame) != b"some text":
        sys.exit(NOT_RUN)
    return [weakref.ref(one) for one in (Compressor, Decompressor, Dictionary)]


def main():
    references = use() + use()
    gc.collect()
    alive = sum(reference() is not None for reference in references)
    count = sys.getrefcount(zstandard.ZstdCompressor)
    for _ in range(1000):
        zstandard.ZstdCompressor()
    gc.collect()
    more = sys.getrefcount(zstandard.ZstdCompressor) - count
    print(f"Z19: {alive} derived classes stay, {more} more references after 1000 objects")
    return LEAK if alive or more > 500 else 0


if __name__ == "__main__":
    sys.exit(main())
