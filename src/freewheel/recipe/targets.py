"""Stage *load*: what a recipe says of the targets: which are served, and which are not, and why.

A target is a build identifier of cibuildwheel's: an interpreter and a platform.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from freewheel.recipe.platforms import ROWS, find_platform, platform_of
from freewheel.recipe.pythons import PYTHONS, Python
from freewheel.recipe.tables import EVERY, Reason, Some, Specifiers, Table, Word

# By name; all that differs between them is in platforms.py.
PLATFORMS = tuple(row.name for row in ROWS)
# What every recipe must say something about.
CANDIDATES = tuple(f"{python}-{name}" for python in PYTHONS for name in PLATFORMS)


class Limit(Table):
    """Targets, as patterns, of which something does not hold, in the releases that are named.

    One entry of ``build.unproven`` or ``build.excluded``.
    """

    targets: Some[Word]
    reason: Reason
    releases: Specifiers = EVERY

    def concerns(self, target: str, version: str) -> bool:
        fits = any(fnmatch.fnmatchcase(target, pattern) for pattern in self.targets)
        return fits and self.releases.contains(version, prereleases=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets of a recipe.

    ``served`` are built, compared and checked. Of those, ``unproven`` are not proven, and so not
    published. ``excluded`` are not built.
    """

    served: tuple[str, ...]
    unproven: tuple[Limit, ...] = ()
    excluded: tuple[Limit, ...] = ()

    def of_release(self, version: str) -> tuple[str, ...]:
        """The targets that the release is built for."""
        return tuple(t for t in self.served if not self.why_excluded(t, version))

    def why_excluded(self, target: str, version: str) -> str:
        """The reason why the release is not built for that target, "" where there is none."""
        return _reason(self.excluded, target, version)

    def why_unproven(self, target: str, version: str) -> str:
        """The reason why the release is not proven on that target, "" where there is none."""
        return _reason(self.unproven, target, version)

    def unmentioned(self, version: str) -> tuple[str, ...]:
        """The candidates that a recipe neither serves nor excludes for the release."""
        named = set(self.served)
        return tuple(
            target
            for target in CANDIDATES
            if target not in named and not self.why_excluded(target, version)
        )


def _reason(limits: Iterable[Limit], target: str, version: str) -> str:
    return next((limit.reason for limit in limits if limit.concerns(target, version)), "")


def in_container(target: str) -> bool:
    """Whether wheels for the target are built in a container."""
    return bool(platform_of(target).policy)


def own_target(python: Python) -> str:
    """The target that this machine runs with an interpreter; of no known platform, if it is odd."""
    own = next((platform.name for platform in ROWS if platform.is_own), sys.platform)
    return f"{python}-{own}"


def runs_here(target: str) -> bool:
    """Whether this machine's own interpreters can load a wheel for the target."""
    return platform_of(target).is_own


def built_here(target: str) -> bool:
    """Whether this machine can build for the target: its own, or with musl in a container."""
    return platform_of(target).is_built_here


def problems(targets: Targets, versions: Sequence[str]) -> Iterator[str]:
    """What is wrong with them, given the releases that the recipe carries."""
    if not targets.served:
        yield "build.targets: names no target"
    yield from _unknown(targets)
    for key, limits in (("unproven", targets.unproven), ("excluded", targets.excluded)):
        for number, limit in enumerate(limits):
            where = f"build.{key}.{number}"
            known = (*targets.served, *CANDIDATES) if key == "excluded" else targets.served
            for pattern in limit.targets:
                if not fnmatch.filter(known, pattern):
                    yield f"{where}.targets: {pattern!r} fits no target"
            if versions and not any(limit.releases.contains(v, prereleases=True) for v in versions):
                yield f"{where}.releases: {limit.releases} fits no release"
    for target in targets.served:
        if versions and all(targets.why_excluded(target, version) for version in versions):
            yield f"build.targets: {target} is excluded for every release; take it out"


def _unknown(targets: Targets) -> Iterator[str]:
    for target in targets.served:
        if find_platform(target) is None:
            yield f"build.targets: {target} is for no platform of {', '.join(PLATFORMS)}"
