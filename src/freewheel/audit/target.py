"""The interpreter and the platform that an audit is for: its markers, and the wheels it takes."""

from __future__ import annotations

import functools
import platform as this_machine
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.markers import Environment
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms, platform_tags
from packaging.utils import (
    BuildTag,
    InvalidWheelFilename,
    NormalizedName,
    parse_wheel_filename,
)
from packaging.version import Version

from freewheel.base.errors import AuditError
from freewheel.machine.cpython import pinned_cpythons
from freewheel.recipe.pythons import PYTHONS, Python
from freewheel.recipe.targets import PLATFORMS, runs_here

# The newest C libraries and systems that are taken for granted on another machine than this one.
_GLIBC, _MUSL, _MACOS = 39, 2, (26, 0)
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# What markers call the system of a platform: sys_platform, platform_system and os_name.
_SYSTEMS = {
    "manylinux": ("linux", "Linux", "posix"),
    "musllinux": ("linux", "Linux", "posix"),
    "macosx": ("darwin", "Darwin", "posix"),
    "win": ("win32", "Windows", "nt"),
}
_MACHINES = {"amd64": "AMD64", "arm64": "ARM64"}  # as Windows writes them


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelName:
    """A wheel's file name, taken apart."""

    filename: str
    project: NormalizedName
    version: Version
    build: BuildTag
    tags: frozenset[Tag]

    @property
    def compiled(self) -> bool:
        """Whether it is for one platform, so that it may bring extension modules."""
        return any(tag.platform != "any" for tag in self.tags)


@functools.cache
def wheel_name(filename: str) -> WheelName | None:
    """The parts of a wheel's file name; None for any other name."""
    try:
        project, version, build, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    return WheelName(filename=filename, project=project, version=version, build=build, tags=tags)


@dataclass(frozen=True)
class Target:
    """A free-threaded CPython such as ``cp314t`` on a platform such as ``manylinux_x86_64``."""

    python: str
    platform: str

    def __post_init__(self) -> None:
        for what, value, known in (
            ("--python", self.python, tuple(map(str, PYTHONS))),
            ("--platform", self.platform, PLATFORMS),
        ):
            if value not in known:
                raise AuditError(
                    f"{what} {value!r} is not known", hint=f"choose one of {', '.join(known)}"
                )

    def __str__(self) -> str:
        return f"{self.python}-{self.platform}"

    @property
    def interpreter(self) -> Python:
        """The interpreter, with all that follows from its tag."""
        return Python(self.python)

    @property
    def full_version(self) -> str:
        """The patch release that markers are evaluated for: the newest that is pinned, else .0."""
        pinned = (cpython.version for cpython in pinned_cpythons(self.interpreter))
        return max(pinned, key=Version, default=f"{self.interpreter.version}.0")

    @property
    def runs_here(self) -> bool:
        """Whether this machine's own interpreters can load its wheels."""
        return runs_here(str(self))

    @functools.cached_property
    def environment(self) -> Environment:
        """What environment markers (PEP 508) are evaluated with."""
        kind, _, machine = self.platform.partition("_")
        sys_platform, system, os_name = _SYSTEMS[kind]
        return {
            "implementation_name": "cpython",
            "implementation_version": self.full_version,
            "os_name": os_name,
            "platform_machine": _MACHINES.get(machine, machine) if kind == "win" else machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": system,
            "platform_version": "",
            "python_full_version": self.full_version,
            "python_version": self.interpreter.version,
            "sys_platform": sys_platform,
        }

    @functools.cached_property
    def platforms(self) -> frozenset[str]:
        """Every platform tag whose wheels can be used."""
        return frozenset(_platform_tags(self.platform))

    @functools.cached_property
    def _ranks(self) -> dict[Tag, int]:
        platforms = list(_platform_tags(self.platform))
        interpreter = self.python.removesuffix("t")
        tags = [
            *cpython_tags(self.interpreter.minor, [self.python], platforms),
            *compatible_tags(self.interpreter.minor, interpreter, platforms),
        ]
        return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}

    def rank(self, wheel: WheelName) -> int | None:
        """How well a wheel fits, 0 best; None for a wheel that cannot be used."""
        ranks = [self._ranks[tag] for tag in wheel.tags if tag in self._ranks]
        return min(ranks, default=None)


def this_platform() -> str:
    """The platform of this machine, as a target names it. Raises AuditError for another one."""
    for platform in PLATFORMS:
        if runs_here(f"any-{platform}"):
            return platform
    raise AuditError(
        f"this machine is none of the platforms that Freewheel knows ({this_machine.platform()})",
        hint=f"say which one to audit for: --platform, one of {', '.join(PLATFORMS)}",
    )


def _platform_tags(platform: str) -> Iterator[str]:
    kind, _, machine = platform.partition("_")
    if runs_here(f"any-{platform}"):
        yield from platform_tags()
        return
    match kind:
        case "manylinux":
            for minor in range(_GLIBC, 4, -1):
                yield f"manylinux_2_{minor}_{machine}"
                if minor in _LEGACY:
                    yield f"{_LEGACY[minor]}_{machine}"
            yield f"linux_{machine}"
        case "musllinux":
            for minor in range(_MUSL, -1, -1):
                yield f"musllinux_1_{minor}_{machine}"
            yield f"linux_{machine}"
        case "macosx":
            yield from mac_platforms(_MACOS, machine)
        case _:
            yield platform
