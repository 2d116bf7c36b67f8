"""Requests: a password goes to one origin and is shown nowhere; an answer has limits."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import stamina

from freewheel.base import http
from freewheel.base.errors import FetchError, FreewheelError
from freewheel.build import source
from freewheel.recipe.recipe import Release

SECRET = "s3cret-word"  # noqa: S105  of a server that does not exist
Answer = Callable[[BaseHTTPRequestHandler], None]
RELEASE = Release(
    project="speedy",
    version="1.0",
    sha256="0" * 64,
    released=datetime(2026, 1, 1, tzinfo=UTC),
    revision=1,
    patches=(),
)


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server on loopback, by host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):
                answer(self)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def status(code: int, content: bytes = b"", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: str) -> str:
    """All that a failed fetch says, with everything that led to it."""
    monkeypatch.setattr(
        source, "configured_places", lambda: source.Places(
            indexes=(index,), find_links=(), certificates=None
        )
    )  # fmt: skip
    with stamina.set_testing(True, attempts=1), pytest.raises(FreewheelError) as caught:
        source.fetch(RELEASE, tmp_path / "sources")
    return str(caught.value)


PAGE = '{"meta": {"api-version": "%s"}, "name": "speedy", "files": [%s]}'
FILE = '{"filename": "speedy-1.0.tar.gz", "url": "%s", "hashes": {}}'
JSON = "application/vnd.pypi.simple.v1+json"


@pytest.mark.parametrize("code", [401, 403, 404, 410, 500, 503])
@pytest.mark.parametrize("user", [f"team:{SECRET}", f"{SECRET}", f":{SECRET}", f"a%40b:{SECRET}"])
def test_no_answer_of_an_index_shows_the_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, user: str
) -> None:
    with serving(status(code)) as place:
        assert SECRET not in refusal(monkeypatch, tmp_path, f"http://{user}@{place}/simple/")


@pytest.mark.parametrize("code", [403, 404, 500])
def test_no_answer_for_the_file_shows_the_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        page = (PAGE % ("1.4", FILE % "/speedy-1.0.tar.gz")).encode()
        wanted = handler.path.endswith(".gz")
        (status(code) if wanted else status(200, page, Content_Type=JSON))(handler)

    with serving(answer) as place:
        said = refusal(monkeypatch, tmp_path, f"http://team:{SECRET}@{place}/simple/")

    assert SECRET not in said
    assert str(code) in said or "not" in said


def test_a_password_stays_with_its_origin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {"index": [], "other": []}

    def other(handler: BaseHTTPRequestHandler) -> None:
        seen["other"].append(handler.headers.get("Authorization", ""))
        status(200, b"x")(handler)

    with serving(other) as elsewhere:

        def index(handler: BaseHTTPRequestHandler) -> None:
            seen["index"].append(handler.headers.get("Authorization", ""))
            page = (PAGE % ("1.4", FILE % f"http://{elsewhere}/speedy-1.0.tar.gz")).encode()
            status(200, page, Content_Type=JSON)(handler)

        with serving(index) as place:
            refusal(monkeypatch, tmp_path, f"http://te%20am:{SECRET}@{place}/simple/")

    expected = base64.b64encode(f"te am:{SECRET}".encode()).decode()
    assert seen == {"index": [f"Basic {expected}"], "other": [""]}


@pytest.mark.parametrize(
    "page",
    [
        PAGE % ("2.0", ""),
        PAGE % ("1.4", FILE % "http://[::1/x"),
        "[" * 200_000,
        "{}",
        "[]",
        '{"meta": 1}',
        PAGE.replace("[%s]", "null") % "1.4",
        PAGE[:40] % "1.4",
        "<html>",
        "\x00",
    ],
    ids=lambda page: ascii(page[:24]),
)
def test_an_odd_page_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, page: str) -> None:
    with serving(status(200, page.encode(), Content_Type=JSON)) as place:
        assert place.split(":")[0] in refusal(monkeypatch, tmp_path, f"http://{place}/simple/")


def dripping(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def dripping_headers(handler: BaseHTTPRequestHandler) -> None:
    for char in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 100:
        handler.wfile.write(bytes([char]))
        handler.wfile.flush()
        time.sleep(0.05)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(400):
        handler.wfile.write(bytes(1 << 20))


def in_circles(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/again")
    handler.end_headers()
    handler.wfile.write(bytes(1 << 20))


@pytest.mark.parametrize("answer", [dripping, dripping_headers, endless, in_circles])
def test_an_answer_without_an_end_ends(answer: Answer) -> None:
    started = time.monotonic()
    with serving(answer) as place, http.Session() as session:
        session.deadline, session.limit = 1.0, 1 << 20
        with pytest.raises(Exception, match=r"longer than|more than|redirects"):
            session.get(f"http://{place}/")
        assert time.monotonic() - started < 4


def test_a_file_may_be_as_long_as_the_page_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        entry = FILE % "/speedy-1.0.tar.gz"
        page = (PAGE % ("1.4", entry[:-1] + ', "size": 100}')).encode()
        wanted = handler.path.endswith(".gz")
        (endless if wanted else status(200, page, Content_Type=JSON))(handler)

    with serving(answer) as place:
        assert "more than 100 bytes" in refusal(monkeypatch, tmp_path, f"http://{place}/simple/")


def test_a_full_disk_is_not_the_fault_of_the_archive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_source: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr(source, "unpack_tar", full)
    with pytest.raises(OSError, match="No space left"):
        source.unpack(source.SourceArchive(path=tmp_path, release=RELEASE), tmp_path)
    assert not issubclass(OSError, FetchError)
