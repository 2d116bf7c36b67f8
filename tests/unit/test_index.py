"""The static index: what it writes, what it refuses, and that no kill leaves it half-written."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from datetime import datetime, tzinfo
from html.parser import HTMLParser
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
from pypi_simple import ProjectPage

from freewheel.base import differences, files
from freewheel.base.errors import PackageIndexError
from freewheel.build import index
from freewheel.build.check import VerifiedWheel
from tests.unit.wheelmaker import as_verified, make_wheel


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    return tmp_path / "wheels" / "simple"


def _add(simple: Path, wheel: Path) -> index.Added | index.AlreadyThere:
    return index.add(simple, as_verified(wheel))


def _snapshot(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _pages(directory: Path, project: str) -> tuple[ProjectPage, ProjectPage]:
    """A project's page as pypi-simple reads it, from JSON and from HTML."""
    content = json.loads((directory / project / "index.json").read_bytes())
    html = (directory / project / "index.html").read_bytes()
    return ProjectPage.from_json_data(content), ProjectPage.from_html(project, html)


# ------------------------------------------------------------------------------------ the format


def test_both_pages_say_the_same_of_a_file(tmp_path: Path, simple: Path) -> None:
    wheel = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
    assert isinstance(_add(simple, wheel), index.Added)
    for page in _pages(simple, "demo"):
        (package,) = page.packages
        assert package.filename == wheel.name
        assert package.url == wheel.name.replace("+", "%2B")
        assert package.digests == {"sha256": files.sha256(wheel)}
        assert package.requires_python == ">=3.9"
        assert package.has_metadata is True
        metadata = simple / "demo" / (wheel.name + ".metadata")
        assert package.metadata_digests == {"sha256": files.sha256(metadata)}
        assert page.repository_version == "1.4"
        assert not package.is_yanked


def test_json_has_the_fields_of_its_version(tmp_path: Path, simple: Path) -> None:
    wheel = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
    _add(simple, wheel)
    page, _ = _pages(simple, "demo")
    assert page.versions == ["1.0+ft.1"]
    assert page.packages[0].size == wheel.stat().st_size
    moment = page.packages[0].upload_time
    assert moment is not None
    assert abs(moment.timestamp() - time.time()) < 60


def test_root_lists_projects_relatively(tmp_path: Path, simple: Path) -> None:
    _add(simple, make_wheel(tmp_path / "built", "zeta", "1.0+ft.1"))
    _add(simple, make_wheel(tmp_path / "built", "Alpha_Beta", "1.0+ft.1"))
    content = json.loads((simple / "index.json").read_bytes())
    assert content["projects"] == [{"name": "alpha-beta"}, {"name": "zeta"}]
    assert '<a href="alpha-beta/">alpha-beta</a>' in (simple / "index.html").read_text("utf-8")


def test_versions_are_in_order_of_version_not_of_spelling(tmp_path: Path, simple: Path) -> None:
    for revision in (10, 9, 2):
        _add(simple, make_wheel(tmp_path / "built", "demo", f"1.0+ft.{revision}"))
    page, _ = _pages(simple, "demo")
    assert page.versions == ["1.0+ft.2", "1.0+ft.9", "1.0+ft.10"]


def test_pages_are_escaped_and_well_formed(tmp_path: Path, simple: Path) -> None:
    wheel = make_wheel(
        tmp_path / "built", "demo", "1.0+ft.1", metadata={"Requires-Python": '>=3.9,<"4"&'}
    )
    _add(simple, wheel)
    index.yank(simple, wheel.name, reason='<script>"quoted" & more')
    text = (simple / "demo" / "index.html").read_text("utf-8")
    assert "<script>" not in text
    opened: list[str] = []

    class _Nesting(HTMLParser):
        def handle_starttag(self, tag: str, _attrs: object) -> None:
            if tag != "meta":
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    _Nesting().feed(text)
    assert not opened
    assert text.startswith("<!DOCTYPE html>")
    _, page = _pages(simple, "demo")
    assert page.packages[0].requires_python == '>=3.9,<"4"&'
    assert page.packages[0].yanked_reason == '<script>"quoted" & more'


def test_the_directory_alone_is_the_index(tmp_path: Path, simple: Path) -> None:
    wheel = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
    _add(simple, wheel)
    shutil.rmtree(tmp_path / "built")
    moved = simple.rename(tmp_path / "elsewhere")
    assert index.check(moved) == []
    assert not [path for path in moved.rglob("*") if path.is_symlink()]
    assert str(tmp_path) not in (moved / "demo" / "index.html").read_text("utf-8")


def test_output_depends_on_contents_alone(
    tmp_path: Path, simple: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freewheel.build.index.datetime", _StoppedClock)
    wheels = [make_wheel(tmp_path / "built", "demo", f"1.{minor}+ft.1") for minor in range(3)]
    for wheel in wheels:
        _add(simple, wheel)
    other = tmp_path / "other" / "simple"
    for wheel in reversed(wheels):
        _add(other, wheel)
    assert _snapshot(simple) == _snapshot(other)


class _StoppedClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _StoppedClock:
        return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)


# --------------------------------------------------------------------------- append-only, yanking


def test_the_same_file_again_changes_nothing(tmp_path: Path, simple: Path) -> None:
    wheel = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
    _add(simple, wheel)
    before, times = _snapshot(simple), {p: p.stat().st_mtime_ns for p in simple.rglob("*")}
    assert isinstance(_add(simple, wheel), index.AlreadyThere)
    assert _snapshot(simple) == before
    assert {p: p.stat().st_mtime_ns for p in simple.rglob("*")} == times


def test_a_missing_page_is_made_again(tmp_path: Path, simple: Path) -> None:
    wheel = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
    _add(simple, wheel)
    before = _snapshot(simple)
    (simple / "demo" / "index.html").unlink()
    (simple / "demo" / (wheel.name + ".metadata")).unlink()
    (simple / "index.json").write_text("{}", encoding="utf-8")
    assert isinstance(_add(simple, wheel), index.AlreadyThere)
    assert _snapshot(simple) == before


def test_other_bytes_are_refused_with_the_reason(tmp_path: Path, simple: Path) -> None:
    old = make_wheel(
        tmp_path / "a", "demo", "1.0+ft.1", members={"demo/a.py": "1", "demo/b.py": ""}
    )
    new = make_wheel(
        tmp_path / "b",
        "demo",
        "1.0+ft.1",
        members={"demo/a.py": "22", "demo/c.py": ""},
        metadata={"Requires-Dist": ["anyio"]},
    )
    _add(simple, old)
    before = _snapshot(simple)
    with pytest.raises(PackageIndexError) as caught:
        _add(simple, new)
    assert caught.value.problems == (
        "removed: demo/b.py",
        "added: demo/c.py",
        "changed: demo-1.0+ft.1.dist-info/METADATA (101 bytes, now 122)",
        "METADATA with: Requires-Dist: anyio",
        "changed: demo/a.py (1 bytes, now 2)",
    )
    assert "`revision`" in caught.value.hint
    assert str(simple / "demo" / old.name) in caught.value.hint
    assert _snapshot(simple) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stamp": (2027, 1, 1, 0, 0, 0)}, "only times of the members differ"),
        ({"mode": 0o100755}, "only modes of the members differ"),
        ({"mode": 0o100755, "stamp": (2027, 1, 1, 0, 0, 0)}, "only times and modes of the"),
        ({"members": {"b.py": "", "a.py": ""}}, "only the order of the members differs"),
    ],
)
def test_reasons_that_are_not_contents(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    plain = {"a.py": "", "b.py": ""}
    old = make_wheel(tmp_path / "a", "demo", "1.0+ft.1", members=plain)
    new = make_wheel(tmp_path / "b", "demo", "1.0+ft.1", **{"members": plain, **change})  # type: ignore[arg-type]
    (line,) = differences.differences(old, new)
    assert line.startswith(reason)


def test_what_the_refusal_advises_works(tmp_path: Path, simple: Path) -> None:
    kept = make_wheel(tmp_path / "a", "demo", "0.9+ft.1")
    _add(simple, kept)
    old = make_wheel(tmp_path / "a", "demo", "1.0+ft.1")
    _add(simple, old)
    (simple / "demo" / old.name).unlink()
    new = make_wheel(tmp_path / "b", "demo", "1.0+ft.1", members={"demo/__init__.py": "new"})
    assert isinstance(_add(simple, new), index.Added)
    assert index.check(simple) == []
    page, _ = _pages(simple, "demo")
    assert [package.filename for package in page.packages] == [kept.name, old.name]


@pytest.mark.parametrize(
    ("name", "version"),
    [("Demo_pkg", "2.0+ft.1"), ("demo.pkg", "2.0+ft.1"), ("demo_pkg", "1.0.0+ft.1")],
)
def test_twins_are_refused(tmp_path: Path, simple: Path, name: str, version: str) -> None:
    _add(simple, make_wheel(tmp_path / "a", "demo_pkg", "1.0+ft.1"))
    with pytest.raises(PackageIndexError, match="only in case or spelling"):
        _add(simple, make_wheel(tmp_path / "b", name, version))


def test_a_wheel_that_changed_after_its_checks_is_refused(tmp_path: Path, simple: Path) -> None:
    verified = as_verified(make_wheel(tmp_path / "built", "demo", "1.0+ft.1"))
    make_wheel(tmp_path / "built", "demo", "1.0+ft.1", members={"demo/evil.py": ""})
    with pytest.raises(PackageIndexError, match="changed since it was verified"):
        index.add(simple, verified)
    assert not (simple / "demo" / "index.json").exists()


def test_yanked_is_kept_and_can_be_lifted(tmp_path: Path, simple: Path) -> None:
    wheel = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
    _add(simple, wheel)
    before = _snapshot(simple)
    index.yank(simple, wheel.name, reason="data race")
    _add(simple, wheel)
    _add(simple, make_wheel(tmp_path / "built", "demo", "1.0+ft.2"))
    for page in _pages(simple, "demo"):
        assert [package.yanked_reason for package in page.packages] == ["data race", None]
        assert [package.is_yanked for package in page.packages] == [True, False]
    index.yank(simple, wheel.name, reason=None)
    after = _snapshot(simple)
    assert {name for name in before if before[name] != after[name]} == {
        "demo/index.html",
        "demo/index.json",
    }
    with pytest.raises(PackageIndexError, match="is not in the index"):
        index.yank(simple, "demo-7.0+ft.1-py3-none-any.whl", reason="")


def test_a_lost_truth_is_not_written_over(tmp_path: Path, simple: Path) -> None:
    wheel = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
    _add(simple, wheel)
    (simple / "demo" / "index.json").write_text("{", encoding="utf-8")
    with pytest.raises(PackageIndexError, match="not a page of this index"):
        _add(simple, wheel)
    (simple / "demo" / "index.json").unlink()
    with pytest.raises(PackageIndexError, match="is missing"):
        _add(simple, wheel)


# -------------------------------------------------------------------------------------- checking


def test_a_wheel_that_a_killed_writer_placed_is_gone_after_the_next(
    tmp_path: Path, simple: Path
) -> None:
    first, left, second = (
        make_wheel(tmp_path / "built", "demo", f"1.0+ft.{revision}") for revision in (1, 2, 3)
    )
    _add(simple, first)
    for suffix in ("", ".metadata"):
        shutil.copyfile(left, simple / "demo" / (left.name + suffix))
    assert index.check(simple) != []

    _add(simple, second)

    assert index.check(simple) == []
    assert sorted(path.name for path in (simple / "demo").glob("*.whl")) == [
        first.name,
        second.name,
    ]


def test_check_finds_each_kind_of_damage(tmp_path: Path, simple: Path) -> None:
    wheels = [make_wheel(tmp_path / "built", "demo", f"1.{minor}+ft.1") for minor in range(4)]
    for wheel in wheels:
        _add(simple, wheel)
    assert index.check(simple) == []
    demo = simple / "demo"
    (demo / wheels[0].name).unlink()
    files.write_bytes(demo / wheels[1].name, b"other")
    (demo / (wheels[2].name + ".metadata")).write_text("Name: evil\n", encoding="utf-8")
    (demo / "stray.whl").touch()
    (demo / "index.html").write_text("edited", encoding="utf-8")
    (simple / "index.json").unlink()
    (simple / "notes.txt").touch()
    found = "\n".join(index.check(simple))
    for expected in (
        f"demo/{wheels[0].name}: listed, but missing",
        f"demo/{wheels[1].name}: has SHA-256",
        f"demo/{wheels[2].name}.metadata: is not the METADATA of the wheel",
        "demo/stray.whl: lies there unlisted",
        "demo/index.html: differs from what is listed",
        "index.json: missing",
        "notes.txt: not a part of the index",
    ):
        assert expected in found
    assert index.check(tmp_path / "nowhere") == [f"{tmp_path / 'nowhere'}: there is no index"]


def test_check_finds_a_wheel_that_says_it_is_another(tmp_path: Path, simple: Path) -> None:
    _add(simple, make_wheel(tmp_path / "a", "demo", "1.0+ft.1", metadata={"Version": "2.0"}))
    (problem,) = index.check(simple)
    assert problem.endswith("METADATA says demo 2.0")


# ---------------------------------------------------------------------------------------- kill -9


def _victim(simple: Path, wheel: VerifiedWheel, last: int, report: Path) -> ForkProcess:
    """Start a process that adds the wheel and kills itself at the step ``last``.

    A step is any change of the file system that Python makes. A process that gets to the end
    writes to ``report`` how many there were.
    """

    def add() -> None:
        steps = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal steps
            writes = event == "open" and set(str(arguments[1])) & set("wax+")
            if writes or event in {"os.link", "os.rename", "os.remove", "os.mkdir"}:
                steps += 1
                if steps == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        index.add(simple, wheel)
        report.write_text(str(steps), encoding="utf-8")

    child = multiprocessing.get_context("fork").Process(target=add)
    child.start()
    return child


def _assert_whole(simple: Path, old: set[str], new: set[str]) -> None:
    """Each page lists the old files or the new ones, and every listed file is whole."""
    for page in _pages(simple, "demo"):
        listed = {package.filename for package in page.packages}
        assert listed in (old, new)
        for package in page.packages:
            wheel = simple / "demo" / package.filename
            assert files.sha256(wheel) == package.digests["sha256"]
            metadata = wheel.with_name(wheel.name + ".metadata")
            assert {"sha256": files.sha256(metadata)} == package.metadata_digests
    for page_name in ("index.html", "index.json"):
        assert "demo" in (simple / page_name).read_text("utf-8")


def test_killed_at_each_step_of_the_file_system(tmp_path: Path, simple: Path) -> None:
    first = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
    second = make_wheel(tmp_path / "built", "demo", "1.0+ft.2")
    _add(simple, first)
    pristine = shutil.copytree(simple, tmp_path / "pristine")
    report = tmp_path / "steps"
    _victim(simple, as_verified(second), 0, report).join(60)
    steps = int(report.read_text("utf-8"))
    assert steps > 8
    for last in range(1, steps + 1):
        shutil.rmtree(simple)
        shutil.copytree(pristine, simple)
        child = _victim(simple, as_verified(second), last, report)
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        _assert_whole(simple, {first.name}, {first.name, second.name})
        _add(simple, second)
        assert index.check(simple) == [], f"after a kill at step {last}"


def test_killed_at_random_moments(tmp_path: Path, simple: Path) -> None:
    first = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
    big = {"demo/data.bin": random.Random(7).randbytes(4_000_000)}
    second = make_wheel(tmp_path / "built", "demo", "1.0+ft.2", members=big)
    _add(simple, first)
    pristine = shutil.copytree(simple, tmp_path / "pristine")
    for delay in range(40):  # in milliseconds
        shutil.rmtree(simple)
        shutil.copytree(pristine, simple)
        child = _victim(simple, as_verified(second), 0, tmp_path / "steps")
        time.sleep(delay / 1000)
        child.kill()
        child.join(60)
        _assert_whole(simple, {first.name}, {first.name, second.name})
        _add(simple, second)
        assert index.check(simple) == []
