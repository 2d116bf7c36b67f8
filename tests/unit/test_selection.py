"""Which releases the words of a command mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from freewheel.base.errors import RecipeError
from freewheel.base.workspace import Workspace
from freewheel.commands import selection
from freewheel.commands.selection import Choice
from freewheel.recipe.recipe import load_recipes

ROOT = Path(__file__).parents[2]
WORKSPACE = Workspace(root=ROOT, cache=ROOT / "cache", data=ROOT / "data")
RECIPES = {recipe.name: recipe for recipe in load_recipes(WORKSPACE.recipes, WORKSPACE.patches)}
HTTPTOOLS = RECIPES["httptools"]


def planned(
    *projects: str, versions: tuple[str, ...] = (), all_releases: bool = False
) -> list[tuple[str, str]]:
    choice = Choice(
        projects=projects,
        versions=versions,
        all_releases=all_releases,
        targets=("cp314t-manylinux_x86_64",),
    )
    jobs = selection.plan(WORKSPACE, choice, baseline=False)
    return [(job.recipe.name, job.release.version) for job in jobs]


def test_without_words_every_recipe_has_its_newest_release() -> None:
    assert {name for name, _ in planned()} == set(RECIPES)
    for name, version in planned():
        assert version == RECIPES[name].default_release.version


def test_a_project_is_named_as_people_write_it() -> None:
    assert planned("HTTPtools") == [("httptools", HTTPTOOLS.default_release.version)]


def test_releases_are_named_or_all() -> None:
    every = [("httptools", release.version) for release in HTTPTOOLS.releases]

    assert planned("httptools", all_releases=True) == every
    assert planned("httptools", versions=(every[-1][1],)) == every[-1:]


def test_an_unknown_release_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"use 0\.9\.0"):
        planned("httptools", versions=("0.9",))
