"""The static index of a release: what was served stays, the release is added, marks are anew."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import stamina

from freewheel.base.errors import PackageIndexError
from freewheel.build import buildinfo, index
from freewheel.release import site
from tests.unit.wheelmaker import as_certified, make_wheel

NONE = site.Marks(wheels={})
URL: list[str] = []  # of the server that runs


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """An index with one wheel, served by a web server that knows nothing of packages."""
    directory = tmp_path / "served"
    wheel = as_certified(make_wheel(tmp_path / "old", "speedy", "1.0+ft.1"))
    index.add(directory, wheel)
    wheel.path.with_name(wheel.path.name + buildinfo.SUFFIX).write_text("{}")
    index.attach(directory, "speedy", wheel.path, buildinfo.SUFFIX)

    with serving(directory):
        yield directory


@contextmanager
def serving(directory: Path) -> Iterator[None]:
    """A web server that knows nothing of packages, at URL."""
    handler = partial(Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        URL[:] = [f"http://127.0.0.1:{server.server_address[1]}/"]
        yield
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Without a line for each request."""

    def log_message(self, *_arguments: object) -> None:
        pass


def test_what_is_served_stays_and_the_release_is_added(tmp_path: Path, served: Path) -> None:
    new = as_certified(make_wheel(tmp_path / "new", "speedy", "1.0+ft.2"))

    added = site.assemble([new], tmp_path / "site", earlier=URL[0], marks=NONE)

    assert added == [new.path.name]
    before = json.loads((served / "speedy" / "index.json").read_text())["files"]
    after = json.loads((tmp_path / "site" / "speedy" / "index.json").read_text())["files"]
    assert after[0] == before[0]  # the time of its upload, too
    assert [entry["filename"] for entry in after] == [before[0]["filename"], new.path.name]
    beside = before[0]["filename"] + buildinfo.SUFFIX
    assert (tmp_path / "site" / "speedy" / beside).is_file()


def test_an_index_begins(tmp_path: Path) -> None:
    new = as_certified(make_wheel(tmp_path / "new", "speedy", "1.0+ft.2"))

    site.assemble([new], tmp_path / "site", earlier="", marks=NONE)

    assert index.check(tmp_path / "site") == []


def test_other_bytes_under_a_served_name_are_refused(tmp_path: Path, served: Path) -> None:
    assert served.is_dir()
    members = {"speedy/__init__.py": "other"}
    new = as_certified(make_wheel(tmp_path / "new", "speedy", "1.0+ft.1", members=members))

    with pytest.raises(PackageIndexError, match="with other bytes"):
        site.assemble([new], tmp_path / "site", earlier=URL[0], marks=NONE)


def test_a_wheel_that_changed_where_it_is_served_is_refused(tmp_path: Path, served: Path) -> None:
    (wheel,) = served.glob("speedy/*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"x")

    with pytest.raises(PackageIndexError, match="does not have the digest"):
        site.assemble([], tmp_path / "site", earlier=URL[0], marks=NONE)


def test_a_wheel_that_was_lost_is_not_lost_in_silence(tmp_path: Path, served: Path) -> None:
    (wheel,) = served.glob("speedy/*.whl")
    wheel.unlink()

    with pytest.raises(PackageIndexError, match="is listed, but is not there"):
        site.assemble([], tmp_path / "site", earlier=URL[0], marks=NONE)


def test_no_index_where_one_was_named(tmp_path: Path, served: Path) -> None:
    (served / "index.json").unlink()

    with pytest.raises(PackageIndexError, match="serves no index"):
        site.assemble([], tmp_path / "site", earlier=URL[0], marks=NONE)


def test_marks_follow_the_list(tmp_path: Path, served: Path) -> None:
    (wheel,) = served.glob("speedy/*.whl")

    def marks(yanked: dict[str, str], earlier: str) -> list[object]:
        site.assemble([], tmp_path / "site", earlier=earlier, marks=site.Marks(wheels=yanked))
        page = json.loads((tmp_path / "site" / "speedy" / "index.json").read_text())
        return [entry["yanked"] for entry in page["files"]]

    assert marks({wheel.name: "it leaks"}, URL[0]) == ["it leaks"]
    served.rename(tmp_path / "before")
    (tmp_path / "site").rename(served)
    assert marks({}, str(served)) == [False]
    with pytest.raises(PackageIndexError, match="is not in the index"):
        marks({"speedy-9+ft.1-py3-none-any.whl": "a typing error"}, str(served))


def test_the_list_of_marks(tmp_path: Path) -> None:
    assert isinstance(site.read_marks(), site.Marks)
    for text in ("wheels = 1", '[wheels]\n"x" = ""', "[other]", "nonsense"):
        (tmp_path / "yanked.toml").write_text(text)
        with pytest.raises(PackageIndexError, match="cannot be read"):
            site.read_marks(tmp_path / "yanked.toml")


# -------------------------------------------------------------------- an index that was taken over


def change(path: Path, work: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(work(content) or content))


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


NAMES = ("../../escaped", "/freewheel-escaped", "Speedy", "speedy/../x", "..", "", "a\nb", None)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_project_name_that_leads_elsewhere(tmp_path: Path, served: Path, name: str) -> None:
    change(served / "index.json", lambda page: page.update(projects=[{"name": name}]))
    before = snapshot(tmp_path)

    with pytest.raises(PackageIndexError, match="do not deploy"):
        site.assemble([], tmp_path / "deep" / "site", earlier=URL[0], marks=NONE)

    assert snapshot(tmp_path) == before
    assert not Path("/freewheel-escaped").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../x-1-py3-none-any.whl",
        "/etc/x-1-py3-none-any.whl",
        "other-1.0-py3-none-any.whl",
        "speedy-1.0+ft.1-py3-none-../../x.whl",
        "speedy-1.0.tar.gz",
        7,
    ],
)
def test_a_file_name_that_leads_elsewhere(tmp_path: Path, served: Path, name: object) -> None:
    change(
        served / "speedy" / "index.json",
        lambda page: page.update(files=[{**page["files"][0], "filename": name}]),  # type: ignore[index]
    )
    before = snapshot(tmp_path)

    with pytest.raises(PackageIndexError, match="do not deploy"):
        site.assemble([], tmp_path / "deep" / "site", earlier=URL[0], marks=NONE)

    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [
        *(b"<html>", b"[]", b"{}", b'{"projects": 1}', b'{"projects": [{}]}'),
        *(b"[" * 100_000, b'{"projects"', b"\xff", b'{"projects": NaN}'),
    ],
    ids=lambda content: ascii(content[:20]),
)
@pytest.mark.parametrize("page", ["index.json", "speedy/index.json"])
def test_a_page_that_is_none(tmp_path: Path, served: Path, page: str, content: bytes) -> None:
    (served / page).write_bytes(content)

    with pytest.raises(PackageIndexError, match="no page of this index"):
        site.assemble([], tmp_path / "site", earlier=URL[0], marks=NONE)

    assert not (tmp_path / "site").exists()


def test_a_refusal_leaves_the_site_as_it_was(tmp_path: Path, served: Path) -> None:
    site.assemble([], tmp_path / "site", earlier=URL[0], marks=NONE)
    before = snapshot(tmp_path / "site")
    (served / "index.json").write_text("{}")

    with pytest.raises(PackageIndexError):
        site.assemble([], tmp_path / "site", earlier=URL[0], marks=NONE)

    assert snapshot(tmp_path / "site") == before
    assert [p.name for p in tmp_path.iterdir() if "new" in p.name] == []


def test_a_page_that_links_elsewhere_is_not_followed(tmp_path: Path, served: Path) -> None:
    change(
        served / "speedy" / "index.json",
        lambda page: page["files"][0].update(url="http://127.0.0.1:9/other.whl"),  # type: ignore[index]
    )

    site.assemble([], tmp_path / "site", earlier=URL[0], marks=NONE)

    assert len(list((tmp_path / "site").glob("speedy/*.whl"))) == 1


def test_a_retired_project_is_marked(tmp_path: Path, served: Path) -> None:
    mark = site.ProjectMark(status="deprecated", reason="upstream <has> it")

    def page(marks: site.Marks) -> dict[str, object]:
        site.assemble([], tmp_path / "site", earlier=URL[0], marks=marks)
        return dict(json.loads((tmp_path / "site" / "speedy" / "index.json").read_text()))

    found = page(site.Marks(wheels={}, projects={"speedy": mark}))

    assert found["project-status"] == {"status": "deprecated", "reason": "upstream <has> it"}
    html = (tmp_path / "site" / "speedy" / "index.html").read_text()
    assert '<meta name="pypi:project-status" content="deprecated">' in html
    assert page(NONE)["project-status"] == {"status": "active"}
    assert served.is_dir()
