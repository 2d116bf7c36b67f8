# /// script
# requires-python = ">=3.14"
# dependencies = ["lz4==4.4.5"]
#
# [tool.freewheel.probe]
# defect = "L6"
# title = "begin() of one LZ4FrameCompressor succeeds twice, and a frame is lost"
# releases = "<=4.4.5"
# use = "misuse"
# passes = "exactly one begin() succeeds, and several threads can go on reading one file"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 20 }
# seconds = 60
# ///
"""L6: begin() of one LZ4FrameCompressor succeeds twice, and a frame is lost.

Use:        begin() of one compressor in two threads. With the GIL and without.
Symptom:    both return a header. What the first to return is used for goes to the frame of the
            second.
Cause:      begin() looks whether a frame has been begun, makes a context, and stores it: three
            steps, with the thread detached in between.

Shows:      the block size of the first begin() is a number that takes its time: until a second
            begin() has returned, if that can return before. Also, that one file can still be read
            by several threads, each piece once, which was in order and must stay so.
"""

import concurrent.futures
import io
import sys
import threading

import lz4.frame

WRONG_ANSWER = 3  # docs/probes.md
WAIT = 0.5  # seconds for another thread's begin(), which takes a thousandth of that
SIZE = 1000


class BlockSize:
    """A number that is known only after something has been called."""

    def __init__(self, first):
        self.first = first

    def __index__(self):
        first, self.first = self.first, lambda: None
        first()
        return lz4.frame.BLOCKSIZE_MAX64KB


def begin(compressor):
    try:
        return [compressor.begin()]
    except RuntimeError:
        return []


def begin_twice(call):
    """Return the headers that two calls of begin() give."""
    headers = []
    compressor = lz4.frame.LZ4FrameCompressor(
        block_size=BlockSize(lambda: call(lambda: headers.extend(begin(compressor))))
    )
    headers.extend(begin(compressor))
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    return headers


def in_this_thread(function):
    function()


def in_another_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(WAIT)


def read_together():
    """Return whether the pieces that four threads read from one file are those of its data."""
    data = b"".join(b"%015d\n" % at for at in range(20_000))
    file = lz4.frame.open(io.BytesIO(lz4.frame.compress(data)))

    def read(_):
        return list(iter(lambda: file.read(SIZE), b""))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        pieces = [piece for part in pool.map(read, range(4)) for piece in part]
    return sorted(pieces) == sorted(data[at : at + SIZE] for at in range(0, len(data), SIZE))


def main():
    for call in (in_this_thread, in_another_thread):
        number = len(begin_twice(call))
        print(f"L6: {call.__name__}: begin() has succeeded {number} times")
        if number != 1:
            return WRONG_ANSWER
    if not read_together():
        print("L6: the pieces that were read are not those of the data")
        return WRONG_ANSWER
    return 0


if __name__ == "__main__":
    sys.exit(main())
