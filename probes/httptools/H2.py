"""H2: feed_data() called from a callback leaves the outer call's buffer exported for good.

Releases:   httptools 0.7.1 to 0.9.0, with the GIL and without, in one thread.
Use:        a callback of a parser feeds more data to the same parser: say on_message_complete
            that feeds the request which the server had kept back.
Symptom:    BufferError: Existing exports of data: object cannot be re-sized, whenever the
            bytearray that was fed first is cleared or refilled; other exporters are never freed.
Cause:      the Py_buffer is a field of the parser. The inner call writes its own over the outer
            call's and releases that; the outer call then has nothing left to release.

Pass (0):   after feed_data() has returned or raised, every bytearray fed can be resized.
Fail (1):   a bytearray that was fed is still exported after a nested pair of calls.
Not run (2): no httptools, the callbacks did not run as meant, or a buffer is held without nesting.
"""

import sys

REQUEST = b"GET /%s HTTP/1.1\r\nHost: example.org\r\n\r\n"
ROUNDS = 100


class NotRun(Exception):
    pass


class Stop(Exception):
    pass


def is_exported(data):
    try:
        data.append(0)
    except BufferError:
        return True
    return False


def held_after(httptools, inner, stop):
    """Feed a bytearray; its on_message_complete feeds inner, if any, then raises if told to.

    Returns how many of the bytearrays are still exported after that.
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
        raise NotRun(f"inner {inner!r}, stop {stop}: got {urls}, stopped {stopped}")
    return is_exported(outer) + (isinstance(inner, bytearray) and is_exported(inner))


def main():
    import httptools

    def count(make_inner, stop):
        return sum(held_after(httptools, make_inner(), stop) for _ in range(ROUNDS))

    def no_bytes():
        return b""

    def some_bytes():
        return REQUEST % b"inner"

    def some_bytearray():
        return bytearray(REQUEST % b"inner")

    if count(no_bytes, False) or count(no_bytes, True):
        raise NotRun("buffers are held without nesting too")
    held = {
        "bytes": count(some_bytes, False),
        "bytearray": count(some_bytearray, False),
        "bytearray and an exception": count(some_bytearray, True),
    }
    print(f"H2: still exported after {ROUNDS} calls whose callback fed a parser: {held}")
    return 1 if any(held.values()) else 0


if __name__ == "__main__":
    try:
        status = main()
    except Exception as error:
        print(f"H2: could not run: {error!r}")
        status = 2
    sys.exit(status)
