"""A job: one wheel that is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from freewheel.recipe.pythons import DEFAULT, Python, python_of
from freewheel.recipe.recipe import Recipe, Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One wheel that is wanted: a release of a recipe, patched or as a baseline.

    With ``compiler_cache``, what was compiled before is not compiled again.
    """

    recipe: Recipe
    release: Release
    baseline: bool
    target: str
    compiler_cache: bool = False

    @property
    def version(self) -> str:
        return self.release.version if self.baseline else self.release.local_version

    @property
    def python(self) -> Python:
        return python_of(self.target)

    @property
    def title(self) -> str:
        title = titled(self.recipe.name, self.version, self.python)
        return title + (" (baseline)" if self.baseline else "")

    @property
    def slug(self) -> str:
        return f"{self.recipe.name}-{self.version}-{self.target}"


def titled(project: str, version: str, python: Python) -> str:
    """What a wheel is called in messages; the interpreter that is usual goes without saying."""
    return f"{project} {version}" + ("" if python == DEFAULT else f" on {python}")
