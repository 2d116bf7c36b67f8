"""pylock.toml (PEP 751): the file that every tool can write; read with the PyPA's own reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.pylock import (
    Package,
    PackageSdist,
    PackageWheel,
    Pylock,
    PylockUnsupportedVersionError,
    PylockValidationError,
)

from freewheel.audit.inputs import locked
from freewheel.audit.inputs.locked import Given, Locked, LockedFile, Selection, Source
from freewheel.audit.target import Target

FORM = "pylock.toml"


def read(path: Path, content: Mapping[str, Any], target: Target, selection: Selection) -> Given:
    """What the lock brings to the target. Raises AuditError."""
    try:
        lock = Pylock.from_dict(content)
    except PylockUnsupportedVersionError as error:
        raise locked.unknown_version(path, FORM, content.get("lock-version"), "1.0") from error
    except PylockValidationError as error:
        raise locked.broken(path, FORM, [str(error)]) from error
    note = locked.python_note(str(lock.requires_python), target) if lock.requires_python else ""
    extras = lock.extras if selection.all_extras else selection.extras
    default = lock.default_groups if selection.dev else ()
    groups = lock.dependency_groups if selection.all_groups else selection.groups
    chosen = frozenset((*(default or ()), *(groups or ())))
    environment = dict(target.environment)
    values = {**environment, "extras": frozenset(extras or ()), "dependency_groups": chosen}
    production = {**values, "dependency_groups": frozenset(chosen - {"dev"})}
    return Given(
        path=path,
        form=FORM,
        distributions=tuple(
            _as_locked(
                package,
                str(path),
                complete=not note,
                development=not _wanted(package, production),
            )
            for package in lock.packages
            if _wanted(package, values)
        ),
        notes=(note,) if note else (),
    )


def _wanted(package: Package, values: Mapping[str, Any]) -> bool:
    if package.marker is None:
        return True
    return package.marker.evaluate(dict(values), context="lock_file")


def _as_locked(package: Package, origin: str, *, complete: bool, development: bool) -> Locked:
    source: Source = "index"
    where = ""
    if package.vcs:
        source, where = "git", package.vcs.url or package.vcs.path or ""
    elif package.directory:
        source, where = "path", package.directory.path
    elif package.archive:
        source, where = "url", package.archive.url or package.archive.path or ""
    sdists = [package.sdist] if package.sdist else []
    listed: list[PackageWheel | PackageSdist] = [*(package.wheels or ()), *sdists]
    return Locked(
        name=package.name,
        version=str(package.version or ""),
        origin=origin,
        source=source,
        where=where,
        files=tuple(
            LockedFile(name=file.filename, sha256=file.hashes.get("sha256", ""), url=file.url or "")
            for file in listed
        ),
        complete=complete or source != "index",
        development=development,
    )
