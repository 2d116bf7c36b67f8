# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z10C"
# title = "train_dictionary() measures its samples, and copies others"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "an exception, or the dictionary for some state of the list"
# fails-by = ["crash", "wrong answer", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# exclusive = true
# ///
"""Z10C: train_dictionary() measures its samples, and copies others.

Use:        a list of samples that another thread changes during the call. Without the GIL.
Symptom:    a crash.
Cause:      the samples are measured in one pass and copied in another one into a block of the
            size that was measured, borrowed and unchecked.

Shows:      a thread puts other samples into the list as fast as it can. The dictionary is to be of
            a size that is refused as soon as the samples have been copied.
"""

import contextlib
import sys
import threading

import zstandard

NOT_RUN = 77  # docs/probes.md
CALLS = 40_000
SMALL, LARGE = b"s" * 40, bytes(range(256)) * 40


def change(shared, stop):
    """New lists of new objects, which die soon, and never of one length for long."""
    while not stop:
        shared[:] = [bytes(bytearray(SMALL)) for _ in range(600)]
        shared[:] = [bytes(bytearray(LARGE)) for _ in range(500)]
        del shared[3:]
        shared.extend([bytes(bytearray(SMALL)) for _ in range(300)])
        del shared[:]


def main():
    if sys._is_gil_enabled():  # noqa: SLF001  documented, underscore and all
        print("Z10C: this needs free-threaded CPython with the GIL off")
        return NOT_RUN
    shared, stop = [], []
    thread = threading.Thread(target=change, args=(shared, stop))
    thread.start()
    for _ in range(CALLS):
        with contextlib.suppress(zstandard.ZstdError, ValueError):
            zstandard.train_dictionary(100, shared, k=64, d=8)
    stop.append(True)
    thread.join()
    print(f"Z10C: {CALLS} calls")
    return 0


if __name__ == "__main__":
    sys.exit(main())
