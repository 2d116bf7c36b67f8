"""Recipes that need others: in order, with what was built before, and never in a circle."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.errors import BuildError, RecipeError
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo, needed
from freewheel.build.job import Job
from freewheel.machine.requirements import read_lock
from freewheel.recipe.recipe import Recipe, load_recipes

TARGET = "cp314t-manylinux_x86_64"
RECIPE = """\
[project]
name = "{name}"
summary = "for a test"
import-name = "{name}"
source-url = "https://example.org/{name}"

[build]
version = [{{ variable = "V" }}]
requires = ["setuptools"]
needs = [{needs}]
targets = ["cp314t-manylinux_x86_64"]

[releases."1.0"]
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
released = 2026-01-02T03:04:05Z
revision = 2
patches = []
"""


def write(root: Path, **needs: str) -> Workspace:
    (root / "recipes").mkdir()
    (root / "patches").mkdir()
    for name, listed in needs.items():
        quoted = ", ".join(f'"{one}"' for one in listed.split())
        (root / "recipes" / f"{name}.toml").write_text(RECIPE.format(name=name, needs=quoted))
    return Workspace(root=root, cache=root / "cache", data=root / "data")


def load(workspace: Workspace) -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in load_recipes(workspace.recipes, workspace.patches)}


def job(recipe: Recipe, *, baseline: bool = False) -> Job:
    release = recipe.default_release
    return Job(recipe=recipe, release=release, baseline=baseline, target=TARGET)


def test_a_circle_is_refused_with_its_names(tmp_path: Path) -> None:
    workspace = write(tmp_path, one="two", two="three", three="one", four="")

    with pytest.raises(RecipeError) as caught:
        load(workspace)

    (problem,) = caught.value.problems
    names = problem.removeprefix("build.needs: ").partition(";")[0].split(" needs ")
    assert names[0] == names[-1]
    assert set(names) == {"one", "two", "three"}
    follows = {"one": "two", "two": "three", "three": "one"}
    assert all(follows[a] == b for a, b in itertools.pairwise(names))


def test_a_need_without_a_recipe_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load(write(tmp_path, greenlet="", gevent="greenlt"))

    assert caught.value.problems == (
        "gevent.toml: build.needs: there is no recipe for greenlt; did you mean greenlet?",
    )


def test_what_is_needed_is_built_before(tmp_path: Path) -> None:
    workspace = write(tmp_path, a="b c", b="c", c="", d="")
    recipes = load(workspace)

    jobs = needed.with_needed(workspace, [job(recipes["d"]), job(recipes["a"])])
    waves = needed.in_waves(jobs)

    assert [[one.recipe.name for one in wave] for wave in waves] == [["d", "c"], ["b"], ["a"]]


def test_a_baseline_needs_the_patched_wheel(tmp_path: Path) -> None:
    workspace = write(tmp_path, a="b", b="")
    recipes = load(workspace)

    jobs = needed.with_needed(workspace, [job(recipes["a"], baseline=True)])

    assert [(one.recipe.name, one.baseline) for one in jobs] == [("b", False), ("a", True)]
    waves = needed.in_waves([*jobs, job(recipes["b"], baseline=True)])
    assert [[one.slug for one in wave] for wave in waves][1] == [jobs[1].slug]


def test_without_needs_nothing_is_looked_up(tmp_path: Path) -> None:
    workspace = write(tmp_path, a="")
    jobs = [job(load(workspace)["a"])]
    files.empty_directory(workspace.recipes)

    assert needed.with_needed(workspace, jobs) == jobs
    assert needed.wheels_for(workspace, jobs[0]) == ()


def test_the_wheel_is_seen_by_the_build_and_an_input(tmp_path: Path) -> None:
    workspace = write(tmp_path, a="b", b="")
    recipes = load(workspace)
    wanted = job(recipes["a"])
    with pytest.raises(BuildError, match=r"needs b 1\.0\+ft\.2, which is not there"):
        needed.wheels_for(workspace, wanted)

    path = workspace.wheels / "b-1.0+ft.2-cp314-cp314t-manylinux_2_28_x86_64.whl"
    files.write_bytes(path, b"a wheel")
    record = buildinfo.Record(
        wheel=path,
        project="b",
        version="1.0+ft.2",
        sha256=files.sha256(path),
        size=7,
        inputs={"target": TARGET},
        details={},
    )
    buildinfo.write_record(record)

    (wheel,) = needed.wheels_for(workspace, wanted)
    assert (wheel.input, wheel.sha256) == ("wheel b", record.sha256)
    (pin,) = read_lock(wheel.pin)
    assert (pin.name, pin.version, pin.hashes) == ("b", "1.0+ft.2", (record.sha256,))

    wheelhouse = tmp_path / "wheelhouse"
    files.write_bytes(wheelhouse / "setuptools.whl", b"")
    seen = needed.beside(wheelhouse, [wheel], tmp_path / "seen")
    assert sorted(one.name for one in seen.iterdir()) == [path.name, "setuptools.whl"]
    assert needed.beside(wheelhouse, [wheel], tmp_path / "seen") == seen
    assert needed.beside(wheelhouse, [], tmp_path / "other") == wheelhouse

    path.write_bytes(b"another")
    with pytest.raises(BuildError, match="which is not there"):
        needed.wheels_for(workspace, wanted)
    assert replace(wheel, sha256="0").input == "wheel b"
