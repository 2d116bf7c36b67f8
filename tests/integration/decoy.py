"""Two indexes on loopback: ours, which can be taken away or tampered with, and an attacker's."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote, unquote, urlsplit

from freewheel.base import files

# What can be wrong with ours.
GONE = "gone"
WITHHELD = "withheld"  # it wants credentials
CHANGED = "changed"  # other bytes under the same name, and pages that give the digest of those

USER, PASSWORD = "reader", "the-word"
_BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass(slots=True, kw_only=True)
class Indexes:
    """Both, served; ``wrong`` is what is wrong with ours just now.

    ``ours`` is a directory as ``wheels/simple/``. The attacker's index has the wheels that lie in
    ``attacker``.
    """

    ours: Path
    attacker: Path
    port: int = 0
    wrong: str | None = None

    @property
    def ours_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ours/"

    @property
    def attacker_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/attacker/"

    def answer(self, path: str, shown: str) -> tuple[HTTPStatus, bytes]:
        """What is at a path: a page or a file. ``shown`` are credentials as HTTP has them."""
        _, index, *rest = unquote(path).split("/")
        if index == "ours":
            if self.wrong == WITHHELD and shown != _BASIC:
                return HTTPStatus.UNAUTHORIZED, b""
            if self.wrong == GONE:
                return HTTPStatus.NOT_FOUND, b""
            return self._ours(Path(*rest))
        if rest[-1]:
            return _file(self.attacker / rest[-1])
        return HTTPStatus.OK, self._attackers_page(rest[0]).encode()

    def _ours(self, path: Path) -> tuple[HTTPStatus, bytes]:
        place = self.ours / path
        if place.is_dir():
            status, page = _file(place / "index.html")
            if self.wrong == CHANGED:
                # Its core metadata is left out, since its digest would have to be changed too.
                page = re.sub(rb'href="([^"#]+)#sha256=[0-9a-f]{64}"', self._changed_link, page)
                page = re.sub(rb' data-(?:dist-info|core)-metadata="[^"]*"', b"", page)
            return status, page
        status, content = _file(place)
        if self.wrong == CHANGED:
            content = _tampered(content)
        return status, content

    def _changed_link(self, link: re.Match[bytes]) -> bytes:
        found = list(self.ours.rglob(unquote(link[1].decode()).rsplit("/", 1)[-1]))
        return b'href="%s#sha256=%s"' % (link[1], _digest(_tampered(found[0].read_bytes())))

    def _attackers_page(self, project: str) -> str:
        wheels = sorted(self.attacker.glob(f"{project.replace('-', '_')}-*.whl"))
        links = [
            f'<a href="{quote(wheel.name)}#sha256={files.sha256(wheel)}">{wheel.name}</a>'
            for wheel in wheels
        ]
        return f"<!DOCTYPE html><html><body>{' '.join(links)}</body></html>"


@contextmanager
def serve(indexes: Indexes) -> Iterator[Indexes]:
    """Serve both on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.head()
            with suppress(ConnectionError):  # an installer that has seen enough goes away
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.head()

        def head(self) -> bytes:
            path = urlsplit(self.path).path
            shown = self.headers.get("Authorization", "")
            status, content = indexes.answer(path, shown)
            self.send_response(status)
            if status == HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", 'Basic realm="ours"')
            is_page = path.endswith("/")
            self.send_header("Content-Type", "text/html" if is_page else "application/octet-stream")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def log_message(self, *_: object) -> None:
            """Nothing: what an installer saw is in what it says."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    indexes.port = server.server_port
    thread = Thread(target=server.serve_forever, name="indexes")
    thread.start()
    try:
        yield indexes
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _file(path: Path) -> tuple[HTTPStatus, bytes]:
    if path.is_file():
        return HTTPStatus.OK, path.read_bytes()
    return HTTPStatus.NOT_FOUND, b""


def _tampered(wheel: bytes) -> bytes:
    """The same wheel to every reader of archives, with other bytes: a comment at its end."""
    comment = b"changed"
    return wheel[:-2] + len(comment).to_bytes(2, "little") + comment


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
