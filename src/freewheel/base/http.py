"""HTTP with bounds: credentials for one origin, a limit on bytes, and a deadline for the whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from pypi_simple import PyPISimple, UnsupportedRepoVersionError
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from freewheel.base.decoding import ODD_INPUT
from freewheel.base.redaction import without_credentials

# What asking an index and reading its answer may raise, whatever the index is.
ODD_ANSWERS: tuple[type[Exception], ...] = (
    *(requests.RequestException, OSError, UnsupportedRepoVersionError, *ODD_INPUT),
)
TIMEOUT = 60.0  # seconds without a byte
PAGE_LIMIT = 64 << 20  # bytes of a page, or of any answer whose size is not known
_DEADLINE = 900.0  # seconds for all of one request
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user name and a password; the latter is never shown."""

    username: str
    password: str = field(repr=False)


def split_credentials(url: str) -> tuple[str, Credentials | None]:
    """A URL without its user information, and that. Raises ValueError for what is no URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url, None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    return bare, Credentials(username=username, password=password)


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of a URL: what credentials are for."""
    parts = urlsplit(url)
    ports: Mapping[str, int] = {"http": 80, "https": 443}
    return parts.scheme, parts.hostname, parts.port or ports.get(parts.scheme)


class OriginAuth(AuthBase):
    """Credentials for one origin only; a page may link to files on another host."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        self._origin = origin(url)
        self._basic = HTTPBasicAuth(
            credentials.username.encode("utf-8"), credentials.password.encode("utf-8")
        )

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if origin(request.url or "") == self._origin:
            self._basic(request)
        return request


class AnswerError(requests.RequestException):
    """An answer that has more bytes, or takes longer, than it may."""


class _Adapter(HTTPAdapter):
    def send(self, *args: Any, **options: Any) -> requests.Response:  # noqa: ANN401
        answer = super().send(*args, **options)
        if answer.is_redirect:  # its body is not looked at, however long it is
            answer.close()
            answer._content, answer._content_consumed = b"", True  # type: ignore[attr-defined]  # noqa: SLF001
        return answer


class Session(requests.Session):
    """A session whose answers are bounded, and whose own CA bundle counts more than a variable's.

    ``limit`` is how many bytes the next answers may have, and ``deadline`` how many seconds one
    may take in all, redirects included. Answers are read as a whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.limit = PAGE_LIMIT
        self.deadline = _DEADLINE
        self.max_redirects = 10
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def request(self, *args: Any, **options: Any) -> requests.Response:  # noqa: ANN401
        """As of requests. Raises AnswerError beyond the limits."""
        options = {"timeout": TIMEOUT, **options, "stream": True}
        outcome: list[requests.Response | Exception] = []
        expired = threading.Event()

        def work() -> None:
            try:
                answer = super(Session, self).request(*args, **options)
                _read(answer, self.limit, expired)
                outcome.append(answer)
            except Exception as error:  # noqa: BLE001  handed to whoever waits
                outcome.append(error)

        # No timeout of the socket ends an answer that comes a byte at a time; leaving it does.
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(self.deadline)
        if not outcome:
            expired.set()
            raise AnswerError(f"the answer took longer than {self.deadline:.0f} s")
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def merge_environment_settings(
        self,
        url: str | bytes | None,
        proxies: MutableMapping[str, str] | None,
        stream: bool | None,  # noqa: FBT001
        verify: Any,  # noqa: ANN401
        cert: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """As of requests, except the CA bundle."""
        merged = super().merge_environment_settings(url, proxies, stream, verify, cert)
        if isinstance(self.verify, str):
            merged["verify"] = self.verify
        return merged


@contextmanager
def simple_client(
    index: str, certificates: str | None = None
) -> Iterator[tuple[PyPISimple, Session]]:
    """A client of a Simple repository API, and its session; a password leaves the URL at once."""
    bare, credentials = split_credentials(index)
    with Session() as session:
        if credentials:
            session.auth = OriginAuth(bare, credentials)
        if certificates:
            session.verify = certificates
        yield PyPISimple(bare, session=session), session


def said(error: Exception) -> str:
    """Why an answer was of no use, without what may be secret in it."""
    return without_credentials(f"{type(error).__name__}: {error}" if str(error) else repr(error))


def _read(answer: requests.Response, limit: int, expired: threading.Event) -> None:
    content = bytearray()
    for chunk in answer.iter_content(_CHUNK):
        content += chunk
        if len(content) > limit or expired.is_set():
            answer.close()
            raise AnswerError(f"the answer has more than {limit} bytes")
    answer._content = bytes(content)  # noqa: SLF001
