# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z27"
# title = "operations without room for their output, or without input, never end"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "each call returns, or raises ValueError"
# fails-by = ["hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z27: operations without room for their output, or without input, never end.

Use:        write_size=0 or chunk_size=0, as a division of a small number gives it; readinto() of an
            empty buffer; read1() of a compressing reader of no bytes. With the GIL and without.
Symptom:    the call never ends, nor does Ctrl-C end it.
Cause:      they go on until the output has been written, or the input has been read. There is no
            room for the one, and of no bytes none is the last one.

Shows:      each call is made in a thread. It takes microseconds, or all the processor time that
            there is: a second of it is enough to know.
"""

import io
import os
import sys
import threading
import time

import zstandard

HANG = 5  # docs/probes.md
DATA = b"text of any kind " * 1000
ENOUGH = 1.0  # seconds of processor time


def calls():
    new = zstandard.ZstdCompressor
    yield "stream_writer", lambda: new().stream_writer(io.BytesIO(), write_size=0).write(DATA)
    yield "read_to_iter", lambda: list(new().read_to_iter(DATA, write_size=0))
    yield "copy_stream", lambda: new().copy_stream(io.BytesIO(DATA), io.BytesIO(), write_size=0)
    yield "chunker", lambda: list(new().chunker(chunk_size=0).finish())
    yield "readinto", lambda: new().stream_reader(DATA).readinto(bytearray())
    yield "readinto1", lambda: new().stream_reader(DATA).readinto1(bytearray())
    yield "read1", lambda: new().stream_reader(b"").read1(100)


def attempt(name, call):
    try:
        print(f"Z27: {name}: {call()!r:.40}")
    except ValueError as error:
        print(f"Z27: {name}: {error}")


def main():
    for name, call in calls():
        thread = threading.Thread(target=attempt, args=(name, call), daemon=True)
        limit = time.process_time() + ENOUGH
        thread.start()
        while thread.is_alive():
            thread.join(0.02)
            if time.process_time() > limit:
                print(f"Z27: {name} never ends", flush=True)
                os._exit(HANG)
    return 0


if __name__ == "__main__":
    sys.exit(main())
