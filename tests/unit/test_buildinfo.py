"""Freshness: nothing changed is seen as that, and each change is named."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from freewheel.base.code import without_comments
from freewheel.base.workspace import PACKAGE
from freewheel.build import buildinfo
from freewheel.build.patches import Patch
from freewheel.recipe.building import Build, Place
from freewheel.recipe.recipe import Recipe, Release
from freewheel.recipe.targets import Targets

RELEASE = Release(
    project="speedy",
    version="1.0",
    sha256="1" * 64,
    released=datetime(2026, 1, 1, tzinfo=UTC),
    revision=1,
    patches=(),
)
RECIPE = Recipe(
    path=Path("speedy.toml"),
    name="speedy",
    summary="something fast",
    import_name="speedy",
    source_url="https://example.org",
    build=Build(version=(Place(file="speedy/__init__.py"),), requires=("setuptools",)),
    targets=Targets(served=("cp314t-manylinux_x86_64",)),
    releases=(RELEASE,),
)


def rebuilt(**keys: object) -> Recipe:
    """The recipe with other keys of its build."""
    return replace(RECIPE, build=RECIPE.build.model_copy(update=keys))


PATCH = Patch(path=Path("0001-first.patch"), sha256="a" * 64, fields={})


def gather(
    recipe: Recipe = RECIPE, release: Release = RELEASE, patch: Patch = PATCH
) -> dict[str, str]:
    return buildinfo.gather(
        recipe, release, [patch], version=release.local_version, target=recipe.targets.served[0]
    )


def changed(current: dict[str, str], image: str = "local:1") -> list[str]:
    recorded = gather() | {"image": "local:1"}
    return buildinfo.changed(recorded, current, images=["official:9", image])


def test_the_same_inputs_are_fresh() -> None:
    assert changed(gather()) == []


@pytest.mark.parametrize(
    ("current", "named"),
    [
        (gather(patch=replace(PATCH, sha256="b" * 64)), ["patch 0001-first.patch"]),
        (gather(release=replace(RELEASE, sha256="2" * 64)), ["source archive"]),
        (gather(release=replace(RELEASE, revision=2)), ["version"]),
        (
            gather(release=replace(RELEASE, released=datetime(2026, 1, 2, tzinfo=UTC))),
            ["recipe"],
        ),
        (gather(recipe=rebuilt(generated=("a.c",))), ["recipe"]),
        (gather(recipe=rebuilt(environment={"FAST": "1"})), ["environment FAST"]),
        (gather(recipe=rebuilt(config_settings={"--x": ("1", "2")})), ["config setting --x"]),
        (gather(recipe=rebuilt(requires=("cython", "setuptools"))), ["build requirements"]),
        (
            gather(patch=replace(PATCH, path=Path("0001-other.patch"))),
            ["patch 0001-first.patch", "patch 0001-other.patch"],
        ),
    ],
)
def test_a_changed_input_is_named(current: dict[str, str], named: list[str]) -> None:
    assert changed(current) == named


def test_a_new_release_or_summary_does_not_touch_the_others() -> None:
    other = replace(RECIPE, summary="another", releases=(RELEASE, replace(RELEASE, version="2.0")))

    assert changed(gather(recipe=other)) == []


def test_an_image_that_is_not_acceptable_is_named() -> None:
    assert changed(gather(), image="local:2") == ["image"]


def test_a_changed_pipeline_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = gather() | {"image": "local:1"}
    monkeypatch.setattr(buildinfo, "_PIPELINE", ("base/archives",))

    assert buildinfo.changed(recorded, gather(), images=["local:1"]) == ["pipeline"]


def test_every_pipeline_module_exists() -> None:
    for module in buildinfo._PIPELINE:
        assert (PACKAGE / f"{module}.py").is_file()


def record(tmp_path: Path) -> buildinfo.Record:
    return buildinfo.Record(
        wheel=tmp_path / "speedy-1.0+ft.1-cp314-cp314t-manylinux_2_17_x86_64.whl",
        project="speedy",
        version="1.0+ft.1",
        sha256="c" * 64,
        size=1,
        inputs=gather(),
        details={"failed checks": []},
    )


def test_a_record_is_found_again(tmp_path: Path) -> None:
    written = record(tmp_path)
    buildinfo.write_record(written)

    target = RECIPE.targets.served[0]
    assert (
        buildinfo.find_record(tmp_path, project="speedy", version="1.0+ft.1", target=target)
        == written
    )
    assert buildinfo.find_record(tmp_path, project="speedy", version="1.0", target=target) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1}'])
def test_a_damaged_record_counts_as_absent(tmp_path: Path, text: str) -> None:
    (tmp_path / f"x.whl{buildinfo.SUFFIX}").write_text(text)

    assert buildinfo.read_records(tmp_path) == []


def test_comments_are_no_part_of_the_pipeline() -> None:
    code = 'x = 1  # the first\n\n# a reason\ntext = f"# {x} none"\n'

    assert without_comments(code) == 'x = 1\ntext = f"# {x} none"'


def test_what_applies_patches_is_part_of_the_pipeline() -> None:
    assert "base/git" in buildinfo._PIPELINE
