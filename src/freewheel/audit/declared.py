"""What Freewheel itself knows: the defects that its probes declare, and what its wheels fix.

A checkout has it in recipes/, patches/ and probes/. An installed package has copies of these, which
its build puts into ``freewheel/declared``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import platformdirs
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from freewheel.audit.target import Target
from freewheel.base.errors import AuditError
from freewheel.base.workspace import PACKAGE, Workspace
from freewheel.build.patches import read_series
from freewheel.proof.programs import Probe, Programs, Use, load_programs
from freewheel.recipe.recipe import Recipe, Release, load_recipes

_OURS = re.compile(r"^(?P<release>.+)\+ft\.(?P<revision>\d+)$")
_REQUIRES = re.compile(r'^# requires-python = "(?P<python>[^"]*)"$', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A defect of a release, and the version of ours that does not have it ("" if none)."""

    id: str
    title: str
    use: Use
    shows: tuple[str, ...]
    fixed_in: str


def find_workspace() -> Workspace:
    """The checkout that this program runs from, or the declarations in the installed package.

    Raises AuditError where there are none.
    """
    for root in (PACKAGE.parents[1], PACKAGE / "declared"):
        if all((root / name).is_dir() for name in ("recipes", "patches", "probes")):
            cache = os.environ.get("FREEWHEEL_CACHE") or platformdirs.user_cache_dir("freewheel")
            data = os.environ.get("FREEWHEEL_DATA") or platformdirs.user_data_dir("freewheel")
            return Workspace(root=root, cache=Path(cache).resolve(), data=Path(data).resolve())
    raise AuditError(
        "this installation of Freewheel does not have the recipes and probes",
        hint="install it from a wheel or a checkout, not by copying the package",
    )


class Declared:
    """The recipes and the probes, by project."""

    def __init__(self, workspace: Workspace, target: Target) -> None:
        self._workspace = workspace
        self._target = target
        self._programs: dict[str, Programs] = {}

    @cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        """The recipes by the name of their project."""
        loaded = load_recipes(self._workspace.recipes, self._workspace.patches)
        return {recipe.name: recipe for recipe in loaded}

    def programs(self, project: str) -> Programs:
        """The programs of a project; none where there is no recipe."""
        if project not in self._programs:
            self._programs[project] = load_programs(self._workspace.probes, project)
        return self._programs[project]

    def defects(self, project: str, version: str) -> tuple[Defect, ...]:
        """The defects that a release, or a wheel of ours, is known to have on the target."""
        recipe = self.recipes.get(project)
        parts = split_ours(version)
        if recipe is None or not version:
            return ()
        upstream = parts[0] if parts else version
        fixed = self._fixed(recipe, upstream) if parts else frozenset()
        best = self.advised(project, upstream)
        return tuple(
            Defect(
                id=probe.defect,
                title=probe.title,
                use=probe.use,
                shows=tuple(map(str, probe.fails_by)),
                fixed_in=best.local_version if best and self._gone(recipe, best, probe) else "",
            )
            for probe in self.programs(project).probes
            if _concerns(probe, upstream, self._target) and probe.defect not in fixed
        )

    def advised(self, project: str, version: str) -> Release | None:
        """The release of ours to install in place of a version, if it is built for the target.

        The same release where a recipe carries it, else the nearest newer one, else the newest.
        """
        recipe = self.recipes.get(project)
        if recipe is None:
            return None
        served = [
            release
            for release in recipe.releases
            if str(self._target) in recipe.targets.of_release(release.version)
        ]
        parts = split_ours(version)
        try:
            now = Version(parts[0] if parts else version)
        except InvalidVersion:
            return served[0] if served else None
        newer = [release for release in served if Version(release.version) >= now]
        return newer[-1] if newer else (served[0] if served else None)

    def why_unproven(self, release: Release) -> str:
        """Why a release of ours is built for the target, but not proven there; "" where it is."""
        targets = self.recipes[release.project].targets
        return targets.why_unproven(str(self._target), release.version)

    def outdated(self, project: str, version: str) -> str:
        """The newest revision of that wheel of ours, "" where it is the newest itself."""
        parts = split_ours(version)
        recipe = self.recipes.get(project)
        for release in recipe.releases if recipe and parts else ():
            if parts and release.version == parts[0] and release.revision > parts[1]:
                return release.local_version
        return ""

    def _fixed(self, recipe: Recipe, version: str) -> frozenset[str]:
        """The defects that the patches of a release fix."""
        for release in recipe.releases:
            if release.version == version:
                return frozenset(d for patch in read_series(release) for d in patch.defects)
        return frozenset()

    def _gone(self, recipe: Recipe, release: Release, probe: Probe) -> bool:
        """Whether a wheel of ours does not have a defect: fixed by a patch, or by upstream."""
        fixed = probe.defect in self._fixed(recipe, release.version)
        return fixed or not _concerns(probe, release.version, self._target)


def split_ours(version: str) -> tuple[str, int] | None:
    """The release and the revision of a version of ours, ``X+ft.N``; None for any other."""
    match = _OURS.match(version)
    return (match["release"], int(match["revision"])) if match else None


def _concerns(probe: Probe, version: str, target: Target) -> bool:
    try:
        concerned = probe.releases.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False
    required = _REQUIRES.search(probe.path.read_text(encoding="utf-8"))
    try:
        python = SpecifierSet(required["python"] if required else "")
    except InvalidSpecifier:
        return concerned
    return concerned and python.contains(target.full_version, prereleases=True)
