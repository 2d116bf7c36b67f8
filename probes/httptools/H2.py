# /// script
# requires-python = ">=3.14"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.probe]
# defect = "H2"
# title = "feed_data() called from a callback leaves the outer call's buffer exported for good"
# releases = "<=0.9.0"
# use = "misuse"
# passes = "after feed_data() has returned or raised, every bytearray that was fed can be resized"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""H2: feed_data() called from a callback leaves the outer call's buffer exported for good.

Use:        a callback of a parser feeds more data to the same parser: say on_message_complete
            that feeds the request which the server had kept back. One thread is enough, with the
            GIL and without. llhttp is not made for it, though httptools does not say so.
Symptom:    BufferError: Existing exports of data: object cannot be re-sized, whenever the
            bytearray that was fed first is cleared or refilled; other exporters are never freed.
Cause:      the Py_buffer is a field of the parser. The inner call writes its own over the outer
            call's and releases that; the outer call then has nothing left to release.

Shows:      bytearrays are fed by nested calls, and resized when these are over.
"""

import sys

import httptools

LEAK, NOT_RUN = 4, 77  # docs/probes.md
REQUEST = b"GET /%s HTTP/1.1\r\nHost: example.org\r\n\r\n"
CASES = {
    "bytes": (REQUEST % b"inner", False),
    "a bytearray": (bytearray(REQUEST % b"inner"), False),
    "a bytearray, and raised": (bytearray(REQUEST % b"inner"), True),
}


class Stop(Exception):
    pass


def is_exported(data):
    try:
        data.append(0)
    except BufferError:
        return True
    return False


def held_after(inner, stop):
    """Feed a bytearray; its on_message_complete feeds inner, if any, then raises if told to.

    Returns which of the two are still exported after that.
    """
    outer = bytearray(REQUEST % b"outer")
    urls = []

    class Protocol:
        on_url = staticmethod(urls.append)

        def on_message_complete(self):
            if urls == [b"/outer"]:
                if inner:
                    parser.feed_data(inner)
                if stop:
                    raise Stop

    parser = httptools.HttpRequestParser(Protocol())
    try:
        parser.feed_data(outer)
        stopped = False
    except httptools.HttpParserCallbackError as error:
        stopped = isinstance(error.__context__, Stop)

    if urls != ([b"/outer", b"/inner"] if inner else [b"/outer"]) or stopped != stop:
        print(f"H2: inner {inner!r}, stop {stop}: got {urls}, stopped {stopped}")
        sys.exit(NOT_RUN)
    fed = {"outer": outer, "inner": inner}
    return [name for name, data in fed.items() if type(data) is bytearray and is_exported(data)]


def main():
    if held_after(b"", stop=False) or held_after(b"", stop=True):
        print("H2: buffers are held without nesting too")
        return NOT_RUN
    for name, (inner, stop) in CASES.items():
        held = held_after(inner, stop)
        print(f"H2: after a callback fed {name}: {held or 'nothing'} is still exported")
        if held:
            return LEAK
    return 0


if __name__ == "__main__":
    sys.exit(main())
