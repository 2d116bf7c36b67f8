# /// script
# requires-python = ">=3.9"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.benchmark]
# title = "requests and URLs that are parsed, a parser for each worker"
# use = "supported"
# seconds = 30
# [tool.freewheel.benchmark.cases]
# small = "a request with two headers on a connection that is kept alive"
# browser = "a request as browsers send it, with 16 headers"
# body = "64 KiB of body that arrive in pieces of 1 KiB"
# connection = "a parser for a connection of one small request"
# shared = "a small request; the workers' protocols are of one class, as in a server"
# url = "a URL with scheme, host, port, path, query and fragment"
# alone = "the calls of a small request, without httptools: what the interpreter reaches"
# ///
"""What parsing costs. `nox -s bench-httptools` measures it; docs/benchmarks.md has the figures.

Every worker has a protocol class, data and callbacks of its own, so that what is counted between
threads is httptools' doing. In "shared" they have the class in common, as the connections of a
server do.
"""

import httptools

BATCH = 100
SMALL = ["GET /users/42 HTTP/1.1", "Host: api.example.org", "Accept: application/json"]
BROWSER = [
    "GET /articles/2026/11/threads?utm_source=newsletter&page=2 HTTP/1.1",
    "Host: www.example.org",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.8,de;q=0.5,fr;q=0.3",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://www.example.org/articles/2026/11/",
    "Connection: keep-alive",
    "Cookie: session=4f1c94b2775a4c2eac476621abf335a4; theme=dark; consent=necessary",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-User: ?1",
    "Priority: u=0, i",
    'If-None-Match: "33a64df551425fcc55e4d42a148795d9f25f89d4"',
    "Cache-Control: max-age=0",
]
PIECE, PIECES = 1024, 64
ADDRESS = "https://user@www.example.org:8443/articles/2026/11?page=2&sort=date#top"


def wire(lines):
    """The bytes of a request: new ones for each worker."""
    return "\r\n".join([*lines, "", ""]).encode()


def protocol():
    """A protocol of a class that no other worker has."""

    class Protocol:
        def on_message_begin(self):
            pass

        def on_url(self, url):
            pass

        def on_header(self, name, value):
            pass

        def on_headers_complete(self):
            pass

        def on_body(self, body):
            pass

        def on_message_complete(self):
            pass

    return Protocol


SHARED = protocol()  # a class that all workers have in common


def small():
    return _requests(SMALL, protocol())


def browser():
    return _requests(BROWSER, protocol())


def shared():
    return _requests(SMALL, SHARED)


def _requests(lines, cls):
    data = wire(lines)
    feed = httptools.HttpRequestParser(cls()).feed_data
    while True:
        for _ in range(BATCH):
            feed(data)
        yield BATCH


def body():
    head = wire(["POST /upload HTTP/1.1", "Host: x", f"Content-Length: {PIECE * PIECES}"])
    piece = bytes(PIECE)
    feed = httptools.HttpRequestParser(protocol()()).feed_data
    while True:
        feed(head)
        for _ in range(PIECES):
            feed(piece)
        yield 1


def connection():
    data, cls = wire(SMALL), protocol()
    while True:
        for _ in range(BATCH):
            httptools.HttpRequestParser(cls()).feed_data(data)
        yield BATCH


def url():
    data = ADDRESS.encode()  # new ones for each worker
    while True:
        for _ in range(BATCH):
            httptools.parse_url(data)
        yield BATCH


def alone():
    one = protocol()()
    name, value = b"Host", b"api.example.org"
    while True:
        for _ in range(BATCH):
            one.on_message_begin()
            one.on_url(value)
            one.on_header(name, value)
            one.on_header(name, value)
            one.on_headers_complete()
            one.on_message_complete()
        yield BATCH
