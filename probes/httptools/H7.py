# /// script
# requires-python = ">=3.14"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.probe]
# defect = "H7"
# title = "a parser whose __init__() has not been called goes on with what another one left"
# releases = "<=0.9.0"
# use = "misuse"
# passes = "it answers as a new parser does, and feed_data() raises HttpParserError"
# fails-by = ["wrong answer", "crash"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""H7: a parser whose __init__() has not been called goes on with what another one left.

Use:        a subclass that does not call its base's __init__(), or not yet when it is fed. With the
            GIL and without.
Symptom:    get_method() and get_http_version() tell of some request that another parser had, or
            abort the process; feed_data() crashes, or raises HttpParserError with a text that lay
            anywhere in memory.
Cause:      llhttp's state and settings are allocated, and written to by __init__() only.

Shows:      parsers get a request and are given up; others, whose __init__() has not been called,
            are likely to get their memory. They must answer as a new one does, whatever was there
            before, and refuse to parse.
"""

import sys

import httptools

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
PARSERS = 500
EARLIER = b"PUT /earlier HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
DATA = b"GET / HTTP/1.1\r\n\r\n"


class Protocol:
    def on_url(self, url):
        pass


class Forgetful(httptools.HttpRequestParser):
    def __init__(self):
        pass


def answers(parser):
    return {
        "method": parser.get_method(),
        "version": parser.get_http_version(),
        "keep-alive": parser.should_keep_alive(),
        "upgrade": parser.should_upgrade(),
    }


def give_up_parsers():
    for parser in [httptools.HttpRequestParser(Protocol()) for _ in range(PARSERS)]:
        parser.feed_data(EARLIER)
        left = answers(parser)
    return left


def main():
    new = answers(httptools.HttpRequestParser(Protocol()))
    if give_up_parsers() == new:
        print(f"H7: a parser that has had a request answers like a new one: {new}")
        return NOT_RUN
    for parser in [Forgetful() for _ in range(PARSERS)]:
        found = answers(parser)
        if found != new:
            print(f"H7: without __init__(): {found}, not {new}")
            return WRONG_ANSWER
        try:
            parser.feed_data(DATA)
        except httptools.HttpParserError as error:
            if "__init__" in str(error):
                continue
            print(f"H7: fed without __init__(): {error!r}")
            return WRONG_ANSWER
        print("H7: fed without __init__(), and parsed")
        return WRONG_ANSWER
    print(f"H7: {PARSERS} parsers without __init__() answer like a new one and refuse to parse")
    return 0


if __name__ == "__main__":
    sys.exit(main())
