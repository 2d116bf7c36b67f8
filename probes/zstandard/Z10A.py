# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z10A"
# title = "multi_compress_to_buffer() reads a list past its end when an item changes it"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "the result for the list as it was, or an exception"
# fails-by = ["crash", "wrong answer", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z10A: multi_compress_to_buffer() reads a list past its end when an item changes it.

Use:        a list that changes during the call: an item's __buffer__() does it, or another thread.
            With the GIL and without.
Symptom:    a crash.
Cause:      the length of the list is taken once. Its items are read after that, without a look
            whether they are still there, and borrowed.

Shows:      __buffer__() of the first item empties the list, or replaces its items.
"""

import sys

import zstandard

WRONG_ANSWER = 3  # docs/probes.md


class Item:
    """Bytes that change the list that they are in when they are asked for."""

    def __init__(self, data, change):
        self.data, self.change = data, change

    def __buffer__(self, flags):
        self.change()
        return memoryview(self.data)


def clear(items):
    items.clear()


def replace(items):
    items[1:] = [None] * (len(items) - 1)


def attempt(change):
    """Return the number of segments."""
    function = zstandard.ZstdCompressor().multi_compress_to_buffer
    items = [b"text %d " % n * 20 for n in range(50)]
    items[0] = Item(items[0], lambda: change(items))
    try:
        return len(function(items))
    except (TypeError, ValueError, IndexError) as error:
        print(f"Z10A: {change.__name__}: {error}")
        return 50


def main():
    for change in (clear, replace):
        if attempt(change) != 50:
            print(f"Z10A: {change.__name__}: not a segment for each item")
            return WRONG_ANSWER
    return 0


if __name__ == "__main__":
    sys.exit(main())
