"""What the documentation names is what the recipes have."""

from __future__ import annotations

import re
from pathlib import Path

from freewheel.build.patches import read_series
from freewheel.recipe.recipe import load_recipes

ROOT = Path(__file__).parents[2]


def test_the_pins_of_the_documentation_are_of_today() -> None:
    today = {
        f"{recipe.name}=={recipe.default_release.local_version}"
        for recipe in load_recipes(ROOT / "recipes", ROOT / "patches")
    }

    told = re.findall(r"\b[a-z0-9-]+==[0-9.]+\+ft\.\d+", (ROOT / "docs/consume.md").read_text())

    assert told
    assert set(told) == today


def test_the_readme_tells_each_defect_that_is_mended() -> None:
    rows = (ROOT / "README.md").read_text().splitlines()

    for recipe in load_recipes(ROOT / "recipes", ROOT / "patches"):
        (row,) = [row for row in rows if row.startswith(f"| {recipe.name} |")]
        told = set(re.findall(r"\*\*(\w+)\*\*", row))
        mended = {
            defect
            for release in recipe.releases
            for patch in read_series(release)
            for defect in patch.defects
        }
        assert told == mended
