"""Pipfile.lock: names, versions and hashes; which files these are, only the index knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict

from freewheel.audit.inputs import locked
from freewheel.audit.inputs.locked import FOREIGN, Given, Locked, Selection, Source
from freewheel.audit.target import Target
from freewheel.base.errors import AuditError

FORM = "Pipfile.lock"
_SPEC = 6  # the format's number, the same since 2017


class _Entry(BaseModel):
    model_config = FOREIGN

    version: str = ""
    markers: str = ""
    hashes: list[str] = []
    git: str = ""
    path: str = ""
    file: str = ""


class _Requires(BaseModel):
    # Written with underscores, unlike the tables of the other formats.
    model_config = ConfigDict(extra="ignore", frozen=True)

    python_version: str = ""


class _Meta(BaseModel):
    model_config = FOREIGN

    pipfile_spec: int = 0
    requires: _Requires = _Requires()


def read(path: Path, content: Mapping[str, Any], target: Target, selection: Selection) -> Given:
    """What the lock brings to the target. Raises AuditError."""
    meta = locked.parsed(path, FORM, _Meta, content["_meta"])
    if meta.pipfile_spec > _SPEC:
        raise locked.unknown_version(path, FORM, meta.pipfile_spec, str(_SPEC))
    sections = [name for name, value in content.items() if isinstance(value, dict)]
    sections.remove("_meta")
    unknown = [name for name in selection.groups if name not in sections]
    if unknown:
        raise AuditError(
            f"{path} has no group {', '.join(unknown)}", hint=f"it has {', '.join(sections)}"
        )
    everything = selection.dev or selection.all_groups
    chosen = sections if everything else ["default", *selection.groups]
    found: dict[str, Locked] = {}
    try:
        for section in chosen:
            for name, entry in content.get(section, {}).items():
                lines = locked.parsed(path, f"{FORM} at {section}.{name}", _Entry, entry)
                if name not in found and locked.holds(lines.markers, target):
                    found[name] = _as_locked(name, lines, path, development=section != "default")
    except ValueError as error:
        raise locked.broken(path, FORM, [str(error)]) from error
    wanted = meta.requires.python_version
    note = locked.python_note(f"=={wanted}.*", target) if wanted else ""
    return Given(
        path=path,
        form=FORM,
        distributions=tuple(found.values()),
        notes=(note,) if note else (),
    )


def _as_locked(name: str, entry: _Entry, path: Path, *, development: bool) -> Locked:
    source: Source = "index"
    if entry.git:
        source = "git"
    elif entry.path:
        source = "path"
    elif entry.file:
        source = "url" if "://" in entry.file else "path"
    return Locked(
        name=canonicalize_name(name),
        version=entry.version.removeprefix("=="),
        origin=str(path),
        source=source,
        where=entry.git or entry.path or entry.file,
        hashes=frozenset(filter(None, map(locked.sha256_of, entry.hashes))),
        development=development,
    )
