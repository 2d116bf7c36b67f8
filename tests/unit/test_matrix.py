"""The matrix: each wheel once, on a runner of its kind, and only what a change can reach."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from freewheel.base import git
from freewheel.base.errors import FreewheelError
from freewheel.machine import native
from freewheel.recipe.recipe import load_recipes
from freewheel.release.matrix import Entry, Gate, entries, reached, with_gate

ROOT = Path(__file__).parents[2]
RECIPES = load_recipes(ROOT / "recipes", ROOT / "patches")
ALL = list(entries(RECIPES))


def test_every_entry_is_one_that_cibuildwheel_knows() -> None:
    known = native.pinned_targets()

    assert ALL
    assert [entry for entry in ALL if entry.target not in known] == []


def test_every_wheel_is_there_once() -> None:
    names = [entry.to_json()["name"] for entry in ALL]
    wanted = sum(
        len(recipe.targets.of_release(release.version))
        for recipe in RECIPES
        for release in recipe.releases
    )

    assert len(names) == len(set(names)) == wanted
    # More would not be run: GitHub's limit on the jobs of a matrix.
    assert len(names) <= 256


def test_platforms_that_were_never_built_for_are_marked() -> None:
    told = {entry.target: entry.to_json()["experimental"] for entry in ALL}

    assert told["cp314t-manylinux_x86_64"] is False
    assert told["cp314t-win_amd64"] is True


def test_what_is_not_proven_has_a_reason_and_no_proof() -> None:
    assert all((Gate.PROVE in entry.gates) != bool(entry.unproven) for entry in ALL)
    assert {entry.target for entry in with_gate(ALL, Gate.PROVE)} >= {"cp314t-manylinux_x86_64"}


def test_builds_without_a_container_are_not_built_twice_on_one_machine() -> None:
    twice = {entry.target for entry in with_gate(ALL, Gate.REPRODUCE)}

    assert all("linux" in target for target in twice)


@pytest.mark.parametrize("path", ["recipes/httptools.toml", "probes/httptools/H1.py"])
def test_a_recipe_or_a_probe_concerns_its_project(path: str) -> None:
    found = reached(ALL, [path], RECIPES)

    assert {(entry.project, entry.release) for entry in found} == {
        ("httptools", "0.9.0"),
        ("httptools", "0.7.1"),
    }


def test_a_patch_concerns_its_release() -> None:
    found = reached(ALL, ["patches/httptools/0.7.1/0001-anything.patch"], RECIPES)

    assert {(entry.project, entry.release) for entry in found} == {("httptools", "0.7.1")}


@pytest.mark.parametrize(
    "path",
    [
        "src/freewheel/build/wheel.py",
        "src/freewheel/pins/tools.txt",
        "noxfile.py",
        "pyproject.toml",
    ],
)
def test_the_pipeline_and_the_pins_concern_everything(path: str) -> None:
    assert reached(ALL, ["docs/index.md", path], RECIPES) == ALL


@pytest.mark.parametrize(
    "path",
    ["docs/index.md", "README.md", "tests/unit/x.py", "wheels/README.md", "recipes/gone.toml"],
)
def test_what_reaches_no_wheel(path: str) -> None:
    assert reached(ALL, [path], RECIPES) == []


def test_an_entry_as_a_job_sees_it() -> None:
    entry = Entry(
        project="speedy",
        release="1.0",
        target="cp314t-win_amd64",
        runner="windows-2025",
        gates=(Gate.BUILD,),
        unproven="a reason",
        experimental=True,
    )

    assert entry.to_json() == {
        "name": "speedy-1.0-cp314t-win_amd64",
        "project": "speedy",
        "release": "1.0",
        "target": "cp314t-win_amd64",
        "interpreter": "cp314t",
        "runner": "windows-2025",
        "gates": ["build"],
        "unproven": "a reason",
        "experimental": True,
    }


def test_what_has_changed_since_a_commit(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        told = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        done = subprocess.run(
            ["git", *told, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    run("init", "--quiet", "--initial-branch=main")
    (tmp_path / "kept").write_text("1")
    (tmp_path / "changed").write_text("1")
    run("add", ".")
    run("commit", "--quiet", "--message=1")
    run("branch", "other")
    run("checkout", "--quiet", "other")
    run("commit", "--quiet", "--allow-empty", "--message=other")
    theirs = run("rev-parse", "HEAD")
    run("checkout", "--quiet", "main")
    (tmp_path / "changed").write_text("2")
    run("commit", "--quiet", "--all", "--message=2")
    (tmp_path / "new file").write_text("1")

    assert git.changed_since(tmp_path, theirs) == ["changed", "new file"]
    with pytest.raises(FreewheelError, match="cannot be told"):
        git.changed_since(tmp_path, "--output=x")
