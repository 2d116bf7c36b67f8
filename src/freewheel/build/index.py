"""Stage *publish*, embedded: ``wheels/simple/``, a package index that is nothing but files.

The directory holds the wheels themselves and links to them relatively, so it is usable where it
lies and can be uploaded to any web server, Pages or a bucket. Its format is the PyPA's "Simple
repository API", in HTML and JSON (PEP 503, 592, 629, 658, 691, 700, 714).

Of each project, ``index.json`` is the truth and every other page is made from it. A file is listed
only after it is whole, so a process killed at any point leaves the old index or the new one; what
it did not get to write is made by the next ``add``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pypi_simple import ProjectPage, UnsupportedRepoVersionError

from freewheel.base import differences, files
from freewheel.base.errors import PackageIndexError
from freewheel.base.wheel_archive import core_metadata
from freewheel.build.check import VerifiedWheel

# 1.1 is the newest version whose own fields (versions, size, upload-time) stand in these pages;
# 1.2 to 1.4 are about mirrors, attestations and project states, which this index has not got.
API_VERSION = "1.1"
_METADATA = ".metadata"  # suffix of the core metadata file beside a wheel (PEP 658)
_PAGES = ("index.html", "index.json")
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "li{margin:.5rem 0;overflow-wrap:anywhere}small{display:block;color:#666}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """The wheel was not in the index before; ``path`` is where it lies there."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyThere:
    """The same bytes were in the index already; ``path`` is where they lie there."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One listed file. ``size`` is in bytes; ``upload_time`` is ISO 8601 in UTC, set once.

    ``yanked`` is False, True, or the reason (PEP 592).
    """

    filename: str
    sha256: str
    size: int
    requires_python: str | None
    metadata_sha256: str
    upload_time: str
    yanked: bool | str = False

    @property
    def url(self) -> str:
        # Object stores read a raw + as a space, so it must be quoted.
        return quote(self.filename, safe="")

    @property
    def version(self) -> Version:
        return parse_wheel_filename(self.filename)[1]


# ------------------------------------------------------------------------------------- changing


def add(simple: Path, wheel: VerifiedWheel) -> Added | AlreadyThere:
    """Put a verified wheel into the index at ``simple``; the same bytes again change nothing.

    Raises PackageIndexError where a file of that name with other bytes is listed, or one whose
    name or version differs only in case or spelling.
    """
    _check_name(wheel)
    name = wheel.path.name
    directory = simple / wheel.project
    target = directory / name
    with _locked(simple):
        _sweep(simple)
        entries = {entry.filename: entry for entry in _read(directory)}
        _refuse_twin(name, entries)
        listed = entries.get(name)
        if listed and listed.sha256 != wheel.sha256:
            if target.exists():
                raise _other_bytes(target, wheel)
            # A listed file never goes missing by itself: its owner deleted it, as the refusal says.
            del entries[name]
            _write_pages(simple, wheel.project, entries.values())
            listed = None
        if not target.is_file() or files.sha256(target) != wheel.sha256:
            # Bytes that lie there unlisted are of a killed run, and nobody was told of them.
            _place(wheel, target)
        metadata = core_metadata(target)
        _settle(target.with_name(name + _METADATA), metadata)
        entries[name] = listed or _Entry(
            filename=name,
            sha256=wheel.sha256,
            size=wheel.size,
            requires_python=parse_email(metadata)[0].get("requires_python"),
            metadata_sha256=files.sha256(target.with_name(name + _METADATA)),
            upload_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        _write_pages(simple, wheel.project, entries.values())
    return AlreadyThere(path=target) if listed else Added(path=target)


def attach(simple: Path, project: str, wheel: Path, suffix: str) -> None:
    """Lay the file ``<wheel><suffix>`` from beside ``wheel`` beside the listed one.

    It is not listed: who has a wheel's URL adds the suffix. Nothing but the wheel decides whether
    a file of the index may change, so this one may be replaced.
    """
    source = wheel.with_name(wheel.name + suffix)
    target = simple / project / source.name
    content = source.read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        files.write_bytes(target, content)


def yank(simple: Path, filename: str, *, reason: str | None) -> None:
    """Mark a listed file as not to be chosen any more (PEP 592); ``reason`` None lifts the mark.

    The file stays for those who pinned it. Raises PackageIndexError where it is not listed.
    """
    project = canonicalize_name(filename.partition("-")[0])
    with _locked(simple):
        _sweep(simple)
        entries = {entry.filename: entry for entry in _read(simple / project)}
        if filename not in entries:
            listed = ", ".join(sorted(entries)) or "no file of that project"
            raise PackageIndexError(
                f"{filename} is not in the index {simple}", hint=f"listed is {listed}"
            )
        mark = False if reason is None else reason or True
        entries[filename] = replace(entries[filename], yanked=mark)
        _write_pages(simple, project, entries.values())


def renew(simple: Path) -> None:
    """Make every page, and every core metadata file, anew from what is listed."""
    with _locked(simple):
        _sweep(simple)
        for project in _projects(simple):
            entries = _read(simple / project)
            for entry in entries:
                path = simple / project / entry.filename
                _settle(path.with_name(path.name + _METADATA), core_metadata(path))
            _write_pages(simple, project, entries)


def _locked(simple: Path) -> AbstractContextManager[None]:
    # Beside the directory, not in it: all of it gets uploaded.
    return files.locked(simple.with_name(f".{simple.name}.lock"), what=f"the index {simple}")


def _sweep(simple: Path) -> None:
    for partial in simple.rglob(f"*{files.PARTIAL}"):
        partial.unlink()


def _place(wheel: VerifiedWheel, target: Path) -> None:
    with files.replacing(target) as partial:
        try:
            os.link(wheel.path, partial)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(wheel.path, partial)
        if files.sha256(partial) != wheel.sha256:
            raise PackageIndexError(
                f"{wheel.path} has changed since it was verified", hint="build the wheel again"
            )


def _settle(path: Path, content: bytes) -> None:
    """Write only what differs, so that an index without news keeps its files' times."""
    if not path.is_file() or path.read_bytes() != content:
        files.write_bytes(path, content)


# ------------------------------------------------------------------------------------- refusing


def _check_name(wheel: VerifiedWheel) -> None:
    name, version, _, _ = parse_wheel_filename(wheel.path.name)
    if name != wheel.project or version != Version(wheel.version):
        raise PackageIndexError(
            f"{wheel.path.name} is not the name of a wheel of {wheel.project} {wheel.version}",
            hint="build the wheel again",
        )


def _refuse_twin(name: str, entries: Mapping[str, _Entry]) -> None:
    other = differences.twin(name, entries)
    if other:
        raise PackageIndexError(
            f"{name} differs from {other}, which is in the index, only in case or spelling",
            hint="spell the name and the version in the recipe as the listed file does",
        )


def _other_bytes(listed: Path, wheel: VerifiedWheel) -> PackageIndexError:
    return PackageIndexError(
        f"{listed.name} is in the index already, with other bytes",
        problems=differences.differences(listed, wheel.path),
        hint="raise `revision` of the release in the recipe and build again; or, if the listed "
        f"wheel never left this machine, delete {listed} and run the same command again",
    )


# -------------------------------------------------------------------------- reading and writing


def _read(directory: Path) -> tuple[_Entry, ...]:
    """What is listed of a project; nothing where it has no page yet."""
    page = directory / "index.json"
    if not page.is_file():
        if (directory / "index.html").is_file():
            # The JSON page is written first, so no killed run leaves this.
            raise PackageIndexError(
                f"{page} is missing", hint="restore it; it alone says when each file was added"
            )
        return ()
    try:
        packages = ProjectPage.from_json_data(json.loads(page.read_bytes())).packages
        for package in packages:
            parse_wheel_filename(package.filename)
        return tuple(
            _Entry(
                filename=package.filename,
                sha256=package.digests["sha256"],
                size=package.size or 0,
                requires_python=package.requires_python,
                metadata_sha256=(package.metadata_digests or {})["sha256"],
                upload_time=f"{package.upload_time:%Y-%m-%dT%H:%M:%SZ}",
                yanked=package.yanked_reason or package.is_yanked,
            )
            for package in packages
        )
    except (ValueError, KeyError, TypeError, UnsupportedRepoVersionError) as error:
        raise PackageIndexError(
            f"{page} is not a page of this index: {error}", hint="restore it from a copy"
        ) from error


def _write_pages(simple: Path, project: str, entries: Iterable[_Entry]) -> None:
    for name, content in _project_pages(project, entries).items():
        _settle(simple / project / name, content)
    for name, content in _root_pages(_projects(simple)).items():
        _settle(simple / name, content)


def _projects(simple: Path) -> list[str]:
    return sorted(page.parent.name for page in simple.glob("*/index.json"))


def _project_pages(project: str, entries: Iterable[_Entry]) -> dict[str, bytes]:
    """The pages of a project by file name, in the order in which they must be written."""
    ordered = sorted(entries, key=lambda entry: (entry.version, entry.filename))
    versions = list(dict.fromkeys(str(entry.version) for entry in ordered))
    content = {
        "meta": {"api-version": API_VERSION},
        "name": project,
        "versions": versions,
        "files": [_as_json(entry) for entry in ordered],
    }
    return {
        "index.json": _json(content),
        "index.html": _page(project, [_as_html(entry) for entry in ordered]),
    }


def _root_pages(projects: Iterable[str]) -> dict[str, bytes]:
    names = list(projects)
    content = {
        "meta": {"api-version": API_VERSION},
        "projects": [{"name": name} for name in names],
    }
    links = [f'<a href="{quote(name)}/">{escape(name)}</a>' for name in names]
    return {"index.json": _json(content), "index.html": _page("Package index", links)}


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _as_json(entry: _Entry) -> dict[str, object]:
    required = {"requires-python": entry.requires_python} if entry.requires_python else {}
    return {
        "filename": entry.filename,
        "url": entry.url,
        "hashes": {"sha256": entry.sha256},
        **required,
        "size": entry.size,
        "upload-time": entry.upload_time,
        "core-metadata": {"sha256": entry.metadata_sha256},
        "yanked": entry.yanked,
    }


def _as_html(entry: _Entry) -> str:
    attributes = {
        "href": f"{entry.url}#sha256={entry.sha256}",
        "data-core-metadata": f"sha256={entry.metadata_sha256}",
        # No PEP has these two. uv reads them, and a static server gives it no JSON.
        "data-size": str(entry.size),
        "data-upload-time": entry.upload_time,
    }
    if entry.requires_python:
        attributes["data-requires-python"] = entry.requires_python
    if entry.yanked:
        attributes["data-yanked"] = "" if entry.yanked is True else entry.yanked
    written = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items())
    about = f"{entry.size / 1024:.0f} KiB · {entry.upload_time[:10]} · sha256 {entry.sha256}"
    if entry.yanked:
        about = f"yanked{'' if entry.yanked is True else f': {entry.yanked}'} · {about}"
    return f"<a {written}>{escape(entry.filename)}</a> <small>{escape(about)}</small>"


def _page(title: str, items: Iterable[str]) -> bytes:
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f'<meta name="pypi:repository-version" content="{API_VERSION}">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{escape(title)}</h1>",
        "<ul>",
        *(f"<li>{item}</li>" for item in items),
        "</ul>",
        "</body>",
        "</html>",
    ]
    return ("\n".join(lines) + "\n").encode()


# ------------------------------------------------------------------------------------- checking


def check(simple: Path) -> list[str]:
    """All that is wrong with the index at ``simple``; each line starts with its file."""
    if not simple.is_dir():
        return [f"{simple}: there is no index"]
    problems = _page_problems(simple, _root_pages(_projects(simple)))
    for path in sorted(simple.iterdir()):
        if path.is_dir():
            problems += [f"{path.name}/{problem}" for problem in _project_problems(path)]
        elif path.name not in _PAGES:
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
        entries = _read(directory)
    except PackageIndexError as error:
        return [f"index.json: {error.summary}"]
    problems = _page_problems(directory, _project_pages(directory.name, entries))
    for entry in entries:
        problems += _file_problems(directory / entry.filename, entry)
    expected = {*_PAGES, *(e.filename for e in entries), *(e.filename + _METADATA for e in entries)}
    unlisted = {
        path.name
        for path in directory.iterdir()
        if path.name not in expected and not _is_attached(path.name, entries)
    }
    return problems + [f"{name}: lies there unlisted" for name in sorted(unlisted)]


def _is_attached(name: str, entries: Iterable[_Entry]) -> bool:
    """Whether a file lies beside a listed wheel, as ``attach`` lays it."""
    beside = any(name.startswith(f"{entry.filename}.") for entry in entries)
    return beside and not name.endswith(files.PARTIAL)


def _file_problems(path: Path, entry: _Entry) -> list[str]:
    if not path.is_file():
        return [f"{path.name}: listed, but missing"]
    if files.sha256(path) != entry.sha256:
        return [f"{path.name}: has SHA-256 {files.sha256(path)}, listed is {entry.sha256}"]
    problems = []
    if path.stat().st_size != entry.size:
        problems.append(f"{path.name}: has {path.stat().st_size} bytes, listed are {entry.size}")
    metadata = core_metadata(path)
    beside = path.with_name(path.name + _METADATA)
    if not beside.is_file() or beside.read_bytes() != metadata:
        problems.append(f"{beside.name}: is not the METADATA of the wheel")
    elif files.sha256(beside) != entry.metadata_sha256:
        problems.append(f"{beside.name}: has another SHA-256 than listed")
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
