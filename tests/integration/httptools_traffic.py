"""What Hypothesis makes parsers be fed with, from valid traffic to what nobody sends."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from tests.integration.httptools_corpus import BUFFERS, CALLBACKS, LENIENCIES, Case, wire

METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "PRI", "M-SEARCH", "GOT")
TARGETS = ("/", "/a?b=c#d", "*", "http://u@h:1/p", "h:443", "", "/\xe4 x", "/\x01")
VERSIONS = ("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "RTSP/1.0", "")
STATUSES = ("200 OK", "204 None", "304 None", "100 Continue", "101 Switch", "404", "99 x", "1000 x")
FRAMING = (
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: gzip"),
    *("Content-Length: 0", "Content-Length: 5", "Content-Length: -1", "Content-Length:"),
    *("Connection: close", "Connection: keep-alive", "Connection: upgrade", "Upgrade: websocket"),
)
# What llhttp reads has a meaning for it; and some that has none.
TOKENS = (
    *("\r\n", "\n", "\r", "\r\n\r\n", " ", "\t", ":", ";", ",", '"', "\\", "\0", "\x7f", "\xff"),
    *(
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        "ffffffffffffffff",
        "HTTP/1.1",
        "GET / ",
        "chunked",
        "\x16\x03",
    ),
)
MANY = 40  # bytes; more makes nothing new
CUTS = 12

text = st.text(st.characters(max_codepoint=255), max_size=MANY)
names = st.one_of(st.sampled_from(("Host", "Cookie", "X", "")), text)
headers = st.one_of(
    st.sampled_from(FRAMING),
    st.builds("{}: {}".format, names, st.one_of(text, st.just(" spaces "), st.just(""))),
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[list[str], str]:
    """Headers, and a body that fits them."""
    kind = draw(st.sampled_from(("none", "length", "chunks")))
    if kind == "none":
        return [], ""
    if kind == "length":
        body = draw(text)
        return [f"Content-Length: {len(body)}"], body
    pieces = draw(st.lists(text.filter(bool), max_size=3))
    extension = draw(st.sampled_from(("", ";a", ";a=b", ';a="b"')))
    trailer = draw(st.sampled_from(("", "", "X: y\r\n")))
    chunks = "".join(f"{len(piece):x}{extension}\r\n{piece}\r\n" for piece in pieces)
    return ["Transfer-Encoding: chunked"], f"{chunks}0\r\n{trailer}\r\n"


@st.composite
def requests(draw: st.DrawFn) -> str:
    """A whole, valid request that leaves the connection open."""
    framing, body = draw(bodies())
    word = draw(st.text("abcXYZ019-", min_size=1, max_size=8))
    extra = [f"Name-{n}: {word * n}" for n in range(draw(st.integers(0, 4)))]
    method = "POST" if framing else draw(st.sampled_from(("GET", "OPTIONS", "DELETE")))
    return wire(f"{method} /{word} HTTP/1.1", "Host: h", *extra, *framing, body=body)


@st.composite
def messages(draw: st.DrawFn, *, response: bool) -> str:
    """A message, most likely a valid one."""
    version = draw(st.sampled_from(VERSIONS))
    if response:
        start = f"{version} {draw(st.sampled_from(STATUSES))}"
    else:
        start = f"{draw(st.sampled_from(METHODS))} {draw(st.sampled_from(TARGETS))} {version}"
    framing, body = draw(bodies())
    return wire(start, *draw(st.lists(headers, max_size=3)), *framing, body=body)


@st.composite
def streams(draw: st.DrawFn, *, response: bool) -> str:
    """Messages one after the other, and what chance makes of them."""
    usual = (
        messages(response=response) if response else st.one_of(requests(), messages(response=False))
    )
    stream = "".join(draw(st.lists(usual, min_size=1, max_size=3)))
    for _ in range(draw(st.sampled_from((0, 0, 1, 2, 4)))):
        begin = draw(st.integers(0, len(stream)))
        end = draw(st.integers(begin, min(len(stream), begin + 8)))
        put = draw(st.one_of(st.just(""), st.sampled_from(TOKENS), st.just(stream[begin:end] * 2)))
        stream = stream[:begin] + put + stream[end:]
    return stream


def cut(stream: str, cuts: list[int]) -> list[str]:
    """A stream in pieces."""
    edges = [0, *sorted(one % (len(stream) + 1) for one in cuts), len(stream)]
    return [stream[begin:end] for begin, end in itertools.pairwise(edges)]


@st.composite
def feeds(draw: st.DrawFn) -> Case:
    """A parser that is fed piece by piece."""
    response = draw(st.booleans())
    cuts = draw(st.lists(st.integers(0, 2000), max_size=CUTS))
    rarely = st.sampled_from((None, None, None, *CALLBACKS))
    return {
        "do": "feed",
        "response": response,
        "pieces": cut(draw(streams(response=response)), cuts),
        "buffer": draw(st.sampled_from(BUFFERS)),
        "raises": draw(rarely),
        "lacks": [name for name in (draw(rarely),) if name],
        "lenient": draw(
            st.sampled_from(([], [], list(LENIENCIES), *([one] for one in LENIENCIES)))
        ),
    }


@st.composite
def nested_feeds(draw: st.DrawFn) -> Case:
    """A parser that is fed by one of its own callbacks, too."""
    case = draw(feeds())
    inner = cut(
        draw(streams(response=case["response"])), draw(st.lists(st.integers(0, 99), max_size=3))
    )
    return {**case, "nested": [draw(st.sampled_from(CALLBACKS)), inner]}


@st.composite
def shared_feeds(draw: st.DrawFn) -> Case:
    """A parser that several threads feed with pieces of whatever it is."""
    case = draw(feeds())
    stream = draw(streams(response=case["response"]))
    pieces = [*case["pieces"], *cut(stream, draw(st.lists(st.integers(0, 999), max_size=CUTS)))]
    return {**case, "do": "share", "buffer": "any", "pieces": pieces, "threads": 4}


@st.composite
def shared_requests(draw: st.DrawFn) -> Case:
    """A parser that several threads feed with whole requests, in bytes."""
    pieces = draw(st.lists(requests(), min_size=4, max_size=12))
    return {"do": "share", "buffer": "bytes", "pieces": pieces, "threads": 4}


@st.composite
def urls(draw: st.DrawFn) -> Case:
    """A URL, or what looks like one."""
    parts = st.sampled_from(
        (
            "http",
            "://",
            "/",
            "//",
            ":",
            "@",
            "?",
            "#",
            "[",
            "]",
            "::1",
            "80",
            "65536",
            "h",
            "u",
            "%",
            " ",
        )
    )
    url = "".join(draw(st.lists(st.one_of(parts, text), max_size=8)))
    return {"do": "parse_url", "url": url, "buffer": draw(st.sampled_from(BUFFERS))}
