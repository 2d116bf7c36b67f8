# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z10D"
# title = "decompress_content_dict_chain() reads a frame that has left the list"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "the answer, as every state of the list means the same"
# fails-by = ["crash", "wrong answer", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# exclusive = true
# ///
"""Z10D: decompress_content_dict_chain() reads a frame that has left the list.

Use:        a chain of frames in which another thread replaces a frame by an equal one. With the
            GIL and without.
Symptom:    ZstdError for frames that are in order, other data, a crash.
Cause:      the frame that is being read is borrowed from the list, and the thread is detached while
            it is read.

Shows:      a thread replaces frames by copies, and their memory is used again, while another one
            decompresses the chain.
"""
# ruff: noqa: S311  noise must be repeatable

import random
import sys
import threading
import time

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
LINKS, SECONDS = 6, 2.0
WIPED = bytes(1 << 20)


def chain():
    """Frames each of which has the text before it as dictionary, and the last text."""
    frames, previous = [], None
    for number in range(LINKS):
        noise = random.Random(number).randbytes(1_000_000)
        dictionary = previous and zstandard.ZstdCompressionDict(
            previous, dict_type=zstandard.DICT_TYPE_RAWCONTENT
        )
        frames.append(zstandard.ZstdCompressor(dict_data=dictionary).compress(noise))
        previous = noise
    return frames, previous


def replace(frames, shared, stop):
    turn = 0
    while not stop:
        turn = (turn + 1) % LINKS
        shared[turn] = bytes(bytearray(frames[turn]))
        bytearray(WIPED[: len(frames[turn])])  # of the same size, to get that memory


def main():
    frames, expected = chain()
    shared, stop = list(frames), []
    for turn in range(LINKS):
        shared[turn] = bytes(bytearray(frames[turn]))
    decompressor = zstandard.ZstdDecompressor()
    thread = threading.Thread(target=replace, args=(frames, shared, stop))
    thread.start()
    end, calls, problem = time.monotonic() + SECONDS, 0, None
    while time.monotonic() < end and not problem:
        calls += 1
        try:
            if decompressor.decompress_content_dict_chain(shared) != expected:
                problem = "another answer"
        except zstandard.ZstdError as error:
            problem = error
    stop.append(True)
    thread.join()
    print(f"Z10D: call {calls}: {problem or 'the answer'}")
    return WRONG_ANSWER if problem else 0


if __name__ == "__main__":
    sys.exit(main())
