"""Targets: what each recipe says of them, and how a wheel for each of them is built."""

from __future__ import annotations

import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from freewheel.base.errors import BuildError
from freewheel.build.sdist import Sdist
from freewheel.build.wheel import Container, cibuildwheel_config, host_target, native_config
from freewheel.machine import native
from freewheel.machine.engine import Engine
from freewheel.machine.image import BuilderImage, acceptable_identities, native_builder
from freewheel.recipe import targets
from freewheel.recipe.building import Build, Place
from freewheel.recipe.recipe import Recipe, Release, load_recipes
from freewheel.recipe.targets import Limit, Targets

ROOT = Path(__file__).parents[2]
RECIPES = load_recipes(ROOT / "recipes", ROOT / "patches")
RELEASE = Release(
    project="speedy",
    version="1.0",
    sha256="0" * 64,
    released=datetime(2026, 1, 2, tzinfo=UTC),
    revision=1,
    patches=(),
)
SDIST = Sdist(path=Path("speedy.tar.gz"), release=RELEASE, version="1.0+ft.1")
BUILD = Build(
    version=(Place(variable="SPEEDY_VERSION"),),
    requires=("setuptools",),
    environment={"SPEEDY_FAST": "1"},
    config_settings={"--build-option": "--fast", "--global-option": ("-a", "-b")},
)
EACH = [(recipe, release) for recipe in RECIPES for release in recipe.releases]


@pytest.mark.parametrize(
    ("recipe", "release"), EACH, ids=[f"{release.project}-{release.version}" for _, release in EACH]
)
def test_every_recipe_says_something_of_every_target(recipe: Recipe, release: Release) -> None:
    assert recipe.targets.unmentioned(release.version) == ()
    assert set(recipe.targets.of_release(release.version)) <= native.pinned_targets().keys()


def test_what_a_limit_is_about() -> None:
    known = Targets(
        served=("cp314t-win_amd64", "cp314t-win_arm64"),
        unproven=(Limit(targets=("*-win_*",), reason="why not proven"),),
        excluded=(
            Limit(targets=("*_arm64",), reason="why not here", releases=SpecifierSet("<2")),
            Limit(targets=("cp315t-*",), reason="is too new"),
        ),
    )

    assert known.of_release("1.0") == ("cp314t-win_amd64",)
    assert known.of_release("2.0") == known.served
    assert known.why_excluded("cp314t-win_arm64", "1.0") == "why not here"
    assert known.why_excluded("cp314t-win_arm64", "2.0b1") == ""
    assert known.why_unproven("cp314t-win_amd64", "1.0") == "why not proven"
    assert "cp314t-manylinux_x86_64" in known.unmentioned("1.0")
    assert "cp315t-win_arm64" not in known.unmentioned("2.0")


@pytest.mark.parametrize(
    ("known", "problem"),
    [
        (Targets(served=()), "build.targets: names no target"),
        (
            Targets(served=("a-b",), unproven=(Limit(targets=("c-*",), reason="for this test"),)),
            "build.unproven.0.targets: 'c-*' fits no target",
        ),
        (
            Targets(
                served=("a-b",), excluded=(Limit(targets=("a-b",), reason="not here, either"),)
            ),
            "build.targets: a-b is excluded for every release; take it out",
        ),
        (
            Targets(
                served=("a-b", "c-d"),
                excluded=(
                    Limit(targets=("a-b",), reason="for this test", releases=SpecifierSet("<1")),
                ),
            ),
            "build.excluded.0.releases: <1 fits no release",
        ),
    ],
)
def test_what_contradicts_itself(known: Targets, problem: str) -> None:
    assert problem in list(targets.problems(known, ["1.0"]))


@pytest.mark.parametrize(
    ("system", "machine", "own", "also"),
    [
        ("linux", "aarch64", "cp314t-manylinux_aarch64", "cp314t-musllinux_aarch64"),
        ("darwin", "arm64", "cp314t-macosx_arm64", "cp314t-macosx_arm64"),
        ("win32", "AMD64", "cp314t-win_amd64", "cp314t-win_amd64"),
    ],
)
def test_what_a_machine_builds(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, own: str, also: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    recipe = next(recipe for recipe in RECIPES if recipe.name == "httptools")
    release = recipe.default_release

    assert host_target(recipe, release) == own
    assert host_target(recipe, release, also) == also
    oldest, other = recipe.releases[-1], "cp315t-manylinux_x86_64"
    with pytest.raises(BuildError, match=f"no target {other}") as caught:
        host_target(recipe, oldest, other)
    assert recipe.targets.why_excluded(other, oldest.version) in str(caught.value)


@pytest.mark.parametrize("libc", ["manylinux", "musllinux"])
def test_the_configuration_of_a_build_in_a_container(libc: str) -> None:
    image = BuilderImage(reference="registry/image@sha256:1", identity="x", origin="official")
    engine = Engine(name="podman", version="4", create_args=("--ulimit=nofile=4096",))
    container = Container(engine=engine, image=image)

    made = parsed(
        cibuildwheel_config(SDIST, BUILD, f"cp314t-{libc}_x86_64", container, Path("/wheelhouse"))
    )

    assert made[f"{libc}-x86_64-image"] == image.reference
    assert {"--network=none", "--http-proxy=false"} < set(made["container-engine"]["create-args"])
    assert made["environment"]["PIP_NO_INDEX"] == "1"
    assert made["environment"]["SPEEDY_FAST"] == "1"
    assert made["environment"]["SPEEDY_VERSION"] == "1.0+ft.1"
    assert made["config-settings"] == {"--build-option": "--fast", "--global-option": ["-a", "-b"]}


@pytest.mark.parametrize(("machine", "oldest"), [("arm64", "11.0"), ("x86_64", "10.15")])
def test_the_configuration_of_a_build_on_macos(machine: str, oldest: str) -> None:
    made = parsed(
        native_config(
            SDIST, BUILD, f"cp314t-macosx_{machine}", Path("/lock"), project=Path("/tree")
        )
    )

    assert made["environment"]["MACOSX_DEPLOYMENT_TARGET"] == oldest
    assert made["environment"]["CPPFLAGS"] == "-g0 -ffile-prefix-map=/tree=."
    assert made["build-frontend"]["args"] == ["--dependency-constraints-txt", "/lock"]


def test_the_configuration_of_a_build_on_windows() -> None:
    made = parsed(
        native_config(SDIST, BUILD, "cp314t-win_arm64", Path("/lock"), project=Path("/tree"))
    )

    assert made["environment"]["SPEEDY_VERSION"] == "1.0+ft.1"
    assert (made["environment"]["CL"], made["environment"]["LINK"]) == ("/Brepro", "/Brepro")
    assert made["repair-wheel-command"] == ""


def test_what_stands_for_the_image_of_a_native_build() -> None:
    arm, intel = (f"cp314t-macosx_{machine}" for machine in ("arm64", "x86_64"))

    builder = native_builder(arm)

    assert builder.origin == "native"
    assert acceptable_identities(arm) == (builder.identity,)
    assert acceptable_identities(intel) != (builder.identity,)


def parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(text)["tool"]["cibuildwheel"]
    return found
