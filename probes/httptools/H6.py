# /// script
# requires-python = ">=3.14"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.probe]
# defect = "H6"
# title = "parse_url() loses memory for each argument that is no buffer"
# releases = "<=0.9.0"
# use = "misuse"
# passes = "as much memory is in use after 1000 refused arguments as before"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""H6: parse_url() loses memory for each argument that is no buffer.

Use:        parse_url() of a str, of None, or of a memoryview that has been released or is not
            contiguous. The call raises TypeError, ValueError or BufferError, as it should. With the
            GIL and without.
Symptom:    32 bytes that are never freed, for each such call.
Cause:      the memory for the parts is allocated before the argument's buffer is asked for, and
            freed only if that succeeds.

Shows:      the interpreter's count of blocks of memory, before and after a thousand calls. One
            thread counts and does nothing else meanwhile, so a block for each call is no chance.
"""

import sys

import httptools

LEAK, NOT_RUN = 4, 77  # docs/probes.md
CALLS = 1000
MOST = CALLS // 10  # blocks that may come and go for other reasons


def released():
    view = memoryview(b"/path")
    view.release()
    return view


CASES = {
    "a URL that is parsed": (b"http://example.org/path", None),
    "a URL that is invalid": (b"http://", httptools.HttpParserInvalidURLError),
    "a str": ("/path", TypeError),
    "None": (None, TypeError),
    "a released memoryview": (released(), ValueError),
    "a memoryview with gaps": (memoryview(b"/p/a/t/h")[::2], BufferError),
}


def call(argument, expected):
    try:
        httptools.parse_url(argument)
    except Exception as error:
        if type(error) is not expected:
            raise
    else:
        if expected:
            raise RuntimeError(f"no {expected.__name__} was raised")


def lost(argument, expected):
    """How many blocks of memory more are in use after the calls."""
    for _ in range(CALLS // 10):
        call(argument, expected)
    before = sys.getallocatedblocks()
    for _ in range(CALLS):
        call(argument, expected)
    return sys.getallocatedblocks() - before


def main():
    if not sys.getallocatedblocks():
        print("H6: the interpreter does not count blocks of memory")
        return NOT_RUN
    blocks = {case: lost(*arguments) for case, arguments in CASES.items()}
    if max(list(blocks.values())[:2]) > MOST:
        print(f"H6: memory grows where nothing is lost: {blocks}")
        return NOT_RUN
    print(f"H6: blocks lost in {CALLS} calls: {blocks}")
    return LEAK if max(blocks.values()) > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
