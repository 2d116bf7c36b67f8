"""Stage *load*: what a recipe says of the targets: which are served, and which are not, and why.

A target is a build identifier of cibuildwheel's: an interpreter and a platform.
"""

from __future__ import annotations

import fnmatch
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from freewheel.recipe.pythons import PYTHONS, Python
from freewheel.recipe.tables import EVERY, Reason, Some, Specifiers, Table, Word

PLATFORMS = (
    *("manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"),
    *("macosx_arm64", "macosx_x86_64", "win_amd64", "win_arm64"),
)
# What every recipe must say something about.
CANDIDATES = tuple(f"{python}-{platform}" for python in PYTHONS for platform in PLATFORMS)
# Where cibuildwheel builds in a container; elsewhere it uses the machine itself.
_IN_CONTAINERS = ("manylinux", "musllinux")
# What platform.machine() says, where a target has another word for it.
_MACHINES = {"AMD64": "amd64", "ARM64": "arm64"}


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
    return target.partition("-")[2].startswith(_IN_CONTAINERS)


def own_target(python: Python) -> str:
    """The target that this machine runs with an interpreter."""
    return f"{python}{_this_platform()}"


def runs_here(target: str) -> bool:
    """Whether this machine's own interpreters can load a wheel for the target."""
    return target.endswith(_this_platform())


def built_here(target: str) -> bool:
    """Whether this machine can build for the target: its own, or with musl in a container."""
    return target.endswith((_this_platform(), _this_platform().replace("manylinux", "musllinux")))


def _this_platform() -> str:
    machine = platform.machine()
    match sys.platform:
        case "linux":
            return f"-manylinux_{machine}"
        case "darwin":
            return f"-macosx_{machine}"
        case "win32":
            return f"-win_{_MACHINES.get(machine, machine)}"
        case other:
            return f"-{other}_{machine}"


def problems(targets: Targets, versions: Sequence[str]) -> Iterator[str]:
    """What is wrong with them, given the releases that the recipe carries."""
    if not targets.served:
        yield "build.targets: names no target"
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
