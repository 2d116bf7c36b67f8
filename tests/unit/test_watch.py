"""The watch's verdicts and its report; tests/integration/test_upkeep.py builds a newer release."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from freewheel.base.console import Board
from freewheel.base.workspace import Workspace
from freewheel.recipe.recipe import load_recipes
from freewheel.upkeep import watch, watch_report
from freewheel.upkeep.applicability import Fit, State
from freewheel.upkeep.watch import Evidence, Newer, Watched
from tests.unit.indexmaker import make_index

ROOT = Path(__file__).parents[2]
FIT = Fit(
    patch="0001-count.patch",
    summary="Count without a race",
    defects=("S1",),
    state=State.CONFLICTS,
    hunks=("core.py: hunk 2",),
)
GONE = Evidence(
    defect="S1",
    python="cp314t",
    title="counts | wrong",
    carried={"wrong answer": 3},
    newer={"pass": 10},
    chance=0.0035,
    verdict="gone",
    explanation="",
)
NEWER = Newer(
    version="2.0",
    released="2026-11-25",
    patches=(FIT,),
    evidence=(GONE,),
    droppable=("0001-count.patch",),
)
SERVED = {"cp314t-manylinux_x86_64": True, "cp314t-win_amd64": False}
SEEN = Watched(
    project="speedy",
    carried="1.0",
    newest="2.0",
    since=("2.0", "1.1"),
    served=SERVED,
    newer=NEWER,
    retire="",
)


def test_a_recipe_without_a_patch_is_retired_where_upstream_serves_all() -> None:
    everything = dict.fromkeys(SERVED, True)

    assert "can be retired" in watch._retirement(NEWER, everything)
    assert watch._retirement(NEWER, SERVED) == (
        "no patch is left, but upstream has no wheel for cp314t-win_amd64"
    )
    assert watch._retirement(replace(NEWER, droppable=()), everything) == ""
    assert watch._retirement(replace(NEWER, trouble="it does not build"), everything) == ""
    assert watch._retirement(None, everything) == ""


def test_the_report_has_the_evidence() -> None:
    text = watch_report.markdown([SEEN])

    assert "| speedy | 1.0 | 2.0 | none for cp314t-win_amd64 |" in text
    assert "Released since 1.0: 2.0, 1.1." in text
    assert "| 0001-count.patch | S1 | does not apply: core.py: hunk 2 | yes |" in text
    assert "| S1 counts \\| wrong | cp314t | 3 wrong answer | 10 pass | 3.5e-03 | gone |" in text
    assert "`nox -s refresh-speedy -- 2.0`" in text


def test_what_cannot_be_looked_at_is_in_the_report() -> None:
    trouble = replace(SEEN, newer=replace(NEWER, trouble="the build backend made no sdist"))

    assert "Not everything could be looked at: the build backend made no sdist" in (
        watch_report.markdown([trouble])
    )


def test_both_forms_are_written(tmp_path: Path) -> None:
    quiet = replace(SEEN, newest="1.0", since=(), newer=None)

    watch_report.write(tmp_path / "a", [quiet])
    watch_report.write(tmp_path / "b", [quiet, SEEN])

    assert json.loads((tmp_path / "a" / "report.json").read_text())["noteworthy"] is False
    data = json.loads((tmp_path / "b" / "report.json").read_text())
    assert data["noteworthy"] is True
    assert data["projects"][1]["newer"]["evidence"][0]["verdict"] == "gone"
    assert "| speedy | 1.0 | up to date |" in (tmp_path / "a" / "report.md").read_text()


def test_a_recipe_that_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recipe,) = (
        r for r in load_recipes(ROOT / "recipes", ROOT / "patches") if r.name == "greenlet"
    )
    carried = recipe.default_release
    wheel = f"greenlet-{carried.version}-cp314-cp314t-manylinux_2_24_x86_64.whl"
    files = {carried.sdist_name: b"", wheel: b""}
    monkeypatch.setenv("UV_DEFAULT_INDEX", str(make_index(tmp_path, "greenlet", files)))
    workspace = Workspace(root=ROOT, cache=tmp_path / "cache", data=tmp_path / "data")

    (seen,) = watch.watch(workspace, [recipe], Board())

    assert not seen.noteworthy
    assert seen.newest == carried.version
    assert [target for target, has in seen.served.items() if has] == ["cp314t-manylinux_x86_64"]


def test_a_newer_release_without_an_sdist_is_told_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recipe,) = (
        r for r in load_recipes(ROOT / "recipes", ROOT / "patches") if r.name == "greenlet"
    )
    files = {"greenlet-99.0-py3-none-any.whl": b""}
    monkeypatch.setenv("UV_DEFAULT_INDEX", str(make_index(tmp_path, "greenlet", files)))
    workspace = Workspace(root=ROOT, cache=tmp_path / "cache", data=tmp_path / "data")

    (seen,) = watch.watch(workspace, [recipe], Board())

    assert seen.newer is not None
    assert "no sdist of greenlet 99.0" in seen.newer.trouble
    assert seen.retire == ""
