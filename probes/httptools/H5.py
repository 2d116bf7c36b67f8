# /// script
# requires-python = ">=3.14"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.probe]
# defect = "H5"
# title = "after a callback has fed the parser, feed_data() reads between pieces of memory"
# releases = "<=0.9.0"
# use = "misuse"
# passes = "the outer request is parsed as ever; the nested call is refused or parses its data"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""H5: after a callback has fed the parser, feed_data() reads between pieces of memory.

Use:        a callback feeds the same parser with data that ends within a URL, a header or a body;
            or it feeds it while the data being parsed began within one. One thread is enough,
            with the GIL and without. llhttp is not made for it, though httptools does not say so.
Symptom:    a callback with whatever lies between the two pieces of data in memory; or a crash; or
            HttpParserCallbackError for a valid request, from SystemError: Negative size passed to
            PyBytes_FromStringAndSize, or from MemoryError.
Cause:      llhttp keeps where the current span (a URL, a header, a body) began in the parser. A
            nested call leaves the outer call with a beginning in its own data, or goes on within
            a span whose beginning the outer call has taken away.

Shows:      the two pieces lie in one bytes object, with something private between them, so that
            reading from one to the other does no harm and always shows. The outer request has to
            be parsed as without the nested call, which is refused with RuntimeError or calls back
            with what it was fed.
"""

import sys

import httptools

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
REQUEST = b"GET /outer HTTP/1.1\r\nHost: example.org\r\n\r\n"
PRIVATE = b" nobody sent this "
OUTER = [("url", b"/outer"), ("header", b"Host", b"example.org"), ("complete",)]
INNER = b"POST /inner HTTP/1.1\r\nName: value\r\nContent-Length: 9\r\n\r\nsome body"
INNER_CALLS = [
    ("url", b"/inner"),
    ("header", b"Name", b"value"),
    ("header", b"Content-Length", b"9"),
    ("body", b"some body"),
    ("complete",),
]

# Where the outer data is cut, and what a callback feeds in the end.
CASES = {
    "ends in a URL": (0, INNER[:9]),
    "ends in a header name": (0, INNER[:24]),
    "ends in a header value": (0, INNER[:31]),
    "ends in a body": (0, INNER[:-3]),
    "outer began in a URL": (7, INNER),
    "outer began in a header": (24, INNER),
}


def whole(calls):
    """Join the pieces in which one URL or body arrives."""
    joined = []
    for name, *values in calls:
        if name in ("url", "body") and joined and joined[-1][0] == name:
            joined[-1] = (name, joined[-1][1] + values[0])
        else:
            joined.append((name, *values))
    return joined


class Protocol:
    def __init__(self):
        self.calls = self.outer = []
        self.inner = []
        self.outcomes = []
        self.nested = None

    def on_url(self, url):
        self.calls.append(("url", url))

    def on_header(self, name, value):
        self.calls.append(("header", name, value))

    def on_body(self, body):
        self.calls.append(("body", body))

    def on_message_complete(self):
        self.calls.append(("complete",))
        if self.nested and self.calls is self.outer:
            self.calls = self.inner
            try:
                self.nested()
            except Exception as error:
                self.outcomes.append(error)
            else:
                self.outcomes.append(None)
            self.calls = self.outer


def is_part(calls):
    """Whether these are the first of the inner request's callbacks, the last one cut short."""
    calls = whole(calls)
    expected = INNER_CALLS[: len(calls)]
    if calls == expected:
        return True
    cut, full = calls[-1], expected[-1]
    return calls[:-1] == expected[:-1] and cut[0] == full[0] and full[1].startswith(cut[1])


def end(code, what):
    print(f"H5: {what}")
    sys.exit(code)


def check(where, cut, outer, inner):
    protocol = Protocol()
    parser = httptools.HttpRequestParser(protocol)
    protocol.nested = lambda: parser.feed_data(inner)
    try:
        for piece in filter(len, (outer[:cut], outer[cut:])):
            parser.feed_data(piece)
    except httptools.HttpParserError as error:
        end(WRONG_ANSWER, f"{where}: {error!r} from {error.__context__!r} for a valid request")
    if len(protocol.outcomes) != 1:
        end(NOT_RUN, f"{where}: fed {len(protocol.outcomes)} times")
    if whole(protocol.outer) != OUTER:
        end(WRONG_ANSWER, f"{where}: callbacks of the outer request: {protocol.outer}")
    (outcome,) = protocol.outcomes
    parsed = outcome is None and is_part(protocol.inner)
    refused = type(outcome) is RuntimeError and not protocol.inner
    if not (parsed or refused):
        end(WRONG_ANSWER, f"{where}: the nested call: {outcome!r}, callbacks {protocol.inner}")


def main():
    protocol = Protocol()
    httptools.HttpRequestParser(protocol).feed_data(REQUEST + INNER)
    if whole(protocol.outer) != OUTER + INNER_CALLS:
        end(NOT_RUN, f"without nesting: callbacks {protocol.outer}")
    for case, (cut, inner) in CASES.items():
        memory = memoryview(inner + PRIVATE + REQUEST)
        outer, nested = memory[-len(REQUEST) :], memory[: len(inner)]
        check(f"{case}, the nested data lies before the outer", cut, outer, nested)
        memory = memoryview(REQUEST + PRIVATE + inner)
        outer, nested = memory[: len(REQUEST)], memory[-len(inner) :]
        check(f"{case}, the nested data lies behind the outer", cut, outer, nested)
    print(f"H5: nothing wrong in {2 * len(CASES)} cases")


if __name__ == "__main__":
    main()
