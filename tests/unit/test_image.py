"""Identities of builder images: what they depend on, and that no engine is asked for them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from freewheel.machine import debian
from freewheel.machine.cpython import pinned_cpythons
from freewheel.machine.image import acceptable_identities, official_reference
from freewheel.machine.local_image import Specification, specifications
from freewheel.recipe.pythons import PYTHONS, Python

TARGET = "cp314t-manylinux_x86_64"
SPECIFICATION = Specification(
    containerfile="FROM scratch\n",
    requirements="pip==1\n",
    packages=("a", "b"),
    suite="debian trixie",
    machine="x86_64",
    cpython_version="3.14.7",
    cpython_sha256="0" * 64,
)


@pytest.fixture(autouse=True)
def _no_forced_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FREEWHEEL_IMAGE", raising=False)


@pytest.fixture
def on_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of the right kind, whatever the tests run on."""
    here = debian.Distribution(family="debian", suite="trixie", like=())
    monkeypatch.setattr(debian, "distribution", lambda: here)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, containerfile=s.containerfile + "RUN true\n"),
        lambda s: replace(s, requirements="pip==2\n"),
        lambda s: replace(s, packages=("a",)),
        lambda s: replace(s, packages=("a,b",), suite="debian trixie2"),
        lambda s: replace(s, suite="debian forky"),
        lambda s: replace(s, machine="aarch64"),
        lambda s: replace(s, cpython_version="3.14.6"),
        lambda s: replace(s, cpython_sha256="1" * 64),
    ],
)
def test_the_identity_changes_with_every_input(
    change: Callable[[Specification], Specification],
) -> None:
    changed = change(SPECIFICATION)

    assert changed.identity != SPECIFICATION.identity
    assert changed.reference != SPECIFICATION.reference


def test_equal_inputs_have_one_identity() -> None:
    assert replace(SPECIFICATION).identity == SPECIFICATION.identity


def test_the_official_image_is_pinned_by_digest() -> None:
    reference = official_reference(TARGET)

    assert "/manylinux_2_28_x86_64@sha256:" in reference
    assert len(reference.rpartition(":")[2]) == 64


def test_a_target_that_cibuildwheel_does_not_pin_has_no_official_image() -> None:
    assert official_reference("cp314t-manylinux_vax") == ""


@pytest.mark.usefixtures("on_debian")
def test_official_and_local_images_are_acceptable_newest_first() -> None:
    official, *locals_ = acceptable_identities(TARGET)

    assert official == official_reference(TARGET)
    assert locals_ == [specification.identity for specification in specifications(TARGET)]
    pinned = pinned_cpythons(Python("cp314t"))
    assert len(set(locals_)) == len(pinned) > 1
    assert specifications(TARGET)[0].cpython_version == pinned[0].version


@pytest.mark.usefixtures("on_debian")
def test_an_image_has_the_interpreter_of_its_target_and_no_other() -> None:
    made = {str(p): specifications(f"{p}-manylinux_x86_64")[0] for p in PYTHONS}

    for name, specification in made.items():
        prefix = f"/opt/python/{name.removesuffix('t')}-{name}"
        assert f"--prefix={prefix} --disable-gil" in specification.containerfile
        assert specification.containerfile.count("/opt/python/cp3") == 6
        assert "@" not in specification.containerfile
        assert not any(o != name and o in specification.containerfile for o in made)
    # What lies below the interpreter is the same, so the engine has those layers only once.
    below = {s.containerfile.partition("FROM base AS python")[0] for s in made.values()}
    assert len(below) == 1
    assert len({s.packages for s in made.values()}) == 1


@pytest.mark.usefixtures("on_debian")
@pytest.mark.parametrize("target", ["cp314t-manylinux_aarch64", "cp314t-musllinux_x86_64"])
def test_a_local_image_serves_only_the_machines_own_kind(target: str) -> None:
    assert specifications(target) == ()
    assert acceptable_identities(target) == (official_reference(target),)


@pytest.mark.usefixtures("on_debian")
@pytest.mark.parametrize(
    ("forced", "begins"), [("official", ""), ("local", "local:"), ("x/y@sha256:12", "x/y@sha256:")]
)
def test_a_forced_image_leaves_only_its_kind(
    forced: str, begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = acceptable_identities(TARGET)
    monkeypatch.setenv("FREEWHEEL_IMAGE", forced)

    identities = acceptable_identities(TARGET)

    assert identities
    assert identities != everything
    assert all(identity.startswith(begins) for identity in identities)


def test_a_forced_image_without_a_digest_is_never_known_beforehand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FREEWHEEL_IMAGE", "localhost/mine:latest")

    assert acceptable_identities(TARGET) == ()


def test_identities_are_known_without_any_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert acceptable_identities(TARGET)


@pytest.mark.parametrize("python", PYTHONS, ids=str)
def test_cpython_is_pinned_newest_first_with_whole_digests(python: Python) -> None:
    releases = pinned_cpythons(python)
    versions = [Version(release.version) for release in releases]

    assert releases
    assert versions == sorted(versions, reverse=True)
    assert {version.release[:2] for version in versions} == {python.minor}
    assert all(len(bytes.fromhex(release.sha256)) == 32 for release in releases)
    assert all(f"python{python.version}_" in path for r in releases for path in r.paths)


def test_a_pre_release_is_found_under_the_distributions_name_for_it() -> None:
    candidate = next(r for r in pinned_cpythons(Python("cp315t")) if r.is_prerelease)

    assert candidate.version == "3.15.0rc2"
    assert candidate.paths[0].endswith("/python3.15/python3.15_3.15.0~rc2.orig.tar.xz")
