"""Publishing: what is refused before anything leaves, what is compared after, where it goes.

The index is a directory served by a fake HTTP adapter, and twine is a function that adds to it.
"""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import requests
import stamina
from requests.adapters import BaseAdapter
from twine import utils as twine_utils

from freewheel.base import process
from freewheel.base.errors import CommandFailed, PublishError
from freewheel.base.http import Credentials
from freewheel.base.workspace import Workspace
from freewheel.build import index
from freewheel.proof import certificate
from freewheel.proof.certificate import CertifiedWheel
from freewheel.publish import upload
from freewheel.publish.destination import INDEX_URL, Destination, resolve_destination
from tests.unit.wheelmaker import as_certified, make_wheel

_BASE = "https://index.example/team/"
_SECRET = "s3cret-word"  # noqa: S105  a password of a server that does not exist
_KEYS = Credentials(username="team", password=_SECRET)


class _FakeIndex(BaseAdapter):
    """Serves the static index in ``directory``; ``page`` is the serialization it knows."""

    def __init__(self, directory: Path, page: str) -> None:
        super().__init__()
        self.directory, self.page = directory, page
        self.requests: list[requests.PreparedRequest] = []
        self.uploads: list[tuple[list[str], Mapping[str, str | None]]] = []
        self.hidden = 0  # so many requests do not see the last upload yet
        self.refusal = ""  # what twine prints when the index refuses
        self.replacement: Callable[[Path], None] | None = None  # what befalls an uploaded file
        self.headers: dict[str, str] = {}

    def send(
        self, request: requests.PreparedRequest, *_: object, **__: object
    ) -> requests.Response:
        self.requests.append(request)
        response = requests.Response()
        response.url, response.request = request.url or "", request
        response.headers.update(self.headers)
        path = self.directory / unquote(urlsplit(response.url).path).removeprefix("/team/simple/")
        path = path / self.page if path.is_dir() or response.url.endswith("/") else path
        if path.is_file() and not self._hides(path):
            response.status_code = 200
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            json = "application/vnd.pypi.simple.v1+json"
            response.headers["Content-Type"] = json if path.name == "index.json" else kind
            response.raw = io.BytesIO(path.read_bytes())
        else:
            response.status_code, response.raw = 404, io.BytesIO()
        return response

    def close(self) -> None:
        pass

    def run(
        self, argv: list[str | Path], *, env: Mapping[str, str | None], timeout: float
    ) -> process.Finished:
        words = [str(word) for word in argv]
        assert timeout > 0
        self.uploads.append((words, env))
        if self.refusal:
            raise CommandFailed(words, 1, self.refusal)
        added = index.add(self.directory, as_certified(Path(words[-1])))
        if self.replacement:
            self.replacement(added.path)
        return process.Finished(argv=tuple(words), returncode=0, stdout="", stderr="", seconds=0)

    def _hides(self, path: Path) -> bool:
        if self.uploads and self.hidden and path.parent != self.directory:
            self.hidden -= 1
            return True
        return False


@pytest.fixture(params=["index.json", "index.html"])
def fake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> _FakeIndex:
    fake = _FakeIndex(tmp_path / "simple", request.param)
    index.add(fake.directory, as_certified(make_wheel(tmp_path / "old", "other", "9.0+ft.1")))
    monkeypatch.setattr(requests.Session, "get_adapter", lambda *_, **__: fake)
    monkeypatch.setattr(process, "run", fake.run)
    return fake


@pytest.fixture(autouse=True)
def _quick_retries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    for name in ("REPOSITORY_URL", "REPOSITORY", "USERNAME", "PASSWORD", "CERT"):
        monkeypatch.delenv(f"TWINE_{name}", raising=False)
    monkeypatch.delenv(INDEX_URL, raising=False)


@pytest.fixture
def destination() -> Destination:
    return Destination(
        upload_url=_BASE, simple_url=_BASE + "simple/", credentials=_KEYS, reading=_KEYS
    )


@pytest.fixture
def wheel(tmp_path: Path) -> CertifiedWheel:
    return as_certified(make_wheel(tmp_path / "built", "demo", "1.0+ft.1"))


# ---------------------------------------------------------------------------------- going well


def test_uploads_and_reads_back(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    (published,) = upload.publish([wheel], destination)
    assert published.uploaded
    assert published.wheel == wheel
    assert published.url.endswith("/demo/demo-1.0%2Bft.1-cp314-cp314t-manylinux_2_17_x86_64.whl")
    (words, environment) = fake.uploads[0]
    assert words[-1] == str(wheel.path)
    assert _SECRET not in " ".join(words)
    assert environment["TWINE_PASSWORD"] == _SECRET
    fetched = [unquote(request.url or "") for request in fake.requests]
    assert any(url.endswith(".whl") for url in fetched)
    assert any(url.endswith(".whl.metadata") for url in fetched)


def test_the_same_bytes_again_are_a_success_without_an_upload(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    upload.publish([wheel], destination)
    (published,) = upload.publish([wheel], destination)
    assert not published.uploaded
    assert len(fake.uploads) == 1


def test_waits_for_an_index_that_is_slow_to_show(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    fake.hidden = 2
    assert upload.publish([wheel], destination)[0].uploaded


# ------------------------------------------------------------------- refused before it leaves


def _refused(
    fake: _FakeIndex, wheels: list[CertifiedWheel], destination: Destination
) -> PublishError:
    with pytest.raises(PublishError) as caught:
        upload.publish(wheels, destination)
    assert not fake.uploads
    return caught.value


@pytest.mark.parametrize(
    ("version", "metadata", "problem"),
    [
        ("1.0", {}, "a baseline is not published"),
        ("1.0+local.1", {}, "is no patched version"),
        ("1.0+ft.0", {}, "is no patched version"),
        ("1.0+ft.1", {"Name": "evil"}, "METADATA names the project evil"),
        ("1.0+ft.1", {"Version": "1.0+ft.2"}, "METADATA says version 1.0+ft.2"),
        ("1.0+ft.1", {"Version": None}, "METADATA says version nothing"),
    ],
)
def test_a_wheel_that_is_wrong_by_itself(
    tmp_path: Path, version: str, metadata: dict[str, str | None], problem: str
) -> None:
    bad = as_certified(make_wheel(tmp_path / "bad", "demo", version, metadata=metadata))
    good = as_certified(make_wheel(tmp_path / "good", "fine", "1.0+ft.1"))
    nowhere = Destination(upload_url="", simple_url="", credentials=None, reading=None)
    # Without the fake index, a request or a child process would be an error of another kind.
    with pytest.raises(PublishError, match="nothing was uploaded") as caught:
        upload.publish([good, bad], nowhere)
    assert problem in str(caught.value)
    assert caught.value.hint


def test_a_file_name_of_another_project(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    error = _refused(fake, [replace(wheel, project="fine", seal=certificate._SEAL)], destination)
    assert "the file name says demo 1.0+ft.1, not fine" in str(error)


def test_a_wheel_that_changed_after_its_checks(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    wheel.path.write_bytes(b"other")
    assert "is not the file that was verified" in str(_refused(fake, [wheel], destination))


def test_other_bytes_on_the_index(
    fake: _FakeIndex, wheel: CertifiedWheel, tmp_path: Path, destination: Destination
) -> None:
    members = {"demo/__init__.py": "", "demo/more.py": ""}
    old = make_wheel(tmp_path / "a", "demo", "1.0+ft.1", members=members)
    index.add(fake.directory, as_certified(old))
    good = as_certified(make_wheel(tmp_path / "good", "fine", "1.0+ft.1"))
    error = _refused(fake, [good, wheel], destination)
    assert "the index has it with other bytes" in error.problems[0]
    assert "removed: demo/more.py" in error.problems
    assert "`revision`" in error.hint


@pytest.mark.parametrize(
    ("name", "version"), [("Demo_Pkg", "1.0+ft.1"), ("demo_pkg", "1.0.0+ft.2")]
)
def test_twins_of_what_the_index_has(
    fake: _FakeIndex, tmp_path: Path, destination: Destination, name: str, version: str
) -> None:
    for number in (1, 2):
        there = make_wheel(tmp_path / "a", "demo_pkg", f"1.0+ft.{number}")
        index.add(fake.directory, as_certified(there))
    twin = as_certified(make_wheel(tmp_path / "b", name, version))
    assert "only in case or spelling" in str(_refused(fake, [twin], destination))


def test_twins_in_one_go(fake: _FakeIndex, tmp_path: Path, destination: Destination) -> None:
    twins = [as_certified(make_wheel(tmp_path, name, "1.0+ft.1")) for name in ("a_b", "A_b")]
    assert "only in case or spelling" in str(_refused(fake, twins, destination))


def test_no_index_at_that_url(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    fake.directory = fake.directory / "nowhere"
    error = _refused(fake, [wheel], destination)
    assert "answered with status 404" in str(error)
    assert INDEX_URL in error.hint


# --------------------------------------------------------------------------- refused afterwards


def test_what_came_back_is_something_else(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    def spoil(path: Path) -> None:
        path.unlink()  # a hard link: the bytes are the uploaded file's too
        path.write_bytes(b"evil")

    fake.replacement = spoil
    with pytest.raises(PublishError, match="not what was sent") as caught:
        upload.publish([wheel], destination)
    assert "SHA-256 of the download" in str(caught.value)


def test_metadata_that_came_back_is_something_else(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    def forge(path: Path) -> None:
        path.with_name(path.name + ".metadata").write_text("Name: evil\n", encoding="utf-8")

    fake.replacement = forge
    with pytest.raises(PublishError) as caught:
        upload.publish([wheel], destination)
    assert "the core metadata file beside it" in str(caught.value)


def test_an_index_that_never_shows_the_file(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    fake.hidden = 1000
    with pytest.raises(PublishError, match="does not list it") as caught:
        upload.publish([wheel], destination)
    assert "run the same command again" in caught.value.hint


def test_a_refusal_is_shown_without_the_password(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    fake.refusal = f"ERROR HTTPError: 403 Forbidden from {_BASE}\nsent {_SECRET}\n"
    with pytest.raises(PublishError, match="status 403") as caught:
        upload.publish([wheel], destination)
    assert "may upload" in caught.value.hint
    assert "sent ********" in caught.value.output
    assert _SECRET not in str(caught.value) + caught.value.output + repr(destination)


# -------------------------------------------------------------------------------- credentials


def test_credentials_go_to_their_own_origin_only(
    fake: _FakeIndex, wheel: CertifiedWheel, destination: Destination
) -> None:
    upload.publish([wheel], destination)
    assert all("Authorization" in request.headers for request in fake.requests)
    fake.requests.clear()
    page = fake.directory / "demo" / fake.page
    page.write_bytes(
        page.read_bytes().replace(
            b'"demo-1.0%2B', b'"https://files.example/team/simple/demo/demo-1.0%2B'
        )
    )
    upload.publish([wheel], destination)
    foreign = [request for request in fake.requests if "files.example" in (request.url or "")]
    assert foreign
    assert not any("Authorization" in request.headers for request in foreign)


def _workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")


@pytest.mark.parametrize(
    "settings",
    [
        {"TWINE_REPOSITORY_URL": twine_utils.DEFAULT_REPOSITORY},
        {"TWINE_REPOSITORY_URL": twine_utils.TEST_REPOSITORY},
        {"TWINE_REPOSITORY_URL": twine_utils.DEFAULT_REPOSITORY.replace("/legacy", "./legacy")},
        {"TWINE_REPOSITORY_URL": twine_utils.DEFAULT_REPOSITORY.replace("/legacy", ".:443/legacy")},
        {"TWINE_REPOSITORY_URL": twine_utils.DEFAULT_REPOSITORY.upper().replace("HTTPS", "https")},
        {"TWINE_REPOSITORY": "pypi"},
        {"TWINE_REPOSITORY": "testpypi"},
        {"TWINE_USERNAME": "me", "TWINE_PASSWORD": _SECRET},
    ],
)
def test_never_to_the_public_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PublishError, match="is the public package index") as caught:
        resolve_destination(_workspace(tmp_path))
    assert next(iter(settings)) in str(caught.value)
    assert _SECRET not in str(caught.value)


def test_nothing_set_and_no_server(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="no repository is named") as caught:
        resolve_destination(_workspace(tmp_path))
    assert "nox -s serve" in caught.value.hint


def test_credentials_withheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINE_REPOSITORY_URL", _BASE)
    monkeypatch.setenv("TWINE_USERNAME", "team")
    with pytest.raises(PublishError, match="there are no credentials for") as caught:
        resolve_destination(_workspace(tmp_path))
    assert "password" in caught.value.problems[0]
    assert "TWINE_PASSWORD" in caught.value.hint


def test_settings_of_pypirc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".pypirc").write_text(
        "[distutils]\nindex-servers = team\n"
        f"[team]\nrepository = {_BASE}\nusername = team\npassword = {_SECRET}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("TWINE_REPOSITORY", "team")
    monkeypatch.setenv(INDEX_URL, _BASE + "simple/")
    found = resolve_destination(_workspace(tmp_path))
    assert found.upload_url == _BASE
    assert found.credentials == _KEYS
    assert found.reading == _KEYS


def test_no_url_keeps_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINE_REPOSITORY_URL", f"https://team:{_SECRET}@index.example/team/")
    monkeypatch.setenv(INDEX_URL, "https://reader:word@read.example/simple/")
    found = resolve_destination(_workspace(tmp_path))
    assert found.upload_url == _BASE
    assert found.simple_url == "https://read.example/simple/"
    assert found.credentials == _KEYS
    assert found.reading == Credentials(username="reader", password="word")  # noqa: S106
    assert _SECRET not in repr(found)


def test_another_host_gets_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINE_REPOSITORY_URL", f"https://team:{_SECRET}@index.example/team/")
    monkeypatch.setenv(INDEX_URL, "https://read.example/simple/")
    assert resolve_destination(_workspace(tmp_path)).reading is None


def test_the_index_url_of_devpi_is_known(
    fake: _FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINE_REPOSITORY_URL", f"https://team:{_SECRET}@index.example/team/")
    with pytest.raises(PublishError, match="is not known") as caught:
        resolve_destination(_workspace(tmp_path))
    assert INDEX_URL in caught.value.hint
    fake.headers["X-Devpi-Server-Version"] = "6.20.3"
    assert resolve_destination(_workspace(tmp_path)).simple_url == _BASE + "+simple/"
