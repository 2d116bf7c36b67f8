"""Which recipes and releases the words of a command line mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo, finished, pipeline
from freewheel.build.job import Job
from freewheel.recipe.recipe import Recipe, Release, choose_recipe, load_recipes

release_option = click.option(
    "--release", "versions", multiple=True, metavar="X", help="A release; repeatable."
)
all_releases_option = click.option(
    "--all-releases", is_flag=True, help="Every release that the recipe carries."
)
target_option = click.option(
    "--target", metavar="IDENTIFIER", help="A target that this machine builds; its own by default."
)


def plan(
    workspace: Workspace,
    projects: Sequence[str],
    versions: Sequence[str],
    *,
    all_releases: bool,
    baseline: bool,
    target: str | None = None,
) -> list[Job]:
    """The jobs for the chosen releases: every one, those named, or each recipe's default.

    ``target`` is a build identifier; without it, the one that this machine runs.

    Raises click.UsageError for words that contradict each other.
    """
    if versions and all_releases:
        raise click.UsageError("--release and --all-releases exclude each other")
    if versions and len(projects) != 1:
        raise click.UsageError("--release needs exactly one project")
    choose = _chooser(versions, all_releases=all_releases)
    recipes = chosen_recipes(workspace, projects)
    return pipeline.plan(recipes, choose, baseline=baseline, target=target)


def chosen_recipes(workspace: Workspace, projects: Sequence[str]) -> list[Recipe]:
    """The recipes of those projects; all of them when none is named."""
    recipes = load_recipes(workspace.recipes, workspace.patches)
    return [choose_recipe(recipes, name) for name in projects] or list(recipes)


def _chooser(
    versions: Sequence[str], *, all_releases: bool
) -> Callable[[Recipe], Sequence[Release]]:
    if all_releases:
        return lambda recipe: recipe.releases
    if versions:
        return lambda recipe: [recipe.release(version) for version in versions]
    return lambda recipe: [recipe.default_release]


def verified_records(workspace: Workspace, projects: Sequence[str]) -> list[buildinfo.Record]:
    """The records of the wheels in wheels/, all of which still have the bytes they name."""
    chosen = chosen_recipes(workspace, projects)
    verified = {wheel.path for wheel in finished.verified_wheels(workspace, chosen)}
    records = buildinfo.read_records(workspace.wheels)
    return [record for record in records if record.wheel in verified]
