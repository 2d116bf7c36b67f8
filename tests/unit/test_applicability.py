"""Patches on another release's sources: which fit, which moved, which is in, which hunk is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from freewheel.build.patches import Patch, read_series
from freewheel.upkeep.applicability import State, fit_series
from tests.unit.test_patches import HEADER, SOURCE, release

# Two hunks, so that one of them can fail alone.
TWO = """\
diff --git a/core.py b/core.py
--- a/core.py
+++ b/core.py
@@ -3,3 +3,3 @@
 line 3
-line 4
+line four
 line 5
@@ -15,3 +15,3 @@
 line 15
-line 16
+line sixteen
 line 17
"""
LAST = """\
diff --git a/core.py b/core.py
--- a/core.py
+++ b/core.py
@@ -18,3 +18,3 @@
 line 18
-line 19
+line nineteen
 line 20
"""


@pytest.fixture
def series(tmp_path: Path) -> tuple[Patch, ...]:
    paths = []
    for number, body in enumerate((TWO, LAST), start=1):
        paths.append(tmp_path / f"000{number}-patch.patch")
        paths[-1].write_text(HEADER + body)
    return read_series(release(*paths))


def tree(tmp_path: Path, text: str) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "core.py").write_text(text)
    return root


def test_the_same_sources(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    found = fit_series(tree(tmp_path, SOURCE), series)

    assert [(fit.state, fit.hunks) for fit in found] == [(State.APPLIES, ())] * 2


def test_sources_that_moved(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    found = fit_series(tree(tmp_path, f"a new line\n{SOURCE}"), series)

    assert [fit.state for fit in found] == [State.MOVED] * 2
    assert found[0].hunks[0] == "hunk 1 at line 4, 1 lines away"


def test_what_upstream_has(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    text = SOURCE.replace("line 4\n", "line four\n").replace("line 16\n", "line sixteen\n")

    found = fit_series(tree(tmp_path, text), series)

    assert [fit.state for fit in found] == [State.UPSTREAM, State.APPLIES]


def test_the_hunk_that_does_not_apply_is_named(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    text = SOURCE.replace("line 16\n", "line 16, in other words\n")
    root = tree(tmp_path, text)

    found = fit_series(root, series)

    assert found[0].state is State.CONFLICTS
    assert found[0].hunks == ("core.py: hunk 2",)
    # It left nothing behind, and the next one was tried all the same.
    assert found[1].state is State.APPLIES
    assert (root / "core.py").read_text() == text.replace("line 19\n", "line nineteen\n")
    assert [path.name for path in root.iterdir()] == ["core.py"]


def test_a_file_that_is_gone(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    root = tree(tmp_path, SOURCE)
    (root / "core.py").rename(root / "other.py")

    found = fit_series(root, series)

    assert [fit.state for fit in found] == [State.CONFLICTS] * 2
    assert found[0].hunks == ("core.py: is not there any more",)
