"""Wheels that others are built with: made first, seen by those builds, and inputs of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import files
from freewheel.base.errors import BuildError
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo
from freewheel.build.job import Job
from freewheel.recipe.recipe import Recipe, choose_recipe, load_recipes

INPUT = "wheel "  # and the project


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededWheel:
    """A patched wheel that a recipe names in ``build.needs``."""

    project: str
    version: str
    path: Path
    sha256: str

    @property
    def input(self) -> str:
        """Its name among the inputs of a wheel."""
        return f"{INPUT}{self.project}"

    @property
    def pin(self) -> str:
        """As an entry of a lock of build requirements."""
        return f"{self.project}=={self.version} \\\n    --hash=sha256:{self.sha256}\n"


def with_needed(workspace: Workspace, jobs: Sequence[Job]) -> list[Job]:
    """The jobs, with those for what they need, which come first."""
    if not any(job.recipe.build.needs for job in jobs):
        return list(jobs)
    recipes = load_recipes(workspace.recipes, workspace.patches)
    found: dict[str, Job] = {}
    for job in jobs:
        _add(job, recipes, found)
    return list(found.values())


def _add(job: Job, recipes: Sequence[Recipe], found: dict[str, Job]) -> None:
    for name in job.recipe.build.needs:  # a circle was refused when the recipes were read
        recipe = choose_recipe(recipes, name)
        release = recipe.default_release
        needed = Job(recipe=recipe, release=release, baseline=False, target=job.target)
        _add(needed, recipes, found)
    found.setdefault(job.slug, job)


def in_waves(jobs: Iterable[Job]) -> list[list[Job]]:
    """The jobs by turns: each turn needs only what the turns before it made."""
    waves: list[list[Job]] = []
    depths: dict[str, int] = {}
    for job in jobs:  # what is needed comes first
        depth = max((depths.get(name, -1) + 1 for name in job.recipe.build.needs), default=0)
        if not job.baseline:
            depths[job.recipe.name] = max(depth, depths.get(job.recipe.name, 0))
        waves += [[] for _ in range(depth + 1 - len(waves))]
        waves[depth].append(job)
    return waves


def wheels_for(workspace: Workspace, job: Job) -> tuple[NeededWheel, ...]:
    """The wheels that the job is built with. Raises BuildError for one that is not there."""
    if not job.recipe.build.needs:
        return ()
    recipes = load_recipes(workspace.recipes, workspace.patches)
    return tuple(_wheel(workspace, recipes, job, name) for name in job.recipe.build.needs)


def _wheel(workspace: Workspace, recipes: Sequence[Recipe], job: Job, name: str) -> NeededWheel:
    version = choose_recipe(recipes, name).default_release.local_version
    record = buildinfo.find_record(
        workspace.wheels, project=name, version=version, target=job.target
    )
    if record is None or not record.wheel.is_file() or files.sha256(record.wheel) != record.sha256:
        raise BuildError(
            f"{job.title} needs {name} {version}, which is not there",
            hint=f"nox -s build-{name} says why",
        )
    return NeededWheel(project=name, version=version, path=record.wheel, sha256=record.sha256)


def beside(wheelhouse: Path, needed: Sequence[NeededWheel], directory: Path) -> Path:
    """A directory with the build requirements and the needed wheels, made once for one build."""
    if not needed:
        return wheelhouse
    if directory.is_dir():
        return directory
    directory.mkdir()
    for path in (*wheelhouse.iterdir(), *(wheel.path for wheel in needed)):
        files.copy(path, directory / path.name)
    return directory
