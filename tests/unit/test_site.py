"""The static index of a release: what was served stays, the release is added, marks are anew."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import requests
import stamina

from freewheel.base.errors import PackageIndexError
from freewheel.build import buildinfo, index
from freewheel.release import site
from tests.unit.wheelmaker import as_certified, make_wheel

URL = "https://pages.example/patched/"


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index with one wheel, served by a web server that knows nothing of packages."""
    directory = tmp_path / "served"
    wheel = as_certified(make_wheel(tmp_path / "old", "speedy", "1.0+ft.1"))
    index.add(directory, wheel)
    wheel.path.with_name(wheel.path.name + buildinfo.SUFFIX).write_text("{}")
    index.attach(directory, "speedy", wheel.path, buildinfo.SUFFIX)

    def get(_session: requests.Session, url: str, *, timeout: float) -> requests.Response:
        assert timeout > 0
        path = directory / unquote(urlsplit(url).path).removeprefix("/patched/")
        response = requests.Response()
        response.url, response.status_code = url, 200 if path.is_file() else 404
        response.raw = io.BytesIO(path.read_bytes() if path.is_file() else b"")
        return response

    monkeypatch.setattr(requests.Session, "get", get)
    return directory


def test_what_is_served_stays_and_the_release_is_added(tmp_path: Path, served: Path) -> None:
    new = as_certified(make_wheel(tmp_path / "new", "speedy", "1.0+ft.2"))

    added = site.assemble([new], tmp_path / "site", earlier=URL, yanked={})

    assert added == [new.path.name]
    before = json.loads((served / "speedy" / "index.json").read_text())["files"]
    after = json.loads((tmp_path / "site" / "speedy" / "index.json").read_text())["files"]
    assert after[0] == before[0]  # the time of its upload, too
    assert [entry["filename"] for entry in after] == [before[0]["filename"], new.path.name]
    beside = before[0]["filename"] + buildinfo.SUFFIX
    assert (tmp_path / "site" / "speedy" / beside).is_file()


def test_an_index_begins(tmp_path: Path) -> None:
    new = as_certified(make_wheel(tmp_path / "new", "speedy", "1.0+ft.2"))

    site.assemble([new], tmp_path / "site", earlier="", yanked={})

    assert index.check(tmp_path / "site") == []


def test_other_bytes_under_a_served_name_are_refused(tmp_path: Path, served: Path) -> None:
    assert served.is_dir()
    members = {"speedy/__init__.py": "other"}
    new = as_certified(make_wheel(tmp_path / "new", "speedy", "1.0+ft.1", members=members))

    with pytest.raises(PackageIndexError, match="with other bytes"):
        site.assemble([new], tmp_path / "site", earlier=URL, yanked={})


def test_a_wheel_that_changed_where_it_is_served_is_refused(tmp_path: Path, served: Path) -> None:
    (wheel,) = served.glob("speedy/*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"x")

    with pytest.raises(PackageIndexError, match="has not the digest"):
        site.assemble([], tmp_path / "site", earlier=URL, yanked={})


def test_a_wheel_that_was_lost_is_not_lost_in_silence(tmp_path: Path, served: Path) -> None:
    (wheel,) = served.glob("speedy/*.whl")
    wheel.unlink()

    with pytest.raises(PackageIndexError, match="is listed, but is not there"):
        site.assemble([], tmp_path / "site", earlier=URL, yanked={})


def test_no_index_where_one_was_named(tmp_path: Path, served: Path) -> None:
    (served / "index.json").unlink()

    with pytest.raises(PackageIndexError, match="serves no index"):
        site.assemble([], tmp_path / "site", earlier=URL, yanked={})


def test_marks_follow_the_list(tmp_path: Path, served: Path) -> None:
    (wheel,) = served.glob("speedy/*.whl")

    def marks(yanked: dict[str, str], earlier: str) -> list[object]:
        site.assemble([], tmp_path / "site", earlier=earlier, yanked=yanked)
        page = json.loads((tmp_path / "site" / "speedy" / "index.json").read_text())
        return [entry["yanked"] for entry in page["files"]]

    assert marks({wheel.name: "it leaks"}, URL) == ["it leaks"]
    served.rename(tmp_path / "before")
    (tmp_path / "site").rename(served)
    assert marks({}, str(served)) == [False]
    with pytest.raises(PackageIndexError, match="is not in the index"):
        marks({"speedy-9+ft.1-py3-none-any.whl": "a typing error"}, str(served))


def test_the_list_of_marks(tmp_path: Path) -> None:
    assert isinstance(site.read_yanked(), dict)
    for text in ("wheels = 1", '[wheels]\n"x" = ""', "[other]", "nonsense"):
        (tmp_path / "yanked.toml").write_text(text)
        with pytest.raises(PackageIndexError, match="cannot be read"):
            site.read_yanked(tmp_path / "yanked.toml")
