"""The local index ``wheels/simple/``: a package index that is nothing but files.

It has every wheel that was built and verified here, proven or not, for this machine alone. What is
put on a server is made of certified wheels only, by release/site.py, with the same functions. The
directory holds the wheels themselves and links to them relatively. Its format is the PyPA's "Simple
repository API", in HTML and JSON (PEP 503, 592, 629, 658, 691, 700, 714, 740, 792).

Of each project, ``index.json`` is the truth and every other page is made from it. A file is listed
only after it is whole, so a process killed at any point leaves the old index or the new one; what
it did not get to write is made by the next ``add``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from freewheel.base import differences, files
from freewheel.base.errors import PackageIndexError
from freewheel.base.members import ArchiveError
from freewheel.base.names import project_name, project_of, wheel_name
from freewheel.base.wheel_archive import core_metadata
from freewheel.build import index_pages as pages
from freewheel.build.check import KnownWheel

_FILE, _DIRECTORY = 0o644, 0o755  # a web server of another user reads them, whatever the umask is


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """The wheel was not in the index before; ``path`` is where it lies there."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyThere:
    """The same bytes were in the index already; ``path`` is where they lie there."""

    path: Path


# ------------------------------------------------------------------------------------- changing


def add(simple: Path, wheel: KnownWheel) -> Added | AlreadyThere:
    """Put a verified wheel into the index at ``simple``; the same bytes again change nothing.

    Raises PackageIndexError where a file of that name with other bytes is listed, or one whose
    name or version differs only in case or spelling.
    """
    _check_name(wheel)
    name = wheel.path.name
    directory = simple / wheel.project
    target = directory / name
    with _locked(simple, wheel.project):
        listing = pages.read(directory)
        entries = {entry.filename: entry for entry in listing.entries}
        _refuse_twin(name, entries)
        _drop_unlisted(directory, {*entries, name})
        listed = entries.get(name)
        if listed and listed.sha256 != wheel.sha256:
            if target.exists():
                raise _other_bytes(target, wheel)
            # A listed file never goes missing by itself: its owner deleted it, as the refusal says.
            del entries[name]
            _write_pages(simple, wheel.project, replace(listing, entries=tuple(entries.values())))
            listed = None
        if not target.is_file() or files.sha256(target) != wheel.sha256:
            # Bytes that are there unlisted are of a killed run, and nobody knows of them.
            _place(wheel, target)
        metadata = core_metadata(target)
        _settle(target.with_name(name + pages.METADATA), metadata)
        entries[name] = listed or pages.Entry(
            filename=name,
            sha256=wheel.sha256,
            size=wheel.size,
            requires_python=parse_email(metadata)[0].get("requires_python"),
            metadata_sha256=hashlib.sha256(metadata).hexdigest(),
            upload_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        _write_pages(simple, wheel.project, replace(listing, entries=tuple(entries.values())))
    return AlreadyThere(path=target) if listed else Added(path=target)


def attach(simple: Path, project: str, wheel: Path, suffix: str) -> None:
    """Lay the file ``<wheel><suffix>`` from beside ``wheel`` beside the listed one.

    Clients append the suffix to the wheel's URL; only signed statements are named on the page as
    well. Only wheels are immutable, so such a file may be replaced.
    """
    source = wheel.with_name(wheel.name + suffix)
    directory = simple / project_name(project)
    with _locked(simple, project):
        _settle(directory / source.name, source.read_bytes())
        if suffix == pages.PROVENANCE:
            _name_provenance(simple, project, wheel.name, there=True)


def detach(simple: Path, project: str, wheel: str, suffix: str) -> None:
    """Take a file away that ``attach`` laid beside that wheel, if it is there."""
    directory = simple / project_name(project)
    if not (directory / (wheel + suffix)).exists():
        return
    with _locked(simple, project):
        if suffix == pages.PROVENANCE:
            _name_provenance(simple, project, wheel, there=False)
        (directory / (wheel + suffix)).unlink(missing_ok=True)


def _name_provenance(simple: Path, project: str, wheel: str, *, there: bool) -> None:
    """Say on the page whether a wheel has signed statements."""
    listing = pages.read(simple / project_name(project))
    entries = tuple(
        replace(entry, provenance=there) if entry.filename == wheel else entry
        for entry in listing.entries
    )
    _write_pages(simple, project, replace(listing, entries=entries))


def yank(simple: Path, filename: str, *, reason: str | None) -> None:
    """Mark a listed file as not to be chosen any more (PEP 592); ``reason`` None lifts the mark.

    The file stays for those who pinned it. Raises PackageIndexError where it is not listed.
    """
    project = project_of(wheel_name(filename))
    with _locked(simple, project):
        listing = pages.read(simple / project)
        entries = {entry.filename: entry for entry in listing.entries}
        if filename not in entries:
            listed = ", ".join(sorted(entries)) or "no file of that project"
            raise PackageIndexError(
                f"{filename} is not in the index {simple}", hint=f"listed is {listed}"
            )
        mark = False if reason is None else reason or True
        entries[filename] = replace(entries[filename], yanked=mark)
        _write_pages(simple, project, replace(listing, entries=tuple(entries.values())))


def mark_project(simple: Path, project: str, *, status: pages.Status, reason: str) -> None:
    """Set the status marker of a project (PEP 792). Raises PackageIndexError."""
    with _locked(simple, project):
        listing = pages.read(simple / project_name(project))
        if not listing.entries:
            raise PackageIndexError(
                f"{project} is not in the index {simple}",
                hint=f"listed is {', '.join(_projects(simple)) or 'nothing'}",
            )
        _write_pages(simple, project, replace(listing, status=status, reason=reason))


def renew(simple: Path) -> None:
    """Write every page, and every core metadata file, again from what is listed."""
    with _locked(simple):
        for project in _projects(simple):
            listing = pages.read(simple / project)
            files.sweep(simple / project)
            for entry in listing.entries:
                path = simple / project / entry.filename
                _settle(path.with_name(path.name + pages.METADATA), core_metadata(path))
            _write_project(simple, project, listing)
        _write_root(simple)


@contextmanager
def _locked(simple: Path, project: str = "") -> Iterator[None]:
    """Hold the lock of the index, and clear what killed writers left in what is about to change."""
    # Beside the directory, not in it: all of it gets uploaded.
    lock = simple.with_name(f".{simple.name}.lock")
    with files.locked(lock, what=f"the index {simple}"):
        for directory in (simple, simple / project_name(project) if project else simple):
            if not directory.is_dir():
                directory.mkdir(parents=True)
                directory.chmod(_DIRECTORY)
            files.sweep(directory)
        yield


def _place(wheel: KnownWheel, target: Path) -> None:
    with files.replacing(target, mode=_FILE) as partial:
        try:
            os.link(wheel.path, partial)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(wheel.path, partial)
        if files.sha256(partial) != wheel.sha256:
            raise PackageIndexError(
                f"{wheel.path} has changed since it was verified", hint="build the wheel again"
            )


def _drop_unlisted(directory: Path, names: AbstractSet[str]) -> None:
    """Take away wheels that no page lists: whoever placed them was killed before that."""
    with os.scandir(directory) as found:
        left = [e.name for e in found if e.name.endswith(".whl") and e.name not in names]
    for name in left:
        for path in (directory / name, directory / (name + pages.METADATA)):
            path.unlink(missing_ok=True)


def _settle(path: Path, content: bytes) -> None:
    """Write only what differs, so that an index without news keeps its files' times."""
    if not path.is_file() or path.read_bytes() != content:
        files.write_bytes(path, content, mode=_FILE)


def _write_pages(simple: Path, project: str, listing: pages.Listing) -> None:
    _write_project(simple, project, listing)
    _write_root(simple)


def _write_project(simple: Path, project: str, listing: pages.Listing) -> None:
    for name, content in pages.project_pages(project, listing).items():
        _settle(simple / project / name, content)


def _write_root(simple: Path) -> None:
    for name, content in pages.root_pages(_projects(simple)).items():
        _settle(simple / name, content)


def _projects(simple: Path) -> list[str]:
    with os.scandir(simple) as entries:
        return sorted(e.name for e in entries if (simple / e.name / "index.json").is_file())


# ------------------------------------------------------------------------------------- refusing


def _check_name(wheel: KnownWheel) -> None:
    name, version, _, _ = parse_wheel_filename(wheel.path.name)
    if name != wheel.project or version != Version(wheel.version):
        raise PackageIndexError(
            f"{wheel.path.name} is not the name of a wheel of {wheel.project} {wheel.version}",
            hint="build the wheel again",
        )


def _refuse_twin(name: str, entries: Mapping[str, pages.Entry]) -> None:
    other = differences.twin(name, entries)
    if other:
        raise PackageIndexError(
            f"{name} differs from {other}, which is in the index, only in case or spelling",
            hint="spell the name and the version in the recipe as the listed file does",
        )


def _other_bytes(listed: Path, wheel: KnownWheel) -> PackageIndexError:
    return PackageIndexError(
        f"{listed.name} is in the index already, with other bytes",
        problems=differences.differences(listed, wheel.path),
        hint="raise `revision` of the release in the recipe and build again; or, if the listed "
        f"wheel never left this machine, delete {listed} and run the same command again",
    )


# ------------------------------------------------------------------------------------- checking


def check(simple: Path) -> list[str]:
    """All that is wrong with the index at ``simple``; each line starts with its file."""
    if not simple.is_dir():
        return [f"{simple}: there is no index"]
    problems = _page_problems(simple, pages.root_pages(_projects(simple)))
    for path in sorted(simple.iterdir()):
        if path.is_dir():
            problems += [f"{path.name}/{problem}" for problem in _project_problems(path)]
        elif path.name not in pages.PAGES:
            problems.append(f"{path.name}: not a part of the index")
    return problems


def _page_problems(directory: Path, pages: Mapping[str, bytes]) -> list[str]:
    return [
        f"{name}: {'differs from what is listed' if (directory / name).is_file() else 'missing'}"
        for name, content in pages.items()
        if not (directory / name).is_file() or (directory / name).read_bytes() != content
    ]


def _project_problems(directory: Path) -> list[str]:
    try:
        listing = pages.read(directory)
    except PackageIndexError as error:
        return [f"index.json: {error.summary}"]
    entries = listing.entries
    problems = _page_problems(directory, pages.project_pages(directory.name, listing))
    for entry in entries:
        problems += _file_problems(directory / entry.filename, entry)
    expected = {entry.filename + suffix for entry in entries for suffix in ("", pages.METADATA)}
    expected |= set(pages.PAGES)
    unlisted = {
        path.name
        for path in directory.iterdir()
        if path.name not in expected and not _is_attached(path.name, entries)
    }
    return problems + [f"{name}: lies there unlisted" for name in sorted(unlisted)]


def _is_attached(name: str, entries: Iterable[pages.Entry]) -> bool:
    """Whether a file lies beside a listed wheel, as ``attach`` lays it."""
    beside = any(name.startswith(f"{entry.filename}.") for entry in entries)
    return beside and not name.endswith(files.PARTIAL)


def _file_problems(path: Path, entry: pages.Entry) -> list[str]:
    if not path.is_file():
        return [f"{path.name}: listed, but missing"]
    if files.sha256(path) != entry.sha256:
        return [f"{path.name}: has SHA-256 {files.sha256(path)}, listed is {entry.sha256}"]
    problems = []
    if path.stat().st_size != entry.size:
        problems.append(f"{path.name}: has {path.stat().st_size} bytes, listed are {entry.size}")
    try:
        metadata = core_metadata(path)
    except ArchiveError as error:
        return [*problems, f"{path.name}: {error.summary}"]
    beside = path.with_name(path.name + pages.METADATA)
    if not beside.is_file() or beside.read_bytes() != metadata:
        problems.append(f"{beside.name}: is not the METADATA of the wheel")
    elif files.sha256(beside) != entry.metadata_sha256:
        problems.append(f"{beside.name}: has another SHA-256 than listed")
    if entry.provenance and not path.with_name(path.name + pages.PROVENANCE).is_file():
        problems.append(f"{path.name}{pages.PROVENANCE}: listed, but missing")
    fields = parse_email(metadata)[0]
    name, version, _, _ = parse_wheel_filename(path.name)
    said = canonicalize_name(fields.get("name", "")), fields.get("version", "")
    if said[0] != name or said[0] != path.parent.name or said[1] != str(version):
        problems.append(f"{path.name}: METADATA says {said[0]} {said[1]}")
    if fields.get("requires_python") != entry.requires_python:
        problems.append(
            f"{path.name}: METADATA says Requires-Python {fields.get('requires_python')}"
        )
    return problems
