"""Filling a lock's gaps: the plan, the causes of failed builds, and what installs the whole."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.pylock import Pylock

from freewheel.audit.available import Answer, Offer
from freewheel.audit.choosing import Candidate, Choice
from freewheel.audit.declared import Declared, find_workspace
from freewheel.audit.inputs.locked import Locked, LockedFile
from freewheel.audit.outcome import make
from freewheel.audit.target import Target, wheel_name
from freewheel.audit.verdicts import Finding, Modules, Verdict
from freewheel.base import files
from freewheel.base.errors import UnprovenError
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo
from freewheel.fill import environment, orders, shelf
from freewheel.fill.causes import explain
from freewheel.fill.filling import Item
from freewheel.fill.making import Lacking
from freewheel.fill.orders import Order, Plan
from freewheel.machine.image import BuilderImage, acceptable_identities
from freewheel.recipe.building import SystemPackages
from tests.unit.wheelmaker import make_wheel

LINUX = Target("cp314t", "manylinux_x86_64")
DIGEST = "1" * 64


# ------------------------------------------------------------------------------------ the causes


@pytest.mark.parametrize(
    ("printed", "cause", "remedy"),
    [
        (
            "src/db.c:3:10: fatal error: mysql.h: No such file or directory\ncompilation ended.",
            "the compiler lacks the header mysql.h",
            "--system-packages adds libmariadb-dev",
        ),
        ("/usr/bin/ld: cannot find -lpq: No such file", "the linker lacks the library pq", "libpq"),
        ("Package 'libffi', required by 'virtual:world', not found", "libffi", "libffi-dev"),
        (
            "Trying pkg-config --exists mysqlclient\nException: no valid pkg-config name.",
            "pkg-config lacks mysqlclient",
            "libmariadb-dev",
        ),
        ("Package libcurl was not found in the pkg-config search path.", "libcurl", "libcurl4"),
        ('meson.build:3:0: ERROR: Dependency "openblas" not found', "openblas", "libopenblas-dev"),
        ("  Could NOT find OpenSSL, try to set the path", "CMake does not find OpenSSL", "libssl"),
        ("/bin/sh: 1: pg_config: not found", "the build lacks the program pg_config", "libpq-dev"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'swig'",
            "the build lacks the program swig",
            "swig",
        ),
        ("x.c:1:10: fatal error: strange.h: No such file or directory", "strange.h", "new-recipe"),
        ("error: can't find Rust compiler", "it is written in Rust", "FREEWHEEL_IMAGE"),
        ("Cargo, the Rust package manager, is not installed", "it is written in Rust", "crates"),
        (
            "URLError: <urlopen error [Errno -3] Temporary failure in name resolution>",
            "its build asks the network",
            "new-recipe",
        ),
        (
            "curl: (6) Could not resolve host: downloads.example.org",
            "its build asks the network: downloads.example.org",
            "build.environment",
        ),
        (
            "ModuleNotFoundError: No module named 'numpy'",
            "its build imports numpy and does not ask for it",
            "build.requires",
        ),
        (
            "ERROR: No matching distribution found for cffi>=9",
            "its build requirement cffi>=9 has no wheel for this interpreter",
            "build.requires",
        ),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", "more processes", "setup"),
        ("(no end after 1800 s)", "did not end within 1800 s", "quieter"),
        ("cc: fatal error: Killed signal terminated program cc1plus", "out of memory", "memory"),
        (
            "a.c:40:5: error: 'PyThreadState' has no member named 'x'\nerror: command 'cc' failed",
            "a.c:40: 'PyThreadState' has no member named 'x'",
            "a patch for that line",
        ),
        ("spam/core.pyx:12:4: undeclared name: foo", "Cython does not take core.pyx:12", "patch"),
        (
            "RuntimeError: Windows only\nERROR Backend subprocess exited\ncibuildwheel: error: no",
            "RuntimeError: Windows only",
            "new-recipe spam 1.0",
        ),
        ("", "the build printed nothing", "new-recipe"),
    ],
)
def test_a_failed_build_is_explained_in_one_line(printed: str, cause: str, remedy: str) -> None:
    found = explain(printed, "spam", "1.0")

    assert cause in found.cause
    assert remedy in found.remedy
    assert "\n" not in found.cause + found.remedy


def test_the_system_packages_of_a_header_are_known_for_each_image() -> None:
    found = explain("fatal error: ffi.h: No such file or directory", "spam", "1.0").packages

    assert found == SystemPackages(apt=("libffi-dev",), dnf=("libffi-devel",), apk=("libffi-dev",))


# -------------------------------------------------------------------------------------- the plan


def choice(name: str, version: str = "1.0", **more: Any) -> Choice:  # noqa: ANN401  its fields
    locked = more.pop("locked", {})
    files = tuple(LockedFile(name=f, sha256=DIGEST) for f in more.get("others", ()))
    entry = Locked(name=name, version=version, origin="a lock", files=files, **locked)
    return Choice(locked=entry, version=version, **more)


def planned(*choices: Choice, answers: dict[str, Answer] | None = None) -> Plan:
    return orders.plan(choices, answers or {}, Declared(find_workspace(), LINUX), LINUX)


def candidate(filename: str) -> Candidate:
    name = wheel_name(filename)
    assert name is not None
    return Candidate(name=name, sha256=DIGEST, urls=("https://example.invalid/" + filename,))


def test_each_distribution_has_one_source() -> None:
    greenlet = find_workspace()
    recipe = Declared(greenlet, LINUX).recipes["greenlet"]
    ready = candidate("spam-1.0-cp314-cp314t-manylinux_2_17_x86_64.whl")

    found = planned(
        choice("greenlet", recipe.default_release.version),
        choice("spam", wheel=ready),
        choice("eggs", others=("eggs-1.0.tar.gz",), locked={"complete": True}),
    )

    assert [release.version for _, release in found.ours] == [recipe.default_release.version]
    assert [one.locked.name for one, _ in found.public] == ["spam"]
    assert [(one.project, one.filename) for one in found.orders] == [("eggs", "eggs-1.0.tar.gz")]
    assert found.absent == ()


def test_what_cannot_be_built_says_why_and_what_to_do() -> None:
    found = planned(
        choice("gone", locked={"source": "git", "where": "https://example.invalid/gone"}),
        choice("zipped", others=("zipped-1.0.zip",)),
        choice("binary", others=("binary-1.0-cp314-cp314-win_amd64.whl",)),
        choice("lost", problems=("the index does not have it (any more)",)),
    )

    assert [one.project for one in found.absent] == ["gone", "zipped", "binary", "lost"]
    causes = [one.cause for one in found.absent]
    assert "example.invalid/gone" in causes[0]
    assert "no .tar.gz" in causes[1]
    assert "no sdist" in causes[2]
    assert "any more" in causes[3]
    assert all(one.remedy for one in found.absent)


def test_an_sdist_is_also_fetched_from_the_index() -> None:
    offer = Offer(filename="eggs-1.0.tar.gz", url="file:///eggs.tar.gz", sha256=DIGEST)

    found = planned(
        choice("eggs", others=("eggs-1.0.tar.gz",)), answers={"eggs": Answer(offers=(offer,))}
    )

    assert found.orders[0].urls == ("file:///eggs.tar.gz",)
    assert found.orders[0].sha256 == DIGEST


# ------------------------------------------------------------------------------ what installs it


def items(directory: Path) -> list[Item]:
    def item(name: str, trust: str, **more: str) -> Item:
        path = directory / f"{name}-1.0-py3-none-any.whl"
        return Item(
            project=name,
            version="1.0",
            path=path,
            sha256=DIGEST,
            trust=trust,
            url=more.get("url", ""),
        )

    return [
        item("eggs", "filled"),
        item("spam", "public", url="https://example.invalid/spam.whl#sha256=1"),
        item("ham", "proven"),
    ]


def test_the_files_pin_every_wheel_and_name_explicit_indexes(tmp_path: Path) -> None:
    indexes = {"freewheel-filled": "file:///f/", "freewheel": "file:///o/"}

    environment.write_files(tmp_path, items(tmp_path), indexes, "==3.14.*")

    pinned = (tmp_path / environment.REQUIREMENTS).read_text()
    assert pinned.count(f"--hash=sha256:{DIGEST}") == 3
    assert "eggs==1.0" in pinned
    part = tomllib.loads((tmp_path / environment.UV_PART).read_text())["tool"]["uv"]
    assert part["sources"] == {
        "eggs": {"index": "freewheel-filled"},
        "ham": {"index": "freewheel"},
    }
    assert all(index["explicit"] for index in part["index"])
    assert part["constraint-dependencies"] == ["eggs==1.0", "ham==1.0"]
    lock = Pylock.from_dict(tomllib.loads((tmp_path / environment.LOCK).read_text()))
    lock.validate()
    assert [package.name for package in lock.packages] == ["eggs", "ham", "spam"]


def test_the_summary_names_who_turns_the_gil_on() -> None:
    def finding(name: str, imported: int, **more: Any) -> Finding:  # noqa: ANN401  its fields
        modules = Modules(own=2, own_imported=imported)
        return Finding(
            name=name, version="1", verdict=Verdict.UNPROVEN, origin="", modules=modules, **more
        )

    whole = make("t", [], [finding("a", 2), finding("b", 2)])
    part = make("t", [], [finding("a", 2), finding("b", 1)])
    loud = make("t", [], [finding("a", 2), finding("b", 2, culprits=["b.c"])])

    assert environment.summary(whole) == "2 of 2 compiled distributions imported, GIL off: yes"
    assert environment.summary(part).startswith("1 of 2")
    assert environment.summary(loud).endswith("by PYTHON_GIL=0 only, because of b")


def test_a_failure_is_kept_until_its_sdist_changes(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")
    order = Order(
        project="spam",
        version="1.0",
        filename="spam-1.0.tar.gz",
        sha256=DIGEST,
        urls=(),
        target=str(LINUX),
    )
    image = BuilderImage(
        reference="localhost/x", identity=acceptable_identities(str(LINUX))[0], origin="local"
    )
    lacking = Lacking(order, "it lacks a header", "add it", order)

    shelf.keep_failure(workspace, order, lacking, image)

    kept = shelf.find_failure(workspace, order, may_add_packages=False)
    assert kept == lacking.absent
    assert shelf.find_failure(workspace, order, may_add_packages=True) is None
    changed = replace(order, sha256="2" * 64)
    assert shelf.find_failure(workspace, changed, may_add_packages=False) is None
    assert shelf.find(workspace, order) is None


def filled(tmp_path: Path) -> Workspace:
    """A checkout with one filled wheel, eggs 1.0."""
    workspace = Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")
    wheel = make_wheel(workspace.filled, "eggs", "1.0")
    buildinfo.write_record(
        buildinfo.Record(
            wheel=wheel,
            project="eggs",
            version="1.0",
            sha256=files.sha256(wheel),
            size=wheel.stat().st_size,
            inputs={"target": str(LINUX)},
            details={},
        )
    )
    return workspace


def test_a_filled_wheel_is_published_only_by_name(tmp_path: Path) -> None:
    workspace = filled(tmp_path)

    assert shelf.named(workspace, ()) == []
    assert [wheel.project for wheel in shelf.named(workspace, ("Eggs",))] == ["eggs"]
    with pytest.raises(UnprovenError, match="--unproven eggs"):
        shelf.named(workspace, (), ("eggs",))
    with pytest.raises(UnprovenError, match="no wheel of it"):
        shelf.named(workspace, ("spam",))


def test_a_filled_wheel_retires_when_the_index_has_one(tmp_path: Path) -> None:
    class Offering:
        def ask(self, names: Iterable[str]) -> Mapping[str, Answer]:
            old = Offer(filename="eggs-0.9-py3-none-any.whl", url="")
            same = Offer(filename="eggs-1.0-cp314-cp314t-manylinux_2_17_x86_64.whl", url="")
            return {name: Answer(offers=(old, same)) for name in names}

    (instead,) = shelf.retired(filled(tmp_path), Offering()).values()

    assert instead.startswith("eggs-1.0-cp314-cp314t")
