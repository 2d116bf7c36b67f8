"""A project is three folders: a new one needs no line anywhere else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from freewheel.base.workspace import Workspace
from freewheel.build.patches import read_series
from freewheel.machine.requirements import build_lock, suite_lock
from freewheel.proof import cases
from freewheel.proof.programs import load_programs
from freewheel.recipe.recipe import choose_recipe, load_recipes
from freewheel.release import matrix
from freewheel.upkeep import docs

ROOT = Path(__file__).parents[2]
FILES = {
    "recipes/speedy.toml": """\
[project]
name = "speedy"
summary = "counts, quickly"
import-name = "speedy"
source-url = "https://example.org/speedy"

[build]
version = [{ file = "speedy.py", pattern = "__version__ = '{version}'" }]
requires = ["cython", "setuptools"]
targets = ["cp314t-manylinux_x86_64"]
excluded = [
    { targets = ["cp315t-*", "*-[!m]*", "*-mac*", "*_a*", "*-mus*"], reason = "for this test" },
]

[suite]
tests = "tests"
requires = ["psutil"]
seconds = 60

[releases."1.0"]
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
released = 2026-01-02T03:04:05Z
revision = 1
patches = ["0001-count-once.patch"]
""",
    "patches/speedy/1.0/0001-count-once.patch": """\
Description: Count each thing once
 Two threads counted it twice.
Origin: vendor
Forwarded: no
Author: The Freewheel authors
Last-Update: 2026-11-23
X-Defect: S1
X-Release: 1.0
---
diff --git a/speedy.pyx b/speedy.pyx
--- a/speedy.pyx
+++ b/speedy.pyx
@@ -1 +1 @@
-x = 1
+x = 2
""",
    "probes/speedy/S1.py": """\
# /// script
# [tool.freewheel.probe]
# defect = "S1"
# title = "two threads count a thing twice"
# releases = "==1.0"
# use = "supported"
# passes = "each thing was counted once"
# fails-by = ["wrong answer"]
# runs = { baseline = 5, patched = 50 }
# seconds = 20
# ///
""",
}


def git(root: Path, *words: str) -> str:
    named = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    done = subprocess.run(
        ["git", *named, *words], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Workspace:
    """The checkout as it is, committed; then the new project's three folders."""
    for name in ("docs", "patches", "probes", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copyfile(ROOT / "README.md", tmp_path / "README.md")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message=as it is")
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")


def test_a_new_project_is_known_everywhere(checkout: Workspace) -> None:
    recipe = choose_recipe(load_recipes(checkout.recipes, checkout.patches), "speedy")
    release = recipe.default_release

    assert [patch.defects for patch in read_series(release)] == [("S1",)]
    assert "cython==" in build_lock(recipe.build.requires)
    assert recipe.suite is not None
    assert "psutil==" in suite_lock(recipe.suite.requires)
    assert load_programs(checkout.probes, "speedy").probe("S1") is not None
    cases.check_probes(checkout, [(recipe, release)])
    (entry,) = matrix.entries([recipe])
    assert entry.gates == (matrix.Gate.BUILD, matrix.Gate.REPRODUCE, matrix.Gate.PROVE)
    assert recipe.targets.unmentioned("1.0") == ()


def test_nothing_else_is_touched_and_the_documentation_makes_itself(checkout: Workspace) -> None:
    git(checkout.root, "add", "--all")
    changed = git(checkout.root, "diff", "--cached", "--name-only").split()
    assert sorted(changed) == sorted(FILES)

    docs.renew(checkout)

    assert "| [speedy](docs/defects.md#speedy) | 1.0 (" in (checkout.root / "README.md").read_text()
    defects = (checkout.root / "docs" / "defects.md").read_text()
    assert "| [S1](../probes/speedy/S1.py) | two threads count a thing twice |" in defects
    assert "speedy==1.0+ft.1" in (checkout.root / "docs" / "consume.md").read_text()
