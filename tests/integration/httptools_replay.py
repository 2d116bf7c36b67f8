"""Do with the httptools that is installed here what each line asks for, and tell all that happens.

A program for the interpreter that a wheel is tested with. It reads JSON, a case a line, and
answers each with a line; bytes are strings of Latin-1. ``test_httptools.py`` asks two wheels the
same and compares. Memory and time are limited, for a parser that loops may take all there is.
"""

from __future__ import annotations

import gc
import json
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import httptools  # type: ignore[import-not-found,unused-ignore]

MEMORY = 2 << 30  # bytes of address space
PATIENCE = 60  # seconds for a case; then SIGALRM ends this process, whatever its threads do
PAUSE = 2e-5  # seconds that a callback takes, so that other threads come meanwhile
BUFFERS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": lambda data: memoryview(b"<" + data + b">")[1:-1],
}
CALLBACKS = (
    *("on_message_begin", "on_url", "on_status", "on_header", "on_headers_complete", "on_body"),
    *("on_message_complete", "on_chunk_header", "on_chunk_complete"),
)
Tell = Callable[..., None]


def described(error: BaseException) -> list[object]:
    """An exception with all that it says, and the one it came from."""
    context = error.__context__
    return [type(error).__name__, repr(error.args), context and described(context)]


def make_protocol(case: dict[str, Any], tell: Tell) -> Any:  # noqa: ANN401
    """A protocol that tells of its callbacks; it may lack some, and one may raise."""

    def callback(name: str) -> Callable[..., None]:
        def call(_self: object, *arguments: object) -> None:
            tell(name, *map(repr, arguments))
            if name == case.get("raises"):
                raise LookupError(name)

        return call

    names = set(CALLBACKS) - set(case.get("lacks", ()))
    return type("Protocol", (), {name: callback(name) for name in names})()


def make_parser(case: dict[str, Any], tell: Tell) -> Any:  # noqa: ANN401
    """A parser of either kind."""
    response = case.get("response")
    kind = httptools.HttpResponseParser if response else httptools.HttpRequestParser
    parser = kind(make_protocol(case, tell))
    if case.get("lenient"):
        parser.set_dangerous_leniencies(**dict.fromkeys(case["lenient"], True))
    return parser


def answers(parser: Any) -> list[str]:  # noqa: ANN401
    """What the parser says of the message."""
    what = parser.get_status_code if hasattr(parser, "get_status_code") else parser.get_method
    asked = (what, parser.get_http_version, parser.should_keep_alive, parser.should_upgrade)
    return [repr(answer()) for answer in asked]


def fed(parser: Any, data: object) -> list[object] | None:  # noqa: ANN401
    """What feed_data() raises, if it does."""
    try:
        parser.feed_data(data)
    except Exception as error:  # noqa: BLE001  whatever it is, it is to be compared
        return described(error)
    return None


def feed(case: dict[str, Any]) -> object:
    """Feed one parser piece by piece, on after an error too; all that it calls and answers.

    With "nested", one of its callbacks feeds it too.
    """
    told: list[object] = []
    make = BUFFERS[case.get("buffer", "bytes")]
    within, inner = case.get("nested", (None, ()))
    left = list(inner)
    used = []

    def give(piece: str) -> None:
        data = make(piece.encode("latin-1"))
        used.append(data)
        told.append(["fed", fed(parser, data), answers(parser)])

    def tell(name: str, *arguments: str) -> None:
        told.append([name, *arguments])
        if name == within and left:
            give(left.pop())

    parser = make_parser(case, tell)
    for piece in case["pieces"]:
        give(piece)
        while used:
            data = used.pop()
            if isinstance(data, bytearray):
                data.append(0)  # raises BufferError if the parser still holds it
    return told


def parse_url(case: dict[str, Any]) -> object:
    """The parts of a URL."""
    names = ("schema", "host", "port", "path", "query", "fragment", "userinfo")
    data = BUFFERS[case.get("buffer", "bytes")](case["url"].encode("latin-1"))
    try:
        url = httptools.parse_url(data)
    except Exception as error:  # noqa: BLE001  whatever it is, it is to be compared
        # It shows the URL: of a memoryview, its address.
        return described(error)[: 1 if isinstance(data, memoryview) else None]
    return [repr(getattr(url, name)) for name in names]


class Piece:
    """Data that notes when a parser begins to read it: the order of the calls that were let in."""

    def __init__(self, number: int, data: bytes, order: list[int]) -> None:
        self.number = number
        self.data = bytearray(data)
        self.order = order

    def __buffer__(self, _flags: int) -> memoryview:
        self.order.append(self.number)
        return memoryview(self.data)


def share(case: dict[str, Any]) -> object:
    """Several threads feed one parser; the order, and what each call had called and raised.

    The order is known where the pieces are not "bytes".
    """
    order: list[int] = []
    told: list[list[object]] = [[] for _ in case["pieces"]]
    raw = [piece.encode("latin-1") for piece in case["pieces"]]
    pieces = [Piece(number, data, order) for number, data in enumerate(raw)]
    threads: int = case["threads"]
    here = threading.local()
    meet = threading.Barrier(threads)

    def tell(*call: object) -> None:
        told[here.number].append(call)
        if threads > 1:
            time.sleep(PAUSE)

    def work(first: int) -> None:
        meet.wait()
        for number in range(first, len(pieces), threads):
            here.number = number
            data = raw[number] if case.get("buffer") == "bytes" else pieces[number]
            error = fed(parser, data)
            told[number].append(["fed", error])

    parser = make_parser(case, tell)
    running = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for piece in pieces:
        piece.data.append(0)  # raises BufferError if the parser still holds it
    return {"order": order, "told": told}


def memory(_case: dict[str, Any]) -> object:
    """How many blocks of memory are in use."""
    for _ in range(3):
        gc.collect()
    return sys.getallocatedblocks()


def gil(_case: dict[str, Any]) -> object:
    """Whether the GIL is on."""
    return sys._is_gil_enabled()  # type: ignore[attr-defined,unused-ignore]


DEEDS = {"feed": feed, "parse_url": parse_url, "share": share, "memory": memory, "gil": gil}


def main() -> None:
    """Answer each line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in iter(sys.stdin.readline, ""):
        case = json.loads(line)
        signal.alarm(PATIENCE)
        sys.stdout.write(json.dumps(DEEDS[case["do"]](case)) + "\n")
        sys.stdout.flush()
        signal.alarm(0)


if __name__ == "__main__":
    main()
