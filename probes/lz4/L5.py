# /// script
# requires-python = ">=3.14"
# dependencies = ["lz4==4.4.5"]
#
# [tool.freewheel.probe]
# defect = "L5"
# title = "blocks of one LZ4FrameFile overtake each other on their way to the file below"
# releases = "<=4.4.5"
# use = "misuse"
# passes = "what was accepted can be read; calls of threads take turns, those within a call do not"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# ///
"""L5: blocks of one LZ4FrameFile overtake each other on their way to the file below.

Use:        a file that several threads write to, as with a log; or a file below that comes back
            to the file above, say because it logs. With the GIL and without.
Symptom:    a file that cannot be read, pieces twice, missing, or in an order in which nobody
            wrote them; AttributeError after another thread's close().
Cause:      write() compresses and hands on in two steps. In between another write() can do both.

Shows:      the file below keeps the first block until a second write() has returned, if that can
            return before: from another thread, and from this one. Then all that was accepted is
            read again. And two files below which each write to the other file, from two threads,
            do not wait for each other for ever.
"""

import io
import sys
import threading

import lz4.frame

WRONG_ANSWER, HANG = 3, 5  # docs/probes.md
WAIT = 0.5  # seconds for another thread's write(), which takes a thousandth of that


class Sink(io.RawIOBase):
    """A file that calls something before it takes the second block; the first is the header."""

    def __init__(self):
        self.parts = []
        self.calls = 0
        self.before = None

    def writable(self):
        return True

    def write(self, data):
        self.calls += 1
        data = bytes(data)
        if self.calls == 2:
            self.before()
        self.parts.append(data)
        return len(data)


# Much alike, so that the second block refers to the first, and short enough for that.
DATA = b"".join(b"%d," % (at * 7919 % 100_003) for at in range(7_000))
FIRST, SECOND = b"first," + DATA, b"second," + DATA


def write(file, data, accepted):
    try:
        file.write(data)
    except RuntimeError as error:
        if "in use" not in str(error):
            raise
    else:
        accepted.append(data)


def end(code, text):
    print(f"L5: {text}")
    sys.exit(code)


def overtake(call):
    """Write once more while the sink has the first block."""
    sink, accepted = Sink(), []
    file = lz4.frame.LZ4FrameFile(sink, mode="wb", auto_flush=True)
    threads = []
    sink.before = lambda: call(threads, lambda: write(file, SECOND, accepted))
    write(file, FIRST, accepted)
    for thread in threads:
        thread.join()
    file.close()
    try:
        got = lz4.frame.decompress(b"".join(sink.parts))
    except RuntimeError as error:
        end(WRONG_ANSWER, f"{call.__name__}: the file cannot be read: {error}")
    if got != b"".join(sorted(accepted)):
        end(WRONG_ANSWER, f"{call.__name__}: not what was written")
    print(f"L5: {call.__name__}: {len(accepted)} of 2 accepted")


def from_this_thread(threads, function):
    function()


def from_another_thread(threads, function):
    threads.append(threading.Thread(target=function))
    threads[0].start()
    threads[0].join(WAIT)


def feed_each_other():
    """Each sink writes to the other's file, while both files are being written to."""
    sinks = [Sink(), Sink()]
    files = [lz4.frame.LZ4FrameFile(sink, mode="wb", auto_flush=True) for sink in sinks]
    both = threading.Barrier(2)

    def before(other):
        both.wait(10)
        write(files[other], SECOND, [])

    sinks[0].before, sinks[1].before = (lambda: before(1)), (lambda: before(0))
    threads = [
        threading.Thread(target=write, args=(file, FIRST, []), daemon=True) for file in files
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    if any(thread.is_alive() for thread in threads):
        end(HANG, "two files wait for each other")
    for file in files:
        file.close()


def main():
    overtake(from_this_thread)
    overtake(from_another_thread)
    feed_each_other()
    with lz4.frame.LZ4FrameFile(io.BytesIO(), mode="wb") as file:
        pass
    try:
        file.write(b"after close()")
    except ValueError:
        return 0
    print("L5: write() to a closed file is accepted")
    return WRONG_ANSWER


if __name__ == "__main__":
    sys.exit(main())
