"""A job: one wheel that is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from freewheel.recipe.recipe import Recipe, Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One wheel that is wanted: a release of a recipe, patched or as a baseline."""

    recipe: Recipe
    release: Release
    baseline: bool
    target: str

    @property
    def version(self) -> str:
        return self.release.version if self.baseline else self.release.local_version

    @property
    def title(self) -> str:
        return f"{self.recipe.name} {self.version}" + (" (baseline)" if self.baseline else "")

    @property
    def slug(self) -> str:
        return f"{self.recipe.name}-{self.version}-{self.target}"
