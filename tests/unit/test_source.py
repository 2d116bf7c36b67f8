"""Fetching: real HTTP on loopback; what does not match its digest never reaches a reader."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from freewheel.base.errors import FetchError
from freewheel.build.source import (
    SourceArchive,
    configured_places,
    fetch,
    parse_pip_settings,
    unpack,
)
from freewheel.recipe.recipe import Release


def archive(*members: tarfile.TarInfo) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return raw.getvalue()


def file(name: str, *, mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = 1
    member.mode = mode
    return member


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.SYMTYPE
    member.linkname = target
    return member


SDIST = archive(file("speedy-1.0/setup.py"))


def release(content: bytes = SDIST) -> Release:
    return Release(
        project="speedy",
        version="1.0",
        sha256=hashlib.sha256(content).hexdigest(),
        released=datetime(2026, 1, 1, tzinfo=UTC),
        revision=1,
        patches=(),
    )


class Index:
    """A small Simple index whose failures a test chooses."""

    def __init__(self) -> None:
        self.content = SDIST
        self.failures: list[int] = []  # status codes of the next answers
        self.requests: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.requests.append(self.path)
                if index.failures:
                    self.send_error(index.failures.pop(0))
                elif self.path == "/simple/speedy/":
                    self.answer(b'<a href="/files/speedy-1.0.tar.gz">speedy-1.0.tar.gz</a>', "html")
                elif self.path == "/files/speedy-1.0.tar.gz":
                    self.answer(index.content, "octet-stream")
                else:
                    self.send_error(404)

            def answer(self, content: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header(
                    "Content-Type", "text/html" if kind == "html" else "binary/" + kind
                )
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple/"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    served = Index()
    thread = threading.Thread(target=served.server.serve_forever)
    thread.start()
    only(monkeypatch, served.url)
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


def only(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Make ``url`` the one place that pip and uv are configured with."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", url)


def test_the_sdist_is_fetched_once_and_kept(tmp_path: Path, index: Index) -> None:
    first = fetch(release(), tmp_path)
    asked = len(index.requests)
    second = fetch(release(), tmp_path)

    assert first == second
    assert first.path.read_bytes() == SDIST
    assert len(index.requests) == asked


def test_another_digest_deletes_the_download_and_says_both(tmp_path: Path, index: Index) -> None:
    index.content = b"not what was asked for"

    with pytest.raises(FetchError) as caught:
        fetch(release(), tmp_path)

    message = str(caught.value)
    assert hashlib.sha256(SDIST).hexdigest() in message
    assert hashlib.sha256(index.content).hexdigest() in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.usefixtures("index")
def test_a_kept_archive_that_was_changed_is_fetched_again(tmp_path: Path) -> None:
    kept = fetch(release(), tmp_path)
    kept.path.write_bytes(b"damaged")

    assert fetch(release(), tmp_path).path.read_bytes() == SDIST


def test_passing_trouble_is_tried_again(tmp_path: Path, index: Index) -> None:
    index.failures = [503, 502]

    assert fetch(release(), tmp_path).path.read_bytes() == SDIST


def test_lasting_trouble_ends(tmp_path: Path, index: Index) -> None:
    index.failures = [503] * 50

    with pytest.raises(FetchError, match="503"):
        fetch(release(), tmp_path)

    assert len(index.failures) > 40


def test_a_refusal_is_not_tried_again(tmp_path: Path, index: Index) -> None:
    index.failures = [403] * 50

    with pytest.raises(FetchError, match="403"):
        fetch(release(), tmp_path)

    assert len(index.failures) == 49


def test_a_release_that_the_index_does_not_have(tmp_path: Path, index: Index) -> None:
    index.failures = [404]

    with pytest.raises(FetchError, match="does not have it"):
        fetch(release(), tmp_path)


def test_a_mirror_kept_as_files_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror" / "speedy"
    mirror.mkdir(parents=True)
    (mirror / "speedy-1.0.tar.gz").write_bytes(SDIST)
    only(monkeypatch, (tmp_path / "mirror").as_uri())

    assert fetch(release(), tmp_path / "kept").path.read_bytes() == SDIST


def test_credentials_of_an_index_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "http://someone:secret@127.0.0.1:9/simple/")

    with pytest.raises(FetchError) as caught:
        fetch(release(), tmp_path)

    assert "127.0.0.1:9" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_uv_comes_before_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "http://127.0.0.1:1/pip/")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/uv/")

    assert configured_places().indexes == ("http://127.0.0.1:1/uv/", "http://127.0.0.1:1/pip/")


def test_pip_settings_are_read_as_pip_ranks_them() -> None:
    listed = (
        ":env:.index-url='https://env.example/simple'\n"
        "global.index-url='https://global.example/simple'\n"
        "install.find-links='/a\\n/b'\n"
        "freeze.timeout='10'\n"
    )

    assert parse_pip_settings(listed) == {
        "index-url": ["https://env.example/simple", "https://global.example/simple"],
        "find-links": ["/a\n/b"],
    }


def unpacked(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "speedy-1.0.tar.gz"
    path.write_bytes(content)
    target = tmp_path / "tree"
    target.mkdir()
    return unpack(SourceArchive(path=path, release=release(content)), target)


def test_the_tree_of_an_archive_has_plain_modes(tmp_path: Path) -> None:
    tree = unpacked(
        tmp_path,
        archive(file("speedy-1.0/setup.py", mode=0o600), file("speedy-1.0/run", mode=0o770)),
    )

    assert tree.name == "speedy-1.0"
    assert (tree / "setup.py").stat().st_mode & 0o777 == 0o644
    assert (tree / "run").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "member",
    [
        file("../escaped"),
        file("speedy-1.0/../../escaped"),
        link("speedy-1.0/link", "/etc/passwd"),
        link("speedy-1.0/link", "../../escaped"),
    ],
    ids=["parent", "through the tree", "absolute link", "link to the parent"],
)
def test_a_member_that_would_land_outside_is_refused(
    tmp_path: Path, member: tarfile.TarInfo
) -> None:
    with pytest.raises(FetchError, match="cannot be unpacked"):
        unpacked(tmp_path, archive(file("speedy-1.0/setup.py"), member))

    assert not (tmp_path / "escaped").exists()


def test_an_absolute_member_stays_inside_or_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError):
        unpacked(tmp_path, archive(file("speedy-1.0/setup.py"), file("/freewheel-escaped")))

    assert not Path("/freewheel-escaped").exists()


def test_an_archive_with_two_roots_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="2 things at its top"):
        unpacked(tmp_path, archive(file("speedy-1.0/setup.py"), file("other/setup.py")))


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="cannot be unpacked"):
        unpacked(tmp_path, SDIST[: len(SDIST) // 2])
