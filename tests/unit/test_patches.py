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


# ------------------------------------------------------------------ what a patch may not bring in

LINK = """\
diff --git a/speedy/new.txt b/speedy/new.txt
new file mode 120000
--- /dev/null
+++ b/speedy/new.txt
@@ -0,0 +1 @@
+TARGET
\\ No newline at end of file
"""
ODD = {
    "a link to a file of the host": LINK,
    "a submodule": LINK.replace("120000", "160000").replace(
        "TARGET", f"Subproject commit {'1' * 40}"
    ),
    "a new program": LINK.replace("120000", "100755"),
    "a change of mode": "diff --git a/speedy/core.py b/speedy/core.py\n"
    "old mode 100644\nnew mode 100755\n",
    "a change of mode and of lines": DIFF.replace(
        "--- a", "old mode 100644\nnew mode 100755\n--- a"
    ),
    "a rename": "diff --git a/speedy/core.py b/speedy/other.py\nsimilarity index 100%\n"
    "rename from speedy/core.py\nrename to speedy/other.py\n",
    "a copy": "diff --git a/speedy/core.py b/speedy/other.py\nsimilarity index 100%\n"
    "copy from speedy/core.py\ncopy to speedy/other.py\n",
    "an absolute path": "--- /speedy/core.py\n+++ /speedy/core.py\n" + DIFF[DIFF.index("@@") :],
    "a path without a and b": "--- x/speedy/core.py\n+++ y/speedy/core.py\n"
    + DIFF[DIFF.index("@@") :],
    "a path that leads out": DIFF.replace("speedy/core.py", "../secret"),
}


def tree_of(root: Path) -> dict[str, tuple[bool, int, str]]:
    return {
        path.name: (path.is_symlink(), path.stat().st_mode, path.read_text())
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ODD)
def test_a_patch_does_nothing_but_change_lines_of_files(
    tmp_path: Path, tree: Path, kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("one line\n")
    before = tree_of(tree)

    with pytest.raises(PatchError):
        apply(tree, write(tmp_path, HEADER + ODD[kind].replace("TARGET", str(secret))))

    assert tree_of(tree) == before
    assert secret.read_text() == "one line\n"


@pytest.mark.parametrize("place", ["speedy/core.py", "speedy"])
def test_a_file_behind_a_link_of_the_source_is_not_changed(
    tmp_path: Path, tree: Path, place: str
) -> None:
    moved = tree / "elsewhere"
    (tree / place).rename(moved)
    (tree / place).symlink_to(moved)

    with pytest.raises(PatchError, match="touches a link"):
        apply(tree, write(tmp_path, HEADER + DIFF))

    assert "eleven" not in "".join(text for _, _, text in tree_of(tree).values())


def test_a_patch_is_no_link_and_no_directory(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(HEADER + DIFF)
    (tmp_path / "0001-link.patch").symlink_to(tmp_path / "real")
    (tmp_path / "0002-dangling.patch").symlink_to(tmp_path / "nothing")
    (tmp_path / "0003-directory.patch").mkdir()

    for path in tmp_path.glob("*.patch"):
        with pytest.raises(PatchError, match="is no file"):
            read_series(release(path))


def test_a_header_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "0001-count.patch"
    path.write_bytes((HEADER.replace("vendor", "v\u00e9ndor") + DIFF).encode("latin-1"))

    with pytest.raises(PatchError, match="not UTF-8"):
        read_series(release(path))


def test_a_source_in_latin_1_is_patched_in_it(tmp_path: Path, tree: Path) -> None:
    core = tree / "speedy" / "core.py"
    core.write_bytes(SOURCE.replace("line 9", "l\u00efne 9").encode("latin-1"))
    path = tmp_path / "0001-count.patch"
    path.write_bytes(
        HEADER.encode()
        + DIFF.replace("line 9", "l\u00efne 9").replace("eleven", "\u00e9l").encode("latin-1")
    )

    apply(tree, path)

    assert "line \u00e9l and a half\n".encode("latin-1") in core.read_bytes()


def test_a_form_feed_ends_no_line(tmp_path: Path, tree: Path) -> None:
    apply(tree, write(tmp_path, HEADER + DIFF.replace("and a half", "and\fa\u2028half")))

    assert "line eleven and\fa\u2028half\n" in (tree / "speedy" / "core.py").read_text()


@pytest.mark.parametrize("way", ["home", "xdg", "counted", "parameters", "system", "attributes"])
def test_settings_of_the_user_do_not_reach_git(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    attributes = tmp_path / "home" / ".config" / "git" / "attributes"
    attributes.parent.mkdir(parents=True)
    attributes.write_text("* text eol=crlf\n")
    settings = tmp_path / "settings"
    settings.write_text(f"[core]\nattributesFile = {attributes}\n[apply]\nwhitespace = fix\n")
    (tmp_path / "home" / ".gitconfig").write_text(settings.read_text())
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    for variables in {
        "home": [("HOME", str(tmp_path / "home"))],
        "xdg": [("XDG_CONFIG_HOME", str(tmp_path / "home" / ".config"))],
        "counted": [
            *[("GIT_CONFIG_COUNT", "2"), ("GIT_CONFIG_KEY_0", "apply.whitespace")],
            *[("GIT_CONFIG_VALUE_0", "fix"), ("GIT_CONFIG_KEY_1", "core.attributesFile")],
            ("GIT_CONFIG_VALUE_1", str(attributes)),
        ],
        "parameters": [
            (
                "GIT_CONFIG_PARAMETERS",
                f"'core.attributesFile'='{attributes}' 'apply.whitespace'='fix'",
            )
        ],
        "system": [("GIT_CONFIG_SYSTEM", str(settings)), ("GIT_CONFIG_GLOBAL", str(settings))],
        "attributes": [("GIT_ATTR_SOURCE", "HEAD"), ("GIT_DIR", str(tmp_path))],
    }[way]:
        monkeypatch.setenv(*variables)

    apply(tree, write(tmp_path, HEADER + DIFF.replace("and a half", "and a half  ")))

    content = (tree / "speedy" / "core.py").read_bytes()
    assert b"line eleven and a half  \n" in content
    assert b"\r" not in content
