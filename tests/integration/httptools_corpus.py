"""Messages and URLs that both wheels of httptools are given, and the ways in which they are fed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Case = Mapping[str, Any]  # what httptools_replay.py is asked to do

CALLBACKS = (
    *("on_message_begin", "on_url", "on_status", "on_header", "on_headers_complete", "on_body"),
    *("on_message_complete", "on_chunk_header", "on_chunk_complete"),
)
LENIENCIES = (
    *("lenient_headers", "lenient_chunked_length", "lenient_keep_alive"),
    *("lenient_transfer_encoding", "lenient_version", "lenient_data_after_close"),
    *("lenient_optional_lf_after_cr", "lenient_optional_cr_before_lf"),
    *("lenient_optional_crlf_after_chunk", "lenient_spaces_after_chunk_size"),
)
BUFFERS = ("bytes", "bytearray", "memoryview")


def wire(*lines: str, body: str = "") -> str:
    """A message: lines of a head, and what follows it."""
    return "\r\n".join([*lines, "", body])


HOST = "Host: example.org"
CHUNKED = "Transfer-Encoding: chunked"
GET = wire("GET / HTTP/1.1", HOST)
POST = wire("POST /form HTTP/1.1", HOST, "Content-Length: 11", body="hello=world")
CHUNKS = wire(
    *("PUT /a/b HTTP/1.1", HOST, CHUNKED),
    body="5\r\nhello\r\n1;name=value;other\r\n \r\nA\r\n0123456789\r\n0\r\n\r\n",
)
UPGRADE = wire("GET /chat HTTP/1.1", HOST, "Connection: Upgrade", "Upgrade: websocket")
OK = wire("HTTP/1.1 200 OK", "Content-Length: 2", body="ok")

REQUESTS = {
    "the shortest": "GET / HTTP/1.1\r\n\r\n",
    "one header": GET,
    "HTTP/1.0": wire("GET / HTTP/1.0"),
    "HTTP/1.0, kept alive": wire("GET / HTTP/1.0", "Connection: keep-alive") * 2,
    "HTTP/1.0, and more": wire("GET / HTTP/1.0") * 2,
    "closed, and more": wire("GET / HTTP/1.1", "Connection: close") + GET,
    "a URL with all parts": wire("GET http://u:p@h:80/p;q?a=b&c#d HTTP/1.1", HOST),
    "a URL with bytes above ASCII": wire("GET /\xe4\xff?\xfc HTTP/1.1", HOST),
    "an asterisk": wire("OPTIONS * HTTP/1.1", HOST),
    "a tunnel": wire("CONNECT example.org:443 HTTP/1.1", HOST, body="\x16\x03\x01not HTTP"),
    "an empty value": wire("GET / HTTP/1.1", "Empty:", "Spaces:   ", "Tab:\tvalue\t", HOST),
    "values with spaces around": wire("GET / HTTP/1.1", "Name:   value   ", HOST),
    "bytes above ASCII": wire("GET / HTTP/1.1", "Name: \xe4\xf6\xfc", HOST),
    "a folded value": wire("GET / HTTP/1.1", "Name: one", " two", "\tthree", HOST),
    "many headers": wire("GET / HTTP/1.1", *(f"Name-{n}: value-{n}" for n in range(12))),
    "a name twice": wire("GET / HTTP/1.1", "Cookie: a=b", "Cookie: c=d", HOST),
    "a body": POST,
    "an empty body": wire("POST / HTTP/1.1", HOST, "Content-Length: 0"),
    "a body that is expected": wire(
        *("PUT / HTTP/1.1", "Expect: 100-continue", "Content-Length: 3"), body="abc"
    ),
    "a body that goes on": wire("POST / HTTP/1.1", "Content-Length: 99", body="short"),
    "chunks": CHUNKS,
    "no chunks": wire("POST / HTTP/1.1", CHUNKED, body="0\r\n\r\n"),
    "chunks with trailers": wire(
        *("POST / HTTP/1.1", "Trailer: X", CHUNKED),
        body="3\r\nabc\r\n0\r\nX: one\r\nY: two\r\n\r\n",
    ),
    "chunks with quoted extensions": wire(
        *("POST / HTTP/1.1", CHUNKED), body='2;a="b;c\\"d";e\r\nab\r\n0;f\r\n\r\n'
    ),
    "chunks and a next message": CHUNKS + GET,
    "three at once": GET + POST + GET,
    "empty lines between": "\r\n\r\n" + GET + "\r\n" + POST + "\n" + GET,
    "an upgrade": UPGRADE,
    "an upgrade, and its data": UPGRADE + "\x81\x05hello",
    "an upgrade with a body": wire(
        *("POST / HTTP/1.1", "Connection: upgrade", "Upgrade: h2c", "Content-Length: 3"),
        body="abcdef",
    ),
    "an upgrade that nobody asks for": wire("GET / HTTP/1.1", "Upgrade: h2c", HOST) + GET,
    "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "rare methods": wire("M-SEARCH * HTTP/1.1", HOST) + wire("UNLOCK / HTTP/1.1", HOST),
    "RTSP": wire("DESCRIBE rtsp://example.org/media RTSP/1.0", "CSeq: 2"),
    "ICE": wire("SOURCE /stream ICE/1.0", HOST),
    "nothing": "",
    "empty lines": "\r\n\r\n",
    "no HTTP": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "zeros": "\0" * 8,
    "an unknown method": wire("FETCH / HTTP/1.1", HOST),
    "a method in small letters": wire("get / HTTP/1.1", HOST),
    "a method cut short": "GE / HTTP/1.1\r\n\r\n",
    "no URL": wire("GET HTTP/1.1", HOST),
    "a space in the URL": wire("GET /a b HTTP/1.1", HOST),
    "a control character in the URL": wire("GET /a\x01b HTTP/1.1", HOST),
    "an unknown version": wire("GET / HTTP/9.9", HOST),
    "an unknown protocol": wire("GET / HTCPCP/1.0", HOST),
    "HTTP/0.9": "GET /\r\n",
    "lines that end in LF": GET.replace("\r", ""),
    "lines that end in CR": GET.replace("\n", ""),
    "chunks that end in LF": CHUNKS.replace("\r", ""),
    "a header without a colon": wire("GET / HTTP/1.1", "Name"),
    "a header without a name": wire("GET / HTTP/1.1", ": value"),
    "a space before the colon": wire("GET / HTTP/1.1", "Name : value"),
    "a space before the first header": wire("GET / HTTP/1.1", " Name: value"),
    "a zero in a value": wire("GET / HTTP/1.1", "Name: a\0b"),
    "a CR in a value": wire("GET / HTTP/1.1", "Name: a\rb"),
    "two lengths": wire("POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 2", body="ab"),
    "a length and chunks": wire(
        *("POST / HTTP/1.1", "Content-Length: 3", CHUNKED), body="0\r\n\r\n"
    ),
    "a length that is none": wire("POST / HTTP/1.1", "Content-Length: 1x", body="a"),
    "a length below zero": wire("POST / HTTP/1.1", "Content-Length: -1", body="a"),
    "a length that is too large": wire("POST / HTTP/1.1", f"Content-Length: {2**64}", body="a"),
    "an empty length": wire("POST / HTTP/1.1", "Content-Length:", body="a"),
    "chunked is not the last": wire(
        *("POST / HTTP/1.1", "Transfer-Encoding: chunked, gzip"), body="0\r\n\r\n"
    ),
    "chunked twice": wire("POST / HTTP/1.1", CHUNKED, CHUNKED, body="1\r\na\r\n0\r\n\r\n"),
    "a chunk without a size": wire("POST / HTTP/1.1", CHUNKED, body="\r\nabc\r\n"),
    "a size that is none": wire("POST / HTTP/1.1", CHUNKED, body="g\r\nabc\r\n"),
    "a size that is too large": wire("POST / HTTP/1.1", CHUNKED, body="f" * 17 + "\r\na"),
    "a space after the size": wire("POST / HTTP/1.1", CHUNKED, body="1 \r\na\r\n0\r\n\r\n"),
    "a chunk that is too long": wire("POST / HTTP/1.1", CHUNKED, body="1\r\nabc\r\n0\r\n\r\n"),
    "an extension with a zero": wire("POST / HTTP/1.1", CHUNKED, body="1;\0\r\na\r\n0\r\n\r\n"),
    "a trailer without a colon": wire("POST / HTTP/1.1", CHUNKED, body="0\r\nX\r\n\r\n"),
    "an answer": OK,
    "two, the second malformed": GET + "\x00",
}

RESPONSES = {
    "a body": OK,
    "a body until the end": wire("HTTP/1.1 200 OK", "Content-Type: text/plain", body="abc"),
    "no reason": wire("HTTP/1.1 200", "Content-Length: 0"),
    "no reason, a space": wire("HTTP/1.1 200 ", "Content-Length: 0"),
    "a long reason": wire("HTTP/1.1 404 Not \xe4 thing found here", "Content-Length: 0"),
    "no content": wire("HTTP/1.1 204 No Content") + OK,
    "not modified": wire("HTTP/1.1 304 Not Modified", "Content-Length: 9") + OK,
    "more to come": wire("HTTP/1.1 100 Continue") + wire("HTTP/1.1 103 Early Hints") + OK,
    "chunks": wire("HTTP/1.1 200 OK", CHUNKED, body="3\r\nabc\r\n0\r\nX: y\r\n\r\n") + OK,
    "chunks and a length": wire(
        *("HTTP/1.1 200 OK", CHUNKED, "Content-Length: 3"), body="3\r\nabc\r\n0\r\n\r\n"
    ),
    "two at once": OK + OK,
    "HTTP/1.0": wire("HTTP/1.0 200 OK", "Content-Length: 2", body="ok") + OK,
    "HTTP/1.0, kept alive": wire(
        *("HTTP/1.0 200 OK", "Connection: keep-alive", "Content-Length: 2"), body="ok"
    )
    + OK,
    "closed, and more": wire("HTTP/1.1 200 OK", "Connection: close", "Content-Length: 0") + OK,
    "switched protocols": wire(
        *("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"),
        body="\x81\x02hi",
    ),
    "an upgrade that is refused": wire(
        *("HTTP/1.1 426 Upgrade Required", "Upgrade: h2c", "Content-Length: 0"),
    )
    + OK,
    "nothing": "",
    "no HTTP": "220 mail.example.org ESMTP\r\n",
    "an unknown version": wire("HTTP/3.7 200 OK", "Content-Length: 0"),
    "a status of four digits": wire("HTTP/1.1 2000 OK", "Content-Length: 0"),
    "a status of letters": wire("HTTP/1.1 abc OK", "Content-Length: 0"),
    "a status of two digits": wire("HTTP/1.1 20 OK", "Content-Length: 0"),
    "no status": wire("HTTP/1.1", "Content-Length: 0"),
    "lines that end in LF": OK.replace("\r", ""),
    "two lengths": wire("HTTP/1.1 200 OK", "Content-Length: 1", "Content-Length: 1", body="a"),
    "a header without a colon": wire("HTTP/1.1 200 OK", "Name", body="a"),
    "a request": GET,
}

URLS = (
    *("/", "/path", "/path?query", "/path?query#fragment", "/path#fragment?no=query", "*", ""),
    *("http://example.org", "http://example.org/", "https://u:p@example.org:8443/a/b?c=d#e"),
    *(
        "http://[2001:db8::1]:80/",
        "http://[::1",
        "http://h:0/",
        "http://h:65535/",
        "http://h:65536/",
    ),
    *("http://h:/", "http://h:a/", "http://:80/", "http:///path", "http://u@/", "//h/p", "http:/p"),
    *("example.org:443", "h", "h:1", "/a b", "/\x00", "/\x7f", "/\xe4\xff", "?", "#", "/??", "/##"),
    *("HTTP://EXAMPLE.org/", "ftp://h/", "1http://h/", "http://u@v@h/", "http://h/" + "x" * 4000),
)


def feeding(name: str, message: str, *, response: bool) -> Iterator[Case]:
    """A message in all the ways in which it is fed."""
    base = {"do": "feed", "name": name, "response": response}
    whole, split = [message], list(message)
    for buffer in BUFFERS:
        yield {**base, "pieces": whole, "buffer": buffer}
        yield {**base, "pieces": split, "buffer": buffer}
    for position in range(1, len(message)):
        yield {**base, "pieces": [message[:position], message[position:]]}
    yield {**base, "pieces": [message, message]}
    for callback in CALLBACKS:
        for pieces in (whole, split):
            yield {**base, "pieces": pieces, "raises": callback}
            yield {**base, "pieces": pieces, "lacks": [callback]}
    yield {**base, "pieces": whole, "lacks": list(CALLBACKS)}
    for leniencies in (*([one] for one in LENIENCIES), list(LENIENCIES)):
        for pieces in (whole, split):
            yield {**base, "pieces": pieces, "lenient": leniencies}


def corpus() -> Iterator[Case]:
    """Everything."""
    for response, messages in ((False, REQUESTS), (True, RESPONSES)):
        for name, message in messages.items():
            yield from feeding(name, message, response=response)
    for url in URLS:
        for buffer in BUFFERS:
            yield {"do": "parse_url", "url": url, "buffer": buffer}
