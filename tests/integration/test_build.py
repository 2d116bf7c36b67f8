"""Builds: what was asked for lies there verified, and is not built again without a reason."""

import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.workspace import share_cache
from freewheel.build import index
from freewheel.build.check import dynamic_failures
from freewheel.build.wheel import Wheel, host_target
from freewheel.build.workshop import in_sandbox
from freewheel.machine.engine import find_engine
from freewheel.machine.image import find_image
from freewheel.recipe.recipe import choose_recipe, load_recipes
from tests.integration.conftest import RECIPES, Builder, Checkout, copy_wheels, make_checkout

pytestmark = pytest.mark.integration

PROJECTS = [recipe.name for recipe in RECIPES]


@pytest.mark.parametrize("project", PROJECTS)
def test_the_newest_release_is_built_patched_and_as_a_baseline(
    built: Builder, project: str
) -> None:
    patched = built.patched(project)
    baseline = built.baseline(project)

    assert patched.wheel.is_file()
    assert any(name.startswith("patch ") for name in patched.inputs)
    assert baseline.wheel.is_file()
    assert not any(name.startswith("patch ") for name in baseline.inputs)
    assert patched.inputs["image"] == baseline.inputs["image"]
    assert index.check(built.workspace.simple) == []
    listed = {path.name for path in built.workspace.simple.glob("*/*.whl")}
    assert patched.wheel.name in listed
    assert baseline.wheel.name not in listed


@pytest.mark.parametrize("project", PROJECTS)
def test_no_path_of_the_build_is_in_the_wheel(built: Builder, project: str) -> None:
    record = built.patched(project)
    with zipfile.ZipFile(record.wheel) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not name.endswith(".so") or b"/project/" not in content, name
            assert str(built.workspace.root).encode() not in content, name


def test_a_baseline_that_turns_the_gil_on_is_kept_with_its_failures(built: Builder) -> None:
    failed = built.baseline("httptools", "0.7.1").details["failed checks"]

    assert {line.split()[0] for line in failed} >= {"FW203"}
    assert built.baseline("httptools").details["failed checks"] == []


def test_a_second_build_does_no_work(built: Builder) -> None:
    record = built.patched("httptools")
    before = record.wheel.stat().st_mtime_ns
    nothing = {
        "PATH": "/nonexistent",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple/",
        "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple/",
    }

    # Without an engine and a network, so that it cannot.
    said = built.freewheel("build", "httptools", env=nothing)

    assert len(re.findall(r"\bfresh\b", said)) == 1
    assert record.wheel.stat().st_mtime_ns == before


def test_a_wheel_that_was_changed_is_built_again_and_the_compiler_cache_changes_no_byte(
    mine: Checkout,
) -> None:
    record = mine.patched("httptools")
    kept = mine.workspace.cache / "compiled"

    def build_again() -> set[Path]:
        record.wheel.write_bytes(record.wheel.read_bytes()[:-1] + b"?")
        said = mine.freewheel("build", "httptools", "--compiler-cache")
        assert "changed: the wheel itself" in said
        assert files.sha256(record.wheel) == record.sha256
        return {path for path in kept.glob("httptools-*/**/*") if path.is_file()}

    compiled = build_again()
    assert compiled
    assert build_again() == compiled  # nothing had to be compiled


@pytest.fixture
def mine(built: Builder, tmp_path: Path) -> Checkout:
    """A checkout of one's own, with the newest httptools, to change recipes and patches in."""
    checkout = make_checkout(
        tmp_path / "mine", cache=tmp_path / "cache", data=tmp_path / "data", copy=True
    )
    share_cache(built.workspace.cache, checkout.workspace.cache)
    built.patched("httptools")
    copy_wheels(built, checkout, f"httptools-{built.release('httptools').version}*")
    checkout.freewheel("build", "httptools")  # fresh; brings the index in
    return checkout


def test_the_index_refuses_other_bytes_of_the_same_version(mine: Checkout) -> None:
    first = mine.patched("httptools")
    digest = first.sha256

    # Even a word in a patch's header is in the wheel, since its SBOM has the whole patch.
    patch = next((mine.workspace.patches / "httptools" / "0.9.0").glob("0001-*.patch"))
    patch.write_text(patch.read_text().replace("Forwarded: no", "Forwarded: not-needed"))
    said = mine.freewheel("build", "httptools", code=18)
    assert f"changed: patch {patch.name}" in said
    assert f"changed: httptools-{first.version}.dist-info/sboms/freewheel.cdx.json" in said
    assert "raise `revision`" in said
    assert mine.patched("httptools").sha256 == digest
    assert index.check(mine.workspace.simple) == []

    recipe = mine.workspace.recipes / "httptools.toml"
    revision = int(first.version.rpartition(".")[2])
    raised = recipe.read_text().replace(f"revision = {revision}", f"revision = {revision + 1}", 1)
    recipe.write_text(raised)
    mine.freewheel("build", "httptools")
    assert mine.record("httptools", f"0.9.0+ft.{revision + 1}").sha256 != digest
    assert index.check(mine.workspace.simple) == []


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("build", "htptools"), 10, "did you mean httptools?"),
        (("build", "asyncpg", "--release", "0.32"), 10, "use 0.32.0"),
        (("build", "--release", "0.32.0"), 2, "exactly one project"),
        (("build", "--baselin"), 2, "No such option"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(
    built: Builder, words: tuple[str, ...], code: int, expected: str
) -> None:
    assert expected in built.freewheel(*words, code=code)


def test_a_wheel_is_imported_in_a_sandbox(built: Builder, tmp_path: Path) -> None:
    recipes = load_recipes(built.workspace.recipes, built.workspace.patches)
    recipe = choose_recipe(recipes, "httptools")
    release = recipe.default_release
    target = host_target(recipe, release)
    engine = find_engine(built.workspace, may_install=False)
    image = find_image(engine, target)
    assert image
    path = Path(shutil.copy(built.patched("httptools").wheel, tmp_path))
    good = Wheel(path=path, release=release, version=release.local_version, target=target)
    # Under the name of another platform it is not installed; under another version it is.
    foreign = tmp_path / f"{path.name.rpartition('-')[0]}-win_amd64.whl"
    foreign.write_bytes(path.read_bytes())
    places = {"scratch": tmp_path, "requirements": tmp_path}

    def codes(wheel: Wheel) -> list[str]:
        return [failure.code for failure in dynamic_failures(wheel, recipe, workshop, tmp_path)]

    with in_sandbox(engine, image.reference, target=target, **places) as workshop:
        assert codes(good) == []
        assert codes(replace(good, path=foreign)) == ["FW201"]
        assert codes(replace(good, version="1.0")) == ["FW204", "FW204"]
