"""Which recipes, releases and interpreters the words of a command line mean."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from freewheel.base import console
from freewheel.base.errors import BuildError, FreewheelError
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build import buildinfo, finished
from freewheel.build.job import Job
from freewheel.build.wheel import host_target
from freewheel.recipe.pythons import DEFAULT, PYTHONS, Python
from freewheel.recipe.recipe import Recipe, Release, choose_recipe, load_recipes
from freewheel.recipe.targets import own_target

_R = TypeVar("_R")
_C = TypeVar("_C", bound=Callable[..., Any])
_TAGS = [python.tag for python in PYTHONS]
_CHOOSING = ("projects", "versions", "all_releases", "tag", "all_pythons", "target")

python_option = click.option(
    "--python", "tag", type=click.Choice(_TAGS), help=f"{DEFAULT} by default."
)


def _begin_so(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """The projects whose names begin so, for the shell that completes a word."""
    try:
        recipes = find_workspace().recipes
    except FreewheelError:
        return []
    return sorted(path.stem for path in recipes.glob("*.toml") if path.stem.startswith(begun))


def projects_argument(command: _C) -> _C:
    """Let a command take names of projects; none means all."""
    return click.argument("projects", nargs=-1, shell_complete=_begin_so)(command)


def project_argument(command: _C) -> _C:
    """Let a command take the name of one project."""
    return click.argument("project", shell_complete=_begin_so)(command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was asked for: projects (none: all), releases, and targets or interpreters.

    Without ``versions`` and ``all_releases`` it is each recipe's default release.
    """

    projects: tuple[str, ...]
    versions: tuple[str, ...] = ()
    all_releases: bool = False
    targets: tuple[str | Python, ...] = (DEFAULT,)


def options(*, targets: bool = False) -> Callable[[Callable[..., _R]], Callable[..., _R]]:
    """Give a command a Choice as its first argument; ``targets`` if one may name a target."""
    words = [
        projects_argument,
        click.option("--release", "versions", multiple=True, metavar="X", help="One; repeatable."),
        click.option("--all-releases", is_flag=True, help="Every release that the recipe carries."),
        python_option,
        click.option("--all-pythons", is_flag=True, help=f"{', then '.join(_TAGS)}."),
    ]
    if targets:
        text = "A target that this machine builds; its own by default."
        words.append(click.option("--target", metavar="IDENTIFIER", help=text))

    def decorate(command: Callable[..., _R]) -> Callable[..., _R]:
        @wraps(command)
        def run(**given: Any) -> _R:  # noqa: ANN401  click gives what the words were
            return command(_choice(**{name: given.pop(name, None) for name in _CHOOSING}), **given)

        for word in reversed(words):
            word(run)
        return run

    return decorate


def _choice(
    *,
    projects: tuple[str, ...],
    versions: tuple[str, ...],
    all_releases: bool,
    tag: str | None,
    all_pythons: bool,
    target: str | None,
) -> Choice:
    if versions and all_releases:
        raise click.UsageError("--release and --all-releases exclude each other")
    if versions and len(projects) != 1:
        raise click.UsageError("--release needs exactly one project")
    if bool(tag) + all_pythons + bool(target) > 1:
        raise click.UsageError("--python, --all-pythons and --target exclude each other")
    one = target or Python(tag or DEFAULT.tag)
    return Choice(
        projects=projects,
        versions=versions,
        all_releases=all_releases,
        targets=PYTHONS if all_pythons else (one,),
    )


def plan(workspace: Workspace, choice: Choice, *, baseline: bool) -> list[Job]:
    """The jobs for what was chosen, target by target.

    A release that is not built for a chosen interpreter is left out, and that is said, unless it
    was named: then it is an error, and so it is if nothing is left. Raises BuildError.
    """
    recipes = chosen_recipes(workspace, choice.projects)
    left_out: list[str] = []
    jobs: list[Job] = []
    for wanted, recipe in itertools.product(choice.targets, recipes):
        for release in _releases(recipe, choice):
            reason = ""
            if isinstance(wanted, Python) and not choice.versions:
                reason = recipe.targets.why_excluded(own_target(wanted), release.version)
            if reason:
                left_out.append(f"{recipe.name} {release.version} on {wanted}: {reason}")
                continue
            target = host_target(recipe, release, wanted)
            jobs.append(Job(recipe=recipe, release=release, baseline=baseline, target=target))
    if left_out and not jobs:
        raise BuildError(
            "nothing of that is built",
            problems=left_out,
            hint="choose another release or interpreter; `excluded` in a recipe says what is not "
            "built for one, and why",
        )
    if not baseline:  # a plan for baselines goes with one for patched wheels, which said it
        for line in left_out:
            console.note(f"left out: {line}")
    return jobs


def chosen_recipes(workspace: Workspace, projects: Sequence[str]) -> list[Recipe]:
    """The recipes of those projects; all of them when none is named."""
    recipes = load_recipes(workspace.recipes, workspace.patches)
    return [choose_recipe(recipes, name) for name in projects] or list(recipes)


def _releases(recipe: Recipe, choice: Choice) -> list[Release]:
    if choice.all_releases:
        return list(recipe.releases)
    if choice.versions:
        return [recipe.release(version) for version in choice.versions]
    return [recipe.default_release]


def verified_records(workspace: Workspace, projects: Sequence[str]) -> list[buildinfo.Record]:
    """The records of the wheels in wheels/, all of which still have the bytes they name."""
    chosen = chosen_recipes(workspace, projects)
    verified = {wheel.path for wheel in finished.verified_wheels(workspace, chosen)}
    records = buildinfo.read_records(workspace.wheels)
    return [record for record in records if record.wheel in verified]
