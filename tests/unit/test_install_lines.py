"""The lines to install with, and the requirements file they refer to."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from freewheel.base import files
from freewheel.publish import install_lines
from tests.unit.wheelmaker import as_verified, make_wheel

_ARM = "cp314-cp314t-manylinux_2_17_aarch64"


def test_lines_pin_nothing_by_themselves_and_refer_to_the_file(tmp_path: Path) -> None:
    wheel = as_verified(make_wheel(tmp_path, "demo", "1.0+ft.1"))
    lines = install_lines.install_lines([wheel], "file:///a%20b/simple/", requirements="x y.txt")
    for words in (shlex.split(lines.pip), shlex.split(lines.uv)):
        assert "--require-hashes" in words
        assert "--no-deps" in words
        assert "file:///a%20b/simple/" in words
        assert words[-2:] == ["-r", "x y.txt"]
    assert lines.pins == ("demo==1.0+ft.1",)


def test_uv_project_covers_direct_and_indirect_dependencies(tmp_path: Path) -> None:
    wheels = [as_verified(make_wheel(tmp_path, name, "1.0+ft.1")) for name in ("demo", "alpha")]
    uv = tomllib.loads(install_lines.install_lines(wheels, "file:///simple/").uv_project)["tool"][
        "uv"
    ]
    assert uv["constraint-dependencies"] == ["alpha==1.0+ft.1", "demo==1.0+ft.1"]
    assert uv["sources"] == {"alpha": {"index": "freewheel"}, "demo": {"index": "freewheel"}}
    assert uv["index"] == [{"name": "freewheel", "url": "file:///simple/", "explicit": True}]


def test_requirements_pin_the_newest_with_each_platform(tmp_path: Path) -> None:
    versions = ("1.0+ft.9", "1.0+ft.10")
    wheels = [as_verified(make_wheel(tmp_path, "demo", version)) for version in versions]
    wheels.append(as_verified(make_wheel(tmp_path, "demo", "1.0+ft.10", tag=_ARM)))
    path = tmp_path / "requirements.txt"
    install_lines.write_requirements(path, wheels)
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert str(Requirement(lines[0].removesuffix(" \\"))) == "demo==1.0+ft.10"
    digests = {line.strip(" \\").removeprefix("--hash=sha256:") for line in lines[1:]}
    assert digests == {wheel.sha256 for wheel in wheels[1:]}


def test_requirements_depend_on_the_wheels_alone(tmp_path: Path) -> None:
    wheels = [as_verified(make_wheel(tmp_path, name, "1.0+ft.1")) for name in ("b", "a_c", "a.d")]
    first, second = tmp_path / "1.txt", tmp_path / "2.txt"
    install_lines.write_requirements(first, wheels)
    for wheel in reversed(wheels):
        install_lines.write_requirements(second, [wheel])
    assert first.read_bytes() == second.read_bytes()
    before = first.stat().st_mtime_ns
    install_lines.write_requirements(first, wheels)
    assert first.stat().st_mtime_ns == before


def test_a_build_of_one_project_keeps_the_pins_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    old = [as_verified(make_wheel(tmp_path, name, "1.0+ft.1")) for name in ("alpha", "demo")]
    install_lines.write_requirements(path, old)
    new = as_verified(make_wheel(tmp_path, "demo", "1.0+ft.2"))
    install_lines.write_requirements(path, [new])
    text = path.read_text("utf-8")
    assert f"alpha==1.0+ft.1 \\\n    --hash=sha256:{old[0].sha256}\n" in text
    assert f"demo==1.0+ft.2 \\\n    --hash=sha256:{new.sha256}\n" in text
    assert "demo==1.0+ft.1" not in text
    assert not list(tmp_path.glob(f"*{files.PARTIAL}"))
