"""ThreadSanitizer sees the race that a probe was written for, and not with the patch.

It builds CPython where that is not done yet, so it runs only where FREEWHEEL_TSAN is set, as in
the nightly workflow.
"""

import os
from dataclasses import replace

import pytest

from freewheel.console import Board
from freewheel.errors import UnprovenError
from freewheel.proof.programs import load_programs
from freewheel.proof.races import Origin
from freewheel.proof.sanitizer import SanitizerResult, require_clean, sanitize
from freewheel.recipe import choose_recipe, load_recipes
from freewheel.workspace import find_workspace
from tests.integration.conftest import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not os.environ.get("FREEWHEEL_TSAN"), reason="FREEWHEEL_TSAN is not set"),
]


def run_h1(*, baseline: bool) -> SanitizerResult:
    """One parser fed from several threads, which the patch refuses."""
    recipe = choose_recipe(load_recipes(ROOT / "recipes", ROOT / "patches"), "httptools")
    programs = load_programs(ROOT / "probes", "httptools")
    only = tuple(probe for probe in programs.probes if probe.defect == "H1")
    with Board() as board:
        return sanitize(
            find_workspace(ROOT),
            recipe,
            recipe.default_release,
            replace(programs, probes=only, stress=()),
            board,
            baseline=baseline,
        )


def test_without_the_patch_the_race_is_seen_in_the_projects_own_code() -> None:
    result = run_h1(baseline=True)

    modules = {
        frame.module.rpartition("/")[2].partition(".")[0]
        for race in result.of(Origin.PROJECT)
        for stack in race.report.stacks
        for frame in stack.frames[:1]
    }
    assert "parser" in modules
    assert any("parser.pyx:" in problem for problem in result.problems)
    with pytest.raises(UnprovenError):
        require_clean([result])


def test_with_the_patch_it_is_not() -> None:
    result = run_h1(baseline=False)

    assert [run.program for run in result.runs] == ["H1"]
    require_clean([result])
