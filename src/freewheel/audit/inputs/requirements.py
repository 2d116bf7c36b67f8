"""A requirements file, with or without hashes, and the files that it includes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from freewheel.audit.inputs import locked
from freewheel.audit.inputs.locked import Given, Locked, LockedFile, Source
from freewheel.audit.target import Target
from freewheel.base.errors import AuditError

FORM = "requirements file"
_COMMENT = re.compile(r"(^|\s+)#.*$")  # as pip has it
_OPTION = re.compile(r"\s--?(?P<name>[a-z][a-z-]*)[ =](?P<value>\S+)")
_INCLUDE = re.compile(r"^(-r|--requirement)[ =]?\s*(?P<path>\S.*)$")
_EDITABLE = re.compile(r"^(-e|--editable)[ =]?\s*(?P<what>\S.*)$")
_CONSTRAINT = re.compile(r"^(-c|--constraint)[ =]?\s*(?P<path>\S.*)$")
_URL = re.compile(r"^(?P<kind>git\+|hg\+|svn\+|bzr\+)?[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DEPTH = 20  # of files that include each other


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A logical line; ``place`` is the file and the number of the line it begins at."""

    place: str
    text: str


def read(path: Path, text: str, target: Target) -> Given:
    """What the file brings to the target. Raises AuditError."""
    found: dict[str, Locked] = {}
    problems: list[str] = []
    limits: dict[str, SpecifierSet] = {}
    for line in _lines(path, text, problems, limits):
        try:
            entry = _entry(line, target)
        except ValueError as error:
            problems.append(f"{line.place}: {error}")
            continue
        if entry is not None:
            found.setdefault(entry.name, entry)
    if problems:
        raise AuditError(
            f"{path} cannot be read as a requirements file",
            problems=problems[:8],
            hint="correct the lines that are named; what else can be audited: uv.lock, "
            "pylock.toml, poetry.lock, Pipfile.lock, an environment, a wheel, a crash dump",
        )
    if not found:
        raise AuditError(f"{path} names no distribution", hint="name a file with requirements")
    return Given(path=path, form=FORM, distributions=_pinned(found, limits))


def _pinned(found: dict[str, Locked], limits: dict[str, SpecifierSet]) -> tuple[Locked, ...]:
    """The entries, with what constraints files add to the ones that are not pinned."""
    entries = []
    for name, entry in found.items():
        wanted = entry.wanted & limits.get(name, SpecifierSet())
        version = entry.version or _pin(wanted)
        entries.append(_with(entry, version, wanted))
    return tuple(entries)


def _with(entry: Locked, version: str, wanted: SpecifierSet) -> Locked:
    return Locked(
        name=entry.name,
        version=version,
        origin=entry.origin,
        source=entry.source,
        where=entry.where,
        wanted=wanted,
        files=entry.files,
        hashes=entry.hashes,
        complete=entry.complete,
    )


def _lines(
    path: Path,
    text: str,
    problems: list[str],
    limits: dict[str, SpecifierSet],
    depth: int = 0,
) -> Iterator[_Line]:
    """The requirements of a file and of those that it includes."""
    for line in _logical(path, text):
        if include := _INCLUDE.match(line.text):
            other = path.parent / include["path"].strip()
            if depth == _DEPTH:
                problems.append(f"{line.place}: the files include each other")
            elif (included := _included(other, line, problems)) is not None:
                yield from _lines(other, included, problems, limits, depth + 1)
        elif constraint := _CONSTRAINT.match(line.text):
            other = path.parent / constraint["path"].strip()
            if (included := _included(other, line, problems)) is not None:
                _limit(other, included, limits)
        else:
            yield line


def _included(path: Path, line: _Line, problems: list[str]) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        problems.append(f"{line.place}: {path} cannot be read: {error}")
        return None


def _limit(path: Path, text: str, limits: dict[str, SpecifierSet]) -> None:
    for line in _logical(path, text):
        try:
            requirement = Requirement(line.text.split(" --")[0])
        except InvalidRequirement:
            continue
        name = canonicalize_name(requirement.name)
        limits[name] = limits.get(name, SpecifierSet()) & requirement.specifier


def _logical(path: Path, text: str) -> Iterator[_Line]:
    """Lines without comments, the ones that end with a backslash joined to the next."""
    parts: list[str] = []
    start = 1
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        if not parts:
            start = number
        continued = raw.endswith("\\") and not raw.lstrip().startswith("#")
        parts.append(_COMMENT.sub("", raw.removesuffix("\\")).strip())
        if not continued:
            joined = " ".join(filter(None, parts))
            parts = []
            if joined:
                yield _Line(place=f"{path}:{start}", text=joined)


def _entry(line: _Line, target: Target) -> Locked | None:
    """What a line asks for; None for an option, or where its marker is not the target's.

    Raises ValueError.
    """
    if editable := _EDITABLE.match(line.text):
        what = editable["what"].strip()
        return _elsewhere(what, line, "git" if _URL.match(what) else "path")
    if line.text.startswith("-"):
        return None  # --index-url and the like: the index is the one that pip is set up with
    text, hashes = _without_options(line.text)
    if url := _URL.match(text):
        return _elsewhere(text, line, "git" if url["kind"] else "url")
    is_file = text.endswith((".whl", ".tar.gz", ".zip")) and " @ " not in text
    if is_file or text.startswith((".", "/")):
        return _elsewhere(text, line, "path")
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} is no requirement: {str(error).splitlines()[0]}") from error
    if requirement.marker and not locked.holds(str(requirement.marker), target):
        return None
    source: Source = "index"
    if requirement.url:
        source = "git" if requirement.url.startswith("git+") else "url"
    return Locked(
        name=canonicalize_name(requirement.name),
        version=_pin(requirement.specifier),
        origin=line.place,
        source=source,
        where=requirement.url or "",
        wanted=requirement.specifier,
        hashes=hashes,
        complete=source != "index",
    )


def _without_options(text: str) -> tuple[str, frozenset[str]]:
    """The requirement alone, and its SHA-256 digests."""
    options = list(_OPTION.finditer(text))
    hashes = [locked.sha256_of(o["value"]) for o in options if o["name"] == "hash"]
    return _OPTION.sub("", text).strip(), frozenset(filter(None, hashes))


def _elsewhere(what: str, line: _Line, source: Source) -> Locked:
    """What does not come from an index; its name, as far as the line says it."""
    fragment = re.search(r"[#&]egg=([A-Za-z0-9._-]+)", what)
    file = locked.name_in(what.partition("#")[0])
    name = fragment[1] if fragment else file.partition("-")[0].removesuffix(".git") or what
    version = file.split("-")[1] if file.endswith(".whl") and file.count("-") > 1 else ""
    return Locked(
        name=canonicalize_name(name),
        version=version,
        origin=line.place,
        source=source,
        where=what,
        files=(LockedFile(name=file, url=what),) if file.endswith(".whl") else (),
        complete=True,
    )


def _pin(wanted: SpecifierSet) -> str:
    """The one version that the specifiers allow, "" where there may be more."""
    for specifier in wanted:
        if specifier.operator in ("==", "===") and not specifier.version.endswith(".*"):
            return specifier.version
    return ""
