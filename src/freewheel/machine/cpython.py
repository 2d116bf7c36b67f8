"""CPython's source: which releases are pinned, and the archive of one, its digest checked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources
from pathlib import Path

from packaging.version import Version

from freewheel.base import console, files
from freewheel.base.workspace import Workspace
from freewheel.machine import debian
from freewheel.recipe.pythons import Python


@dataclass(frozen=True, slots=True, kw_only=True)
class CPython:
    """A pinned release of CPython's source; ``paths`` are relative to a mirror."""

    version: str
    sha256: str
    paths: tuple[str, ...]

    def python(self, *, free_threaded: bool) -> Python:
        """What it is when it is built with or without the GIL."""
        major, minor = Version(self.version).release[:2]
        return Python(f"cp{major}{minor}{'t' if free_threaded else ''}")

    @property
    def is_prerelease(self) -> bool:
        return Version(self.version).is_prerelease


@cache
def pinned_cpythons(python: Python) -> tuple[CPython, ...]:
    """The releases of that minor version that may be built here, newest first."""
    text = (resources("freewheel") / "pins" / "cpython.toml").read_text("utf-8")
    data = tomllib.loads(text)
    return tuple(
        CPython(
            version=release["version"],
            sha256=release["sha256"],
            paths=tuple(_path(path, python, release["version"]) for path in data["paths"]),
        )
        for release in data["release"]
        if Version(release["version"]).release[:2] == python.minor
    )


def _path(pattern: str, python: Python, version: str) -> str:
    """The path of a release; the distribution writes ``~`` before what sorts below a release."""
    pre = "".join(map(str, Version(version).pre or ()))
    written = f"{version.removesuffix(pre)}~{pre}" if pre else version
    return pattern.format(minor=python.version, version=written)


def archive_of(workspace: Workspace, cpython: CPython) -> Path:
    """Where the source archive of that release is kept."""
    return workspace.sources / cpython.sha256 / f"cpython-{cpython.version}.tar.xz"


def obtain_cpython(workspace: Workspace, python: Python) -> CPython:
    """The newest pinned release of that minor version whose source can be downloaded.

    Its archive is in the cache then. It comes from the mirrors that apt is configured with. Raises
    AptError.
    """
    with files.locked(workspace.locks / "cpython.lock", what="fetching CPython's source"):
        for cpython in pinned_cpythons(python):
            if _is_there(workspace, cpython) or _download(workspace, cpython):
                return cpython
    raise debian.AptError(
        f"no mirror that apt is configured with has a pinned source archive of {python.version}",
        problems=[f"{cpython.version}: {cpython.sha256}" for cpython in pinned_cpythons(python)],
        hint="check the network, or pin what the mirror has in src/freewheel/pins/cpython.toml",
    )


def _is_there(workspace: Workspace, cpython: CPython) -> bool:
    archive = archive_of(workspace, cpython)
    return archive.exists() and files.sha256(archive) == cpython.sha256


def _download(workspace: Workspace, cpython: CPython) -> bool:
    if not debian.distribution().has_apt:
        return False
    for path in cpython.paths:
        target = archive_of(workspace, cpython)
        if debian.download(path, sha256=cpython.sha256, target=target):
            console.note(f"CPython {cpython.version}: source archive downloaded and checked")
            return True
    return False
