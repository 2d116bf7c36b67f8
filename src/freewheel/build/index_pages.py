"""The pages of the static index: what is listed of a project, read back and written.

Of each project, ``index.json`` is the truth; all other pages are made from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from packaging.utils import parse_wheel_filename
from packaging.version import Version
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from freewheel.base import decoding
from freewheel.base.errors import PackageIndexError
from freewheel.base.names import Digest, Project, WheelFile

# The newest version: what it and those before it brought (versions, size, upload-time, provenance,
# project-status) stands in the JSON pages. HTML is frozen (PEP 833), but names the same version.
API_VERSION = "1.4"
METADATA = ".metadata"  # suffix of the core metadata file beside a wheel (PEP 658)
PROVENANCE = ".intoto.jsonl"  # suffix of the signed statements beside a wheel
PAGES = ("index.html", "index.json")
Status = Literal["active", "archived", "deprecated", "quarantined"]
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "li{margin:.5rem 0;overflow-wrap:anywhere}small{display:block;color:#666}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One listed file. ``size`` is in bytes; ``upload_time`` is ISO 8601 in UTC, set once.

    ``yanked`` is False, True, or the reason (PEP 592). ``provenance`` says that signed statements
    lie beside the file.
    """

    filename: str
    sha256: str
    size: int
    requires_python: str | None
    metadata_sha256: str
    upload_time: str
    yanked: bool | str = False
    provenance: bool = False

    @property
    def url(self) -> str:
        # Object stores read a raw + as a space, so it must be quoted.
        return quote(self.filename, safe="")

    @property
    def version(self) -> Version:
        return parse_wheel_filename(self.filename)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All that is listed of a project; ``status`` is its marker, with the reason (PEP 792)."""

    entries: tuple[Entry, ...] = ()
    status: Status = "active"
    reason: str = ""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True
    )


class _Hashes(_Part):
    sha256: Digest


class _File(_Part):
    filename: WheelFile
    hashes: _Hashes
    size: int = Field(ge=0)
    requires_python: str | None = None
    core_metadata: _Hashes
    upload_time: AwareDatetime
    yanked: bool | str = False
    provenance: str | None = None


class _Meta(_Part):
    api_version: str = Field(pattern=r"^1\.[0-9]{1,3}$")


class _Status(_Part):
    status: Status = "active"
    reason: str = ""


class _Page(_Part):
    meta: _Meta
    name: Project
    files: list[_File]
    project_status: _Status = _Status()


_PAGE = TypeAdapter(_Page)


def read(directory: Path) -> Listing:
    """What is listed of the project whose directory that is; nothing where it has no page yet.

    Raises PackageIndexError.
    """
    page = directory / "index.json"
    if not page.is_file():
        if (directory / "index.html").is_file():
            # The JSON page is written first, so no killed run leaves this.
            raise PackageIndexError(
                f"{page} is missing", hint="restore it; it alone says when each file was added"
            )
        return Listing()
    try:
        return parse(decoding.read_bytes(page), project=directory.name)
    except decoding.DecodeError as error:
        raise PackageIndexError(
            f"{page} is not a page of this index: {error.summary}",
            problems=error.problems,
            hint="restore it from a copy",
        ) from error


def parse(content: bytes, *, project: str) -> Listing:
    """A project's JSON page. Raises DecodeError, also for a page of another project."""
    page = decoding.checked(_PAGE, decoding.from_json(content, "the page"), "the page")
    strange = [file.filename for file in page.files if _project_of(file.filename) != project]
    names = [file.filename for file in page.files]
    if page.name != project or strange or len(set(names)) != len(names):
        raise decoding.DecodeError(
            f"the page is not one of {project}",
            problems=[f"it is of {page.name}", *(f"it lists {name}" for name in strange)],
        )
    entries = tuple(
        Entry(
            filename=file.filename,
            sha256=file.hashes.sha256,
            size=file.size,
            requires_python=file.requires_python,
            metadata_sha256=file.core_metadata.sha256,
            upload_time=f"{file.upload_time:%Y-%m-%dT%H:%M:%SZ}",
            yanked=file.yanked,
            provenance=file.provenance is not None,
        )
        for file in page.files
    )
    return Listing(
        entries=entries, status=page.project_status.status, reason=page.project_status.reason
    )


def _project_of(filename: str) -> str:
    return parse_wheel_filename(filename)[0]


# ------------------------------------------------------------------------------------- writing


def project_pages(project: str, listing: Listing) -> dict[str, bytes]:
    """The pages of a project by file name, in the order in which they must be written."""
    ordered = sorted(listing.entries, key=lambda entry: (entry.version, entry.filename))
    versions = list(dict.fromkeys(str(entry.version) for entry in ordered))
    content = {
        "meta": {"api-version": API_VERSION},
        "name": project,
        "project-status": _as_status(listing),
        "versions": versions,
        "files": [_as_json(entry) for entry in ordered],
    }
    return {
        "index.json": _json(content),
        "index.html": _page(project, [_as_html(entry) for entry in ordered], listing),
    }


def root_pages(projects: Iterable[str]) -> dict[str, bytes]:
    """The pages that list all projects, by file name."""
    names = list(projects)
    content = {
        "meta": {"api-version": API_VERSION},
        "projects": [{"name": name} for name in names],
    }
    links = [f'<a href="{quote(name)}/">{escape(name)}</a>' for name in names]
    return {"index.json": _json(content), "index.html": _page("Package index", links)}


def _json(content: object) -> bytes:
    return (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _as_status(listing: Listing) -> dict[str, str]:
    return {"status": listing.status, **({"reason": listing.reason} if listing.reason else {})}


def _as_json(entry: Entry) -> dict[str, object]:
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
        **({"provenance": entry.url + PROVENANCE} if entry.provenance else {}),
    }


def _as_html(entry: Entry) -> str:
    attributes = {
        "href": f"{entry.url}#sha256={entry.sha256}",
        "data-core-metadata": f"sha256={entry.metadata_sha256}",
        # No PEP has these two. uv reads them, and a static server gives it no JSON.
        "data-size": str(entry.size),
        "data-upload-time": entry.upload_time,
    }
    if entry.requires_python:
        attributes["data-requires-python"] = entry.requires_python
    if entry.provenance:
        attributes["data-provenance"] = entry.url + PROVENANCE
    if entry.yanked:
        attributes["data-yanked"] = "" if entry.yanked is True else entry.yanked
    written = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items())
    about = f"{entry.size / 1024:.0f} KiB · {entry.upload_time[:10]}"
    if entry.yanked:
        about = f"yanked{'' if entry.yanked is True else f': {entry.yanked}'} · {about}"
    return f"<a {written}>{escape(entry.filename)}</a> <small>{escape(about)}</small>"


def _page(title: str, items: Iterable[str], listing: Listing | None = None) -> bytes:
    marks = []
    if listing and listing.status != "active":
        marks = [f'<meta name="pypi:project-status" content="{listing.status}">']
        if listing.reason:
            reason = escape(listing.reason)
            marks.append(f'<meta name="pypi:project-status-reason" content="{reason}">')
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f'<meta name="pypi:repository-version" content="{API_VERSION}">',
        *marks,
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
