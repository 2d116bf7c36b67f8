# /// script
# requires-python = ">=3.14"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.probe]
# defect = "HP1"
# title = "parsers in several threads take turns to count references to the same functions and data"
# releases = "<=0.9.0"
# use = "supported"
# passes = "in a callback, a parser holds no reference to its function and one to the bytes"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# ///
"""HP1: parsers in several threads take turns to count references to the same functions and data.

Use:        a parser for each connection, connections in several threads, and protocols of one
            class: what every server does.
Symptom:    two threads parse less than one does, and less than half of what two processes do.
Cause:      for each callback the bound method is taken apart, and a reference to its function is
            counted and dropped again. The functions are those of the class, so all threads write to
            the same few counters, and each time that memory has to move to another processor.
            CPython itself does not count references to such functions while it runs them. In the
            same way each feed_data() counts two references to its bytes, of which one is enough.

Shows:      the references themselves, not the time that they take. In two threads, each with a
            parser and protocol of its own, a callback waits until the other thread is in the same
            callback. There, the function must have as many references as before, and the bytes that
            both parse one more for each call. With the defect the function has two more, one from
            each parser, and the bytes four.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httptools

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
THREADS = 2
WAIT = 300  # seconds; a busy machine may need some
MOST = 0, THREADS  # additional references: to the function, to the data
REQUEST = ["POST / HTTP/1.1", "Host: example.org", "Transfer-Encoding: chunked", "", "2", "ok"]
RESPONSE = ["HTTP/1.1 200 OK", "Host: example.org", "Content-Length: 2", "", "ok"]
CALLBACKS = {
    httptools.HttpRequestParser: [
        *("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body"),
        *("on_message_complete", "on_chunk_header", "on_chunk_complete"),
    ],
    httptools.HttpResponseParser: ["on_status"],
}
meet = threading.Barrier(THREADS)


class Protocol:
    """The callbacks, of which one measures."""

    def __init__(self, measured, data, turn):
        self.measured = measured
        self.data = data
        self.turn = turn
        self.found = []

    def called(self, name):
        if name == self.measured and len(self.found) < 2:
            self.count()

    def count(self):
        """Both threads are here. One after the other counts, so that none counts the other."""
        for turn in range(THREADS):
            meet.wait(WAIT)
            if turn == self.turn:
                self.found.append(references(self.measured, self.data))
        meet.wait(WAIT)

    def on_message_begin(self):
        self.called("on_message_begin")

    def on_url(self, url):
        self.called("on_url")

    def on_status(self, status):
        self.called("on_status")

    def on_header(self, name, value):
        self.called("on_header")

    def on_headers_complete(self):
        self.called("on_headers_complete")

    def on_body(self, body):
        self.called("on_body")

    def on_message_complete(self):
        self.called("on_message_complete")

    def on_chunk_header(self):
        self.called("on_chunk_header")

    def on_chunk_complete(self):
        self.called("on_chunk_complete")


def references(name, data):
    return sys.getrefcount(Protocol.__dict__[name]), sys.getrefcount(data)


def more(parser_class, name, data):
    """How many more references to the function and to the data there are in two callbacks."""

    def parse(number):
        wire, protocol, feed = data, protocols[number], parsers[number].feed_data
        protocol.count()
        feed(wire)
        if len(protocol.found) < 2:
            raise RuntimeError(f"{name} was not called")
        before, meanwhile = protocol.found
        return [now - then for now, then in zip(meanwhile, before, strict=True)]

    protocols = [Protocol(name, data, turn) for turn in range(THREADS)]
    parsers = [parser_class(protocol) for protocol in protocols]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(parse, range(THREADS)))
    return [max(counts) for counts in zip(*found, strict=True)]


def main():
    requests, responses = (
        "\r\n".join([*lines, "0", "", ""] if "chunked" in lines[2] else lines).encode()
        for lines in (REQUEST, RESPONSE)
    )
    wrong = []
    for parser_class, names in CALLBACKS.items():
        data = requests if parser_class is httptools.HttpRequestParser else responses
        for name in names:
            if any(map(sys._is_immortal, (Protocol.__dict__[name], data))):  # noqa: SLF001
                print(f"HP1: nobody counts references to {name} or to the data")
                return NOT_RUN
            function, read = found = more(parser_class, name, data)
            if any(one > most for one, most in zip(found, MOST, strict=True)):
                wrong.append(f"in {name}: {function} to the function, {read} to the data")
    print(f"HP1: {len(wrong)} callbacks with more references than needed", *wrong, sep="\nHP1: ")
    return WRONG_ANSWER if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
