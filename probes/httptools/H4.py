# /// script
# requires-python = ">=3.14"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.probe]
# defect = "H4"
# title = "a parser can be re-initialised, and its leniencies changed, in the middle of a parse"
# releases = "<=0.9.0"
# use = "misuse"
# passes = "during feed_data() both are refused with RuntimeError; before and after it, both work"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""H4: a parser can be re-initialised, and its leniencies changed, in the middle of a parse.

Use:        a callback, or another thread while a callback runs, calls parser.__init__() or
            parser.set_dangerous_leniencies(), which is misuse. With the GIL and without.
Symptom:    the body of a request is parsed as a request of its own: the application sees a
            request that nobody sent. Rules that the message began under change within it.
Cause:      nothing keeps these calls out while feed_data() is running; llhttp goes on where it
            was, with the length, the flags and the header state of a parser that is new.

Shows:      a callback tries both, itself and in another thread. The parse has to go on as if it
            had not tried; and between two calls of feed_data() both have to work.
"""

import sys
import threading

import httptools

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
BODY = b"GET /smuggled HTTP/1.1\r\nHost: example.org\r\n\r\n"
REQUEST = (
    b"POST /sent HTTP/1.1\r\nContent-Length: %d\r\nHost: example.org\r\nConnection: keep-alive\r\n"
    b"\r\n%s" % (len(BODY), BODY)
)
EXPECTED = [("url", b"/sent"), ("body", BODY), ("complete",)]
RELAXED = b"GET /sent HTTP/1.1\r\nName: with\x0ba control character\r\n\r\n"


class Protocol:
    def __init__(self):
        self.calls = []
        self.hook = None

    def on_url(self, url):
        self.calls.append(("url", url))

    def on_header(self, name, value):
        if self.hook and name == b"Content-Length":
            hook, self.hook = self.hook, None
            hook()

    def on_body(self, body):
        self.calls.append(("body", body))

    def on_message_complete(self):
        self.calls.append(("complete",))


def here(function):
    function()


def elsewhere(function):
    """Call function in another thread and wait for it."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def initialise(parser, protocol):
    parser.__init__(protocol)


def set_leniencies(parser, protocol):
    parser.set_dangerous_leniencies(lenient_headers=True)


def end(code, what):
    print(f"H4: {what}")
    sys.exit(code)


def change_during(change, call):
    """Change the parser in on_header, then between two messages."""
    where = f"{change.__name__}, {call.__name__}"
    protocol = Protocol()
    parser = httptools.HttpRequestParser(protocol)
    results = []

    def attempt():
        try:
            change(parser, protocol)
        except BaseException as error:
            results.append(error)
        else:
            results.append("accepted")

    protocol.hook = lambda: call(attempt)
    try:
        parser.feed_data(REQUEST)
    except httptools.HttpParserError as error:
        end(WRONG_ANSWER, f"{where}: {error!r} for a valid request, after {protocol.calls}")
    if len(results) != 1:
        end(NOT_RUN, f"{where}: changed {len(results)} times")
    (result,) = results
    if protocol.calls != EXPECTED or type(result) is not RuntimeError or not str(result):
        end(WRONG_ANSWER, f"{where}: {result!r}; callbacks {protocol.calls}")

    protocol.calls.clear()
    change(parser, protocol)
    parser.feed_data(REQUEST)
    if protocol.calls != EXPECTED:
        end(WRONG_ANSWER, f"{where}, between messages: callbacks {protocol.calls}")


def is_accepted(parser, data):
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        return False
    return True


def main():
    protocol = Protocol()
    parser = httptools.HttpRequestParser(protocol)
    parser.feed_data(REQUEST)
    if protocol.calls != EXPECTED:
        end(NOT_RUN, f"without a change: callbacks {protocol.calls}")
    strict, lenient = (httptools.HttpRequestParser(Protocol()) for _ in range(2))
    lenient.set_dangerous_leniencies(lenient_headers=True)
    if is_accepted(strict, RELAXED) or not is_accepted(lenient, RELAXED):
        end(NOT_RUN, "leniencies make no difference")

    for change in (initialise, set_leniencies):
        for call in (here, elsewhere):
            change_during(change, call)
    print("H4: every change during a parse was refused")


if __name__ == "__main__":
    main()
