# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z18"
# title = "a compressor with threads hangs in a child process"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "the child compresses or gets an exception, and ends"
# fails-by = ["hang", "wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z18: a compressor with threads hangs in a child process.

Use:        worker processes that inherit a compressor with threads which has been used. With the
            GIL and without.
Symptom:    the child waits for ever, when it uses the compressor or when it frees it.
Cause:      the threads of the context do not outlive a fork.

Shows:      children use the compressor, a stream of it, and free it.
"""

import io
import os
import signal
import sys
import time
import warnings

import zstandard

WRONG_ANSWER, HANG = 3, 5  # docs/probes.md
DATA = os.urandom(1 << 20) * 2
WAIT = 8


def in_child(function):
    """Return how a child that calls the function ends; None if it does not."""
    child = os.fork()
    if not child:
        try:
            function()
        except zstandard.ZstdError:
            os._exit(0)
        except BaseException:  # any other is wrong
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main():
    warnings.simplefilter("ignore")  # about forks with threads
    compressors = [zstandard.ZstdCompressor(level=1, threads=2)]
    compressors[0].compress(DATA)

    def compress():
        frame = compressors[0].compress(DATA)
        if zstandard.ZstdDecompressor().decompress(frame) != DATA:
            raise ValueError

    for what, function in (
        ("compress()", compress),
        ("stream_writer()", lambda: compressors[0].stream_writer(io.BytesIO()).write(DATA)),
        ("the destructor", compressors.clear),
    ):
        status = in_child(function)
        print(f"Z18: {what}: {'hangs' if status is None else status}")
        if status is None:
            return HANG
        if status:
            return WRONG_ANSWER
    compress()
    return 0


if __name__ == "__main__":
    sys.exit(main())
