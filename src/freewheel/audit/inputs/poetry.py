"""poetry.lock: a list of packages, each with its groups and, from Poetry 2 on, its marker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

from freewheel.audit.inputs import locked
from freewheel.audit.inputs.locked import FOREIGN, Given, Locked, LockedFile, Selection, Source
from freewheel.audit.target import Target
from freewheel.base.errors import AuditError

FORM = "poetry.lock"
_MAIN = "main"
_SOURCES: dict[str, Source] = {"git": "git", "directory": "path", "file": "path", "url": "url"}


class _File(BaseModel):
    model_config = FOREIGN

    file: str
    hash: str = ""


class _Source(BaseModel):
    model_config = FOREIGN

    type: str = "legacy"
    url: str = ""


class _Package(BaseModel):
    model_config = FOREIGN

    name: str
    version: str
    optional: bool = False
    category: str = ""
    groups: list[str] = []
    markers: str | dict[str, str] = ""
    files: list[_File] = []
    dependencies: dict[str, Any] = {}
    source: _Source = _Source()

    @property
    def asked_by(self) -> list[str]:
        """The groups that ask for it; before Poetry 1.5 there were only main and dev."""
        return self.groups or [self.category or _MAIN]

    def marker(self, group: str) -> str:
        """Its marker in a group; "" where it is needed on every target."""
        return self.markers if isinstance(self.markers, str) else self.markers.get(group, "")


class _Metadata(BaseModel):
    model_config = FOREIGN

    lock_version: str
    python_versions: str = ""
    files: dict[str, list[_File]] = {}


class _Lock(BaseModel):
    model_config = FOREIGN

    package: list[_Package] = []
    metadata: _Metadata
    extras: dict[str, list[str]] = {}


def read(path: Path, content: Mapping[str, Any], target: Target, selection: Selection) -> Given:
    """What the lock brings to the target. Raises AuditError."""
    lock = locked.parsed(path, FORM, _Lock, content)
    if lock.metadata.lock_version.partition(".")[0] not in ("1", "2"):
        raise locked.unknown_version(path, FORM, lock.metadata.lock_version, "1.x and 2.x")
    groups = {group for package in lock.package for group in package.asked_by}
    chosen = groups if selection.dev or selection.all_groups else {_MAIN, *selection.groups}
    extras = set(lock.extras) if selection.all_extras else set(selection.extras)
    unknown = [f"no group {name!r}" for name in set(selection.groups) - groups]
    unknown += [f"no extra {name!r}" for name in extras - set(lock.extras)]
    if unknown:
        raise AuditError(
            f"{path} does not have what was asked for",
            problems=unknown,
            hint=f"it has the groups {', '.join(sorted(groups))} and the extras "
            f"{', '.join(sorted(lock.extras)) or 'none'}",
        )
    optional = _reached(lock, extras)
    note = locked.python_note(_specifiers(lock.metadata.python_versions), target)
    found = []
    try:
        for package in lock.package:
            fitting = [
                group
                for group in package.asked_by
                if group in chosen and locked.holds(package.marker(group), target, extras)
            ]
            if fitting and (not package.optional or canonicalize_name(package.name) in optional):
                files = package.files or lock.metadata.files.get(package.name, [])
                development = _MAIN not in fitting
                found.append(_as_locked(package, files, str(path), note, development=development))
    except ValueError as error:
        raise locked.broken(path, FORM, [str(error)]) from error
    missing = sorted(set(lock.extras) - extras)
    left_out = f"not audited: extras {', '.join(missing)} (--extra NAME)" if missing else ""
    return Given(
        path=path,
        form=FORM,
        distributions=tuple(found),
        notes=tuple(filter(None, (note, left_out))),
    )


def _specifiers(constraint: str) -> str:
    """Poetry's ``^3.11`` and ``~3.11`` as the specifiers of everybody else."""
    parts = []
    for part in filter(None, (part.strip() for part in constraint.split(","))):
        if part.startswith("^"):
            parts += [f">={part[1:]}", f"<{int(part[1:].split('.')[0]) + 1}"]
        elif part.startswith("~") and not part.startswith("~="):
            parts.append(f"=={'.'.join(part[1:].split('.')[:2])}.*")
        elif part != "*":
            parts.append(part)
    return ",".join(parts)


def _reached(lock: _Lock, extras: Iterable[str]) -> set[str]:
    """The optional packages that the chosen extras bring."""
    packages = {canonicalize_name(package.name): package for package in lock.package}
    waiting = [name for extra in extras for name in lock.extras[extra]]
    found: set[str] = set()
    while waiting:
        text = waiting.pop()
        try:
            name = canonicalize_name(Requirement(text).name)
        except InvalidRequirement:
            name = canonicalize_name(text.partition(" ")[0])
        if name not in found and name in packages:
            found.add(name)
            waiting += packages[name].dependencies
    return found


def _as_locked(
    package: _Package, files: Iterable[_File], origin: str, note: str, *, development: bool
) -> Locked:
    source = _SOURCES.get(package.source.type, "index")
    return Locked(
        name=canonicalize_name(package.name),
        version=package.version,
        origin=origin,
        source=source,
        where="" if source == "index" else package.source.url,
        files=tuple(
            LockedFile(name=file.file, sha256=locked.sha256_of(file.hash)) for file in files
        ),
        complete=source != "index" or not note,
        development=development,
    )
