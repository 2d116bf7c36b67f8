"""Patches: applied exactly, or refused with the reason; git itself does the work."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from freewheel.base.errors import PatchError
from freewheel.build.patches import PatchedTree, apply_series, read_series
from freewheel.recipe.recipe import Release

HEADER = """\
Description: Count without a race
 The counter was read and written in two steps.
 .
 Now it is one.
Origin: vendor
Forwarded: no
Author: The Freewheel authors
Last-Update: 2026-11-23
X-Defect: S1
X-Release: 1.0
---
"""
SOURCE = "".join(f"line {number}\n" for number in range(1, 21))
DIFF = """\
diff --git a/speedy/core.py b/speedy/core.py
--- a/speedy/core.py
+++ b/speedy/core.py
@@ -9,5 +9,6 @@
 line 9
 line 10
-line 11
+line eleven
+line eleven and a half
 line 12
 line 13
"""


def release(*patches: Path) -> Release:
    return Release(
        project="speedy",
        version="1.0",
        sha256="0" * 64,
        released=datetime(2026, 1, 1, tzinfo=UTC),
        revision=1,
        patches=patches,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree" / "speedy-1.0"
    (root / "speedy").mkdir(parents=True)
    (root / "speedy" / "core.py").write_text(SOURCE)
    return root


def write(tmp_path: Path, text: str, name: str = "0001-count.patch") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def apply(tree: Path, *patches: Path) -> PatchedTree:
    wanted = release(*patches)
    return apply_series(tree, wanted, read_series(wanted))


def test_a_patch_is_applied_and_its_header_read(tmp_path: Path, tree: Path) -> None:
    patched = apply(tree, write(tmp_path, HEADER + DIFF))

    assert "line eleven and a half\n" in (tree / "speedy" / "core.py").read_text()
    assert patched.changed == {"speedy/core.py"}
    assert patched.series[0].summary == "Count without a race"
    assert patched.series[0].defects == ("S1",)
    assert patched.series[0].fields["Description"].endswith("\n\nNow it is one.")


def test_one_cause_can_have_several_defects(tmp_path: Path) -> None:
    text = HEADER.replace("X-Defect: S1", "X-Defect: S1, S2") + DIFF

    (patch,) = read_series(release(write(tmp_path, text)))

    assert patch.defects == ("S1", "S2")


def test_inside_another_repository_nothing_is_skipped(tmp_path: Path, tree: Path) -> None:
    # Without a ceiling, git finds this repository, takes the tree's paths as relative to its root,
    # prints "Skipped patch" and exits 0.
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)

    apply(tree, write(tmp_path, HEADER + DIFF))

    assert "line eleven\n" in (tree / "speedy" / "core.py").read_text()


def test_the_trap_is_real(tmp_path: Path, tree: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    patch = write(tmp_path, HEADER + DIFF)

    done = subprocess.run(["git", "apply", patch], cwd=tree, check=False)

    assert done.returncode == 0
    assert (tree / "speedy" / "core.py").read_text() == SOURCE


def test_a_patch_that_is_already_upstream_says_so(tmp_path: Path, tree: Path) -> None:
    patch = write(tmp_path, HEADER + DIFF)
    apply(tree, patch)

    with pytest.raises(PatchError, match=r"0001-count\.patch is already in speedy 1\.0"):
        apply(tree, patch)


def test_a_patch_that_does_not_apply_shows_the_hunk_and_the_tree(
    tmp_path: Path, tree: Path
) -> None:
    core = tree / "speedy" / "core.py"
    core.write_text(SOURCE.replace("line 11\n", "line XI\n"))

    with pytest.raises(PatchError) as caught:
        apply(tree, write(tmp_path, HEADER + DIFF))

    message = str(caught.value)
    assert "does not apply to speedy 1.0" in message
    assert "speedy/core.py:9" in message
    assert "+line eleven and a half" in message
    assert "+line XI" in message


def test_an_offset_is_refused(tmp_path: Path, tree: Path) -> None:
    core = tree / "speedy" / "core.py"
    core.write_text("one more\ntwo more\n" + SOURCE)

    with pytest.raises(PatchError, match="hunk 1 lands at line 11, 2 lines away"):
        apply(tree, write(tmp_path, HEADER + DIFF))

    assert core.read_text() == "one more\ntwo more\n" + SOURCE


def test_a_failing_patch_leaves_the_tree_untouched(tmp_path: Path, tree: Path) -> None:
    two_files = DIFF + DIFF.replace("core.py", "absent.py")

    with pytest.raises(PatchError, match=r"absent\.py"):
        apply(tree, write(tmp_path, HEADER + two_files))

    assert (tree / "speedy" / "core.py").read_text() == SOURCE


@pytest.mark.parametrize("text", [HEADER, HEADER + "nothing here\n", HEADER + DIFF[:-20]])
def test_what_is_not_a_whole_patch_is_refused(tmp_path: Path, tree: Path, text: str) -> None:
    with pytest.raises(PatchError, match="not a patch that git understands"):
        apply(tree, write(tmp_path, text))


def test_files_can_be_added_and_removed(tmp_path: Path, tree: Path) -> None:
    (tree / "old.py").write_text("gone\n")
    diff = (
        "diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n"
        "@@ -0,0 +1 @@\n+here\n"
        "diff --git a/old.py b/old.py\ndeleted file mode 100644\n--- a/old.py\n+++ /dev/null\n"
        "@@ -1 +0,0 @@\n-gone\n"
    )

    patched = apply(tree, write(tmp_path, HEADER + diff))

    assert patched.changed == {"new.py", "old.py"}
    assert (tree / "new.py").read_text() == "here\n"
    assert not (tree / "old.py").exists()


def test_the_second_patch_builds_on_the_first(tmp_path: Path, tree: Path) -> None:
    second = DIFF.replace("-line 11\n+line eleven\n+line eleven and a half\n", "").replace(
        "@@ -9,5 +9,6 @@\n line 9\n line 10\n",
        "@@ -10,5 +10,4 @@\n line 10\n line eleven\n-line eleven and a half\n",
    )

    apply(tree, write(tmp_path, HEADER + DIFF), write(tmp_path, HEADER + second, "0002-less.patch"))

    assert (tree / "speedy" / "core.py").read_text() == SOURCE.replace("line 11", "line eleven")


def test_every_missing_field_of_every_header_is_reported(tmp_path: Path) -> None:
    first = write(tmp_path, HEADER.replace("Origin: vendor\n", "") + DIFF)
    second = write(
        tmp_path,
        HEADER.replace("X-Defect: S1\n", "").replace("X-Release: 1.0", "X-Release: 1.1") + DIFF,
        "0002-count.patch",
    )

    with pytest.raises(PatchError) as caught:
        read_series(release(first, second))

    assert list(caught.value.problems) == [
        "0001-count.patch: no field Origin",
        "0002-count.patch: no field X-Defect",
        "0002-count.patch: X-Release is 1.1, the series is for 1.0",
    ]
