"""uv.lock: a graph of packages, walked from the application's own to what the target needs."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from pydantic import BaseModel

from freewheel.audit.inputs import locked
from freewheel.audit.inputs.locked import FOREIGN, Given, Locked, LockedFile, Selection, Source
from freewheel.audit.target import Target
from freewheel.base.errors import AuditError

FORM = "uv.lock"
_VERSION = 1
_SOURCES: dict[str, Source] = {
    "registry": "index",
    "git": "git",
    "url": "url",
    "path": "path",
    "directory": "path",
    "editable": "path",
    "virtual": "path",
}


class _Dependency(BaseModel):
    model_config = FOREIGN

    name: str
    version: str = ""
    source: dict[str, str] | None = None
    marker: str = ""
    extra: list[str] = []


class _File(BaseModel):
    model_config = FOREIGN

    url: str = ""
    path: str = ""
    filename: str = ""
    hash: str = ""

    def as_locked(self) -> LockedFile:
        place = self.filename or self.url or self.path
        name = locked.name_in(place)
        return LockedFile(name=name, sha256=locked.sha256_of(self.hash), url=self.url)


class _Package(BaseModel):
    model_config = FOREIGN

    name: str
    version: str = ""
    source: dict[str, str]
    dependencies: list[_Dependency] = []
    optional_dependencies: dict[str, list[_Dependency]] = {}
    dev_dependencies: dict[str, list[_Dependency]] = {}
    resolution_markers: list[str] = []
    sdist: _File | None = None
    wheels: list[_File] = []

    @property
    def key(self) -> tuple[str, str, str]:
        return self.name, self.version, str(sorted(self.source.items()))


class _Manifest(BaseModel):
    model_config = FOREIGN

    members: list[str] = []
    requirements: list[_Dependency] = []
    dependency_groups: dict[str, list[_Dependency]] = {}


class _Lock(BaseModel):
    model_config = FOREIGN

    requires_python: str = ""
    supported_markers: list[str] = []
    manifest: _Manifest = _Manifest()
    package: list[_Package]


@dataclass(frozen=True, slots=True)
class _Walk:
    """The walk through the graph for one target."""

    target: Target
    packages: Mapping[str, list[_Package]]
    active: tuple[str, ...]  # how uv spells, in markers, the extras and groups that are chosen

    def reached(self, edges: Iterable[_Dependency]) -> dict[tuple[str, str, str], _Package]:
        """All packages that these dependencies bring, by key."""
        found: dict[tuple[str, str, str], _Package] = {}
        seen: set[tuple[tuple[str, str, str], str]] = set()
        waiting = list(edges)
        while waiting:
            edge = waiting.pop()
            if not locked.holds(edge.marker, self.target, self.active):
                continue
            for package in self._meant(edge):
                found[package.key] = package
                for extra in ("", *edge.extra):
                    if (package.key, extra) not in seen:
                        seen.add((package.key, extra))
                        more = package.optional_dependencies.get(extra, [])
                        waiting += more if extra else package.dependencies
        return found

    def _meant(self, edge: _Dependency) -> Iterator[_Package]:
        """The package of a dependency; of several forks, the one that is for the target.

        Raises ValueError where the lock names it and does not have it.
        """
        if edge.name not in self.packages:
            raise ValueError(f"{edge.name} is needed, but it is not in the lock: it was cut short")
        for package in self.packages.get(edge.name, ()):
            if edge.version and package.version != edge.version:
                continue
            if edge.source and package.source != edge.source:
                continue
            forks = package.resolution_markers
            if not forks or any(locked.holds(marker, self.target) for marker in forks):
                yield package


def read(path: Path, content: Mapping[str, Any], target: Target, selection: Selection) -> Given:
    """What the lock brings to the target. Raises AuditError."""
    if content.get("version") != _VERSION:
        raise locked.unknown_version(path, FORM, content.get("version"), str(_VERSION))
    lock = locked.parsed(path, FORM, _Lock, content)
    packages: dict[str, list[_Package]] = defaultdict(list)
    for package in lock.package:
        packages[package.name].append(package)
    roots = _roots(lock)
    if not roots:
        problem = "the application itself is not in it: it was cut short"
        raise locked.broken(path, FORM, [problem])
    _check_names(path, roots, selection)
    walk = _Walk(target, packages, tuple(_spelled(roots, selection)))
    try:
        production = walk.reached(_edges(roots, selection, groups=()))
        groups = _groups(path, roots, selection)
        everything = walk.reached(_edges(roots, selection, groups=groups))
        supported = not lock.supported_markers or any(
            locked.holds(marker, target) for marker in lock.supported_markers
        )
    except ValueError as error:
        raise locked.broken(path, FORM, [str(error)]) from error
    note = locked.python_note(lock.requires_python, target) if lock.requires_python else ""
    own = {root.key for root in roots}
    return Given(
        path=path,
        form=FORM,
        distributions=tuple(
            _as_locked(
                package,
                str(path),
                complete=supported and not note,
                development=key not in production,
            )
            for key, package in sorted(everything.items())
            if key not in own
        ),
        notes=tuple(filter(None, (note, _left_out(roots, selection, groups)))),
    )


def _roots(lock: _Lock) -> list[_Package]:
    """The application itself: the members of the workspace."""
    members = set(lock.manifest.members)
    kinds = ("virtual", "editable")
    found = [
        package
        for package in lock.package
        if package.name in members or any(package.source.get(kind) == "." for kind in kinds)
    ]
    if lock.manifest.requirements or lock.manifest.dependency_groups:
        # A script, or a workspace whose root is no project of its own.
        own = {
            "name": "",
            "source": {"virtual": "."},
            "dependencies": lock.manifest.requirements,
            "dev-dependencies": lock.manifest.dependency_groups,
        }
        found.append(_Package.model_validate(own))
    return found


def _edges(
    roots: Iterable[_Package], selection: Selection, *, groups: Iterable[str]
) -> Iterator[_Dependency]:
    for root in roots:
        yield from root.dependencies
        for extra, edges in root.optional_dependencies.items():
            if selection.all_extras or extra in selection.extras:
                yield from edges
        for group in groups:
            yield from root.dev_dependencies.get(group, ())


def _groups(path: Path, roots: Iterable[_Package], selection: Selection) -> list[str]:
    """The groups that are chosen: uv's default groups, and those that are named."""
    if selection.all_groups:
        return sorted({group for root in roots for group in root.dev_dependencies})
    default = _default_groups(path.with_name("pyproject.toml")) if selection.dev else []
    return [*default, *selection.groups]


def _default_groups(pyproject: Path) -> list[str]:
    """What the project beside the lock says (``tool.uv.default-groups``), else ``dev``."""
    try:
        settings = tomllib.loads(pyproject.read_text(encoding="utf-8"))
        chosen = settings["tool"]["uv"]["default-groups"]
    except (OSError, ValueError, KeyError, TypeError):
        return ["dev"]
    return chosen if isinstance(chosen, list) else ["dev"]


def _check_names(path: Path, roots: Iterable[_Package], selection: Selection) -> None:
    extras = {extra for root in roots for extra in root.optional_dependencies}
    groups = {group for root in roots for group in root.dev_dependencies}
    problems = [f"no extra {name!r}" for name in selection.extras if name not in extras]
    problems += [f"no group {name!r}" for name in selection.groups if name not in groups]
    if problems:
        problems.append(f"it has the extras {', '.join(sorted(extras)) or 'none'}")
        problems.append(f"it has the groups {', '.join(sorted(groups)) or 'none'}")
        raise AuditError(
            f"{path} does not have what was asked for",
            problems=problems,
            hint="correct --extra and --group",
        )


def _spelled(roots: Iterable[_Package], selection: Selection) -> Iterator[str]:
    """How uv spells the chosen extras and groups in the markers of conflicting ones."""
    for root in roots:
        for kind, names in (("extra", selection.extras), ("group", selection.groups)):
            for name in names:
                yield f"{kind}-{len(root.name)}-{root.name}-{name}"


def _left_out(roots: Iterable[_Package], selection: Selection, groups: Iterable[str]) -> str:
    extras = {extra for root in roots for extra in root.optional_dependencies}
    others = {group for root in roots for group in root.dev_dependencies} - set(groups)
    extras = set() if selection.all_extras else extras - set(selection.extras)
    parts = []
    if extras:
        parts.append(f"extras {', '.join(sorted(extras))} (--extra NAME, --all-extras)")
    if others:
        parts.append(f"groups {', '.join(sorted(others))} (--group NAME, --all-groups)")
    return f"not audited: {'; '.join(parts)}" if parts else ""


def _as_locked(package: _Package, origin: str, *, complete: bool, development: bool) -> Locked:
    kind = next(iter(package.source), "registry")
    source = _SOURCES.get(kind, "url")
    listed = [*package.wheels, *([package.sdist] if package.sdist else [])]
    return Locked(
        name=canonicalize_name(package.name),
        version=package.version,
        origin=origin,
        source=source,
        where="" if source == "index" else package.source.get(kind, ""),
        files=tuple(file.as_locked() for file in listed),
        complete=complete or source != "index",
        development=development,
    )
