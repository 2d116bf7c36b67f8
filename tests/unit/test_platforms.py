"""Platforms: one row each, and what follows from it."""

from __future__ import annotations

import pytest

from freewheel.machine import native
from freewheel.machine.image import official_reference
from freewheel.recipe.platforms import ROWS, Platform, find_platform, platform_of


@pytest.mark.parametrize("platform", ROWS, ids=lambda platform: platform.name)
def test_cibuildwheel_builds_for_it_where_its_row_says(platform: Platform) -> None:
    target = f"cp314t-{platform.name}"

    assert platform_of(target) is platform
    if platform.policy:
        assert "@sha256:" in official_reference(target)
        assert not platform.environment
    else:
        assert target in native.pinned_targets()
        assert platform.environment


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("manylinux_x86_64", "manylinux1_x86_64"),
        ("manylinux_x86_64", "manylinux_2_28_x86_64"),
        ("manylinux_aarch64", "manylinux2014_aarch64"),
        ("musllinux_x86_64", "musllinux_1_2_x86_64"),
        ("macosx_arm64", "macosx_11_0_arm64"),
        ("win_amd64", "win_amd64"),
    ],
)
def test_a_wheel_has_a_tag_of_its_platform(name: str, tag: str) -> None:
    takers = [platform.name for platform in ROWS if platform.takes(tag)]

    assert takers == [name]


@pytest.mark.parametrize("tag", ["linux_x86_64", "any", "manylinux3_x86_64", "win32", "macosx"])
def test_other_tags_are_of_no_platform(tag: str) -> None:
    assert not any(platform.takes(tag) for platform in ROWS)


def test_an_odd_target_is_of_no_platform() -> None:
    assert find_platform("cp314t-manylinux_riscv64") is None
    assert find_platform("") is None


@pytest.mark.parametrize(
    ("system", "machine", "own", "built"),
    [
        ("linux", "x86_64", ["manylinux_x86_64"], ["manylinux_x86_64", "musllinux_x86_64"]),
        ("darwin", "arm64", ["macosx_arm64"], ["macosx_arm64"]),
        ("win32", "ARM64", ["win_arm64"], ["win_arm64"]),
        ("freebsd14", "amd64", [], []),
    ],
)
def test_what_a_machine_runs_and_builds(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, own: list[str], built: list[str]
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)

    assert [platform.name for platform in ROWS if platform.is_own] == own
    assert [platform.name for platform in ROWS if platform.is_built_here] == built
