"""Carrying patches over: a real three-way merge, conflicts left to solve, headers intact."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from freewheel.base.errors import PatchError, UpstreamError
from freewheel.base.workspace import Workspace
from freewheel.build.patches import read_series
from freewheel.recipe.recipe import Recipe, load_recipe
from freewheel.upkeep.refresh import Refreshed, refresh
from freewheel.upkeep.upstream import offer_of
from tests.unit.indexmaker import make_index, make_sdist
from tests.unit.test_patches import HEADER, SOURCE

RECIPE = """\
# A comment that stays.
[project]
name = "speedy"
summary = "counts"
import-name = "speedy"
source-url = "https://example.com/speedy"

[build]
version = [{{ file = "speedy.py", pattern = "VERSION = '{{version}}'" }}]
requires = ["setuptools"]
targets = ["cp314t-manylinux_x86_64"]

[releases."1.0"]
sha256 = "{sha256}"
released = 2026-01-01T00:00:00Z
revision = 4
patches = ["0001-four.patch", "0002-sixteen.patch"]  # and this one

[[releases."1.0".vendored]]
name = "small"
version = "7"
licence = "MIT"
path = "speedy.py"
"""


def change(number: int, word: str) -> str:
    """A patch that writes a number out in full."""
    context = [f" line {number - 1}", f"-line {number}", f"+line {word}", f" line {number + 1}"]
    start = f"@@ -{number - 1},3 +{number - 1},3 @@"
    head = ["diff --git a/core.py b/core.py", "--- a/core.py", "+++ b/core.py", start]
    return HEADER + "\n".join([*head, *context]) + "\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "checkout"
    series = root / "patches" / "speedy" / "1.0"
    series.mkdir(parents=True)
    (series / "0001-four.patch").write_text(change(4, "four"))
    (series / "0002-sixteen.patch").write_text(change(16, "sixteen"))
    (root / "recipes").mkdir()
    return Workspace(root=root, cache=tmp_path / "cache", data=tmp_path / "data")


def published(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, newer: str
) -> tuple[Recipe, Path]:
    """The recipe of a project whose release 2.0 has ``newer`` as its core.py."""
    sdists = [
        make_sdist(workspace.root.parent / "sdists", "speedy", version, {"core.py": text})
        for version, text in (("1.0", SOURCE), ("2.0", newer))
    ]
    files = {path.name: path.read_bytes() for path in sdists}
    index = make_index(workspace.root.parent / "index", "speedy", files)
    monkeypatch.setenv("UV_DEFAULT_INDEX", str(index))
    path = workspace.recipes / "speedy.toml"
    path.write_text(RECIPE.format(sha256=hashlib.sha256(sdists[0].read_bytes()).hexdigest()))
    return load_recipe(path, workspace.patches), path


def carry(workspace: Workspace, recipe: Recipe, *, proceed: bool = False) -> Refreshed:
    return refresh(workspace, recipe, offer_of("speedy", "2.0").as_release(), proceed=proceed)


def test_a_series_is_carried_over_with_its_headers(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, path = published(workspace, monkeypatch, f"a new line\n{SOURCE}")
    before = path.read_text()

    done = carry(workspace, recipe)

    assert done.written == ("0001-four.patch", "0002-sixteen.patch")
    made = load_recipe(path, workspace.patches)
    release = made.default_release
    assert (release.version, release.revision) == ("2.0", 1)
    assert [part.name for part in release.vendored] == ["small"]
    # What a person wrote is still there, word for word, below the new release.
    head, _, tail = before.partition('[releases."1.0"]')
    assert path.read_text().startswith(f'{head}[releases."2.0"]')
    assert path.read_text().endswith(f'[releases."1.0"]{tail}')
    for old, new in zip(read_series(recipe.default_release), read_series(release), strict=True):
        assert dict(new.fields) == {**old.fields, "X-Release": "2.0"}
    text = release.patches[0].read_text()
    assert text.startswith(HEADER.replace("X-Release: 1.0", "X-Release: 2.0"))
    assert "@@ -2,7 +2,7 @@" in text


def test_what_upstream_has_is_left_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = SOURCE.replace("line 4\n", "line four\n")
    recipe, _ = published(workspace, monkeypatch, newer)

    done = carry(workspace, recipe)

    assert done.written == ("0002-sixteen.patch",)
    assert done.upstream == ("0001-four.patch",)


def test_a_conflict_is_left_to_solve_and_then_gone_on_with(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, path = published(workspace, monkeypatch, SOURCE.replace("line 4\n", "line IV\n"))
    before = path.read_text()

    with pytest.raises(PatchError, match=r"0001-four\.patch conflicts with speedy 2\.0") as caught:
        carry(workspace, recipe)

    assert caught.value.problems == ("in core.py",)
    assert path.read_text() == before
    assert not (workspace.patches / "speedy" / "2.0").exists()
    repository = workspace.cache / "refresh" / "speedy-2.0"
    assert str(repository) in caught.value.hint
    text = (repository / "core.py").read_text()
    assert "<<<<<<<" in text

    solved = SOURCE.replace("line 4\n", "line four (IV)\n")
    (repository / "core.py").write_text(solved)
    subprocess.run(["git", "add", "core.py"], cwd=repository, check=True)
    done = carry(workspace, recipe, proceed=True)

    assert done.written == ("0001-four.patch", "0002-sixteen.patch")
    patch = (workspace.patches / "speedy" / "2.0" / "0001-four.patch").read_text()
    assert "-line IV\n+line four (IV)\n" in patch
    assert patch.startswith("Description: Count without a race\n The counter was read")
    assert not repository.exists()


def test_a_patch_can_be_skipped(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, _ = published(workspace, monkeypatch, SOURCE.replace("line 4\n", "line IV\n"))
    with pytest.raises(PatchError):
        carry(workspace, recipe)
    repository = workspace.cache / "refresh" / "speedy-2.0"
    told = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", *told, "rebase", "--skip"], cwd=repository, check=True)

    done = carry(workspace, recipe, proceed=True)

    assert done.written == ("0002-sixteen.patch",)


def test_a_release_that_the_recipe_has_is_not_added_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, _ = published(workspace, monkeypatch, SOURCE)

    with pytest.raises(UpstreamError, match=r"carries 1\.0 already"):
        refresh(workspace, recipe, recipe.default_release, proceed=False)
