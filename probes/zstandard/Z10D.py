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

Shows:      a thread replaces frames by copies, and wipes the memory of the old ones, while another
            one decompresses the chain. It takes long to decompress a frame, which is small for
            what is in it, so that a replacement falls into it on any machine.
"""

import sys
import threading

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
LINKS, CALLS, LINES = 3, 10, 1_500_000
WIPED = bytes(16 << 20)


def chain():
    """Frames each of which has the text before it as dictionary, and the last text."""
    frames, previous = [], None
    for number in range(LINKS):
        text = b"".join(b"%d line %d\n" % (number, at * 7919 % 3001) for at in range(LINES))
        dictionary = previous and zstandard.ZstdCompressionDict(
            previous, dict_type=zstandard.DICT_TYPE_RAWCONTENT
        )
        frames.append(zstandard.ZstdCompressor(level=1, dict_data=dictionary).compress(text))
        previous = text
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
    decompressor = zstandard.ZstdDecompressor()
    thread = threading.Thread(target=replace, args=(frames, shared, stop))
    thread.start()
    calls, problem = 0, None
    while calls < CALLS and not problem:
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
