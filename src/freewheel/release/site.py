"""Stage *publish*, as files: the static index of a release, for Pages or any web server.

A deployment replaces the whole site, but an index is append-only: so what is served now comes
first, file by file and each with its digest, and the release is added to it. What must not be used
any more is listed in ``pins/yanked.toml``, and marked each time.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urljoin

import requests
import stamina
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from freewheel.base import console, decoding, files, http
from freewheel.base.errors import PackageIndexError
from freewheel.base.names import Project, WheelFile
from freewheel.base.workspace import PINS
from freewheel.build import index, index_pages
from freewheel.build.check import KnownWheel
from freewheel.proof.certificate import CertifiedWheel
from freewheel.release.artifacts import BESIDE

EARLIER = "FREEWHEEL_PAGES_URL"  # the variable that names the index as it is served now
YANKED = PINS / "yanked.toml"
_Reason = Annotated[str, StringConstraints(min_length=1)]


class ProjectMark(BaseModel):
    """What a project is marked with (PEP 792), and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Literal["archived", "deprecated", "quarantined"]
    reason: _Reason


class Marks(BaseModel):
    """What nobody is to choose any more: wheels (PEP 592) and projects, each with the reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wheels: dict[WheelFile, _Reason]
    projects: dict[Project, ProjectMark] = Field(default_factory=dict)


class _Named(BaseModel):
    name: Project


class _Root(BaseModel):
    projects: list[_Named]


_MARKS = TypeAdapter(Marks)
_ROOT = TypeAdapter(_Root)


def assemble(
    wheels: Sequence[CertifiedWheel],
    directory: Path,
    *,
    earlier: str,
    marks: Marks,
    unproven: Sequence[KnownWheel] = (),
) -> list[str]:
    """Make ``directory`` a static index of those wheels and of all that ``earlier`` serves.

    ``unproven`` are wheels that somebody named one by one, although nothing is proven about them.

    ``earlier`` is a URL, a directory, or "" for an index that begins. Gives the names of the wheels
    that are new. Raises PackageIndexError where the two contradict each other, or what is served
    is not what its pages say.
    """
    # A new directory takes the place of the old one when all of it is sound.
    beside = files.empty_directory(directory.with_name(f".{directory.name}.new"))
    made = beside / "made"
    try:
        if earlier:
            _bring(earlier, made)
        added = _add((*wheels, *unproven), made)
        _mark(made, marks)
        problems = index.check(made)
        if problems:
            raise PackageIndexError(
                "the index that was made is not sound",
                problems=problems,
                hint="nothing was deployed; find out what changed the index that is served now",
            )
        if directory.exists():
            directory.rename(beside / "old")
        made.rename(directory)
    finally:
        shutil.rmtree(beside)
    return added


def _add(wheels: Sequence[KnownWheel], directory: Path) -> list[str]:
    added = []
    for wheel in wheels:
        if isinstance(index.add(directory, wheel), index.Added):
            added.append(wheel.path.name)
        for suffix in BESIDE:
            if wheel.path.with_name(wheel.path.name + suffix).exists():
                index.attach(directory, wheel.project, wheel.path, suffix)
    return added


def _mark(directory: Path, marks: Marks) -> None:
    """Yank what the list names, and lift the mark of everything else; likewise for projects."""
    for path in sorted(directory.glob("*/*.whl")):
        if path.name not in marks.wheels:
            index.yank(directory, path.name, reason=None)
    for name, reason in marks.wheels.items():
        index.yank(directory, name, reason=reason)
    listed = {path.parent.name for path in directory.glob("*/index.json")}
    for project in sorted(listed | marks.projects.keys()):
        mark = marks.projects.get(project)
        status: index_pages.Status = mark.status if mark else "active"
        index.mark_project(directory, project, status=status, reason=mark.reason if mark else "")


def read_marks(path: Path = YANKED) -> Marks:
    """What must not be used any more: wheels with the reason, and projects with their status.

    Raises PackageIndexError.
    """
    try:
        table = decoding.from_toml(decoding.read_bytes(path), path.name)
        return decoding.checked(_MARKS, table, path.name)
    except decoding.DecodeError as error:
        raise PackageIndexError(
            f"{path.name} cannot be read: {error.summary}",
            problems=error.problems,
            hint='it has a table [wheels] of lines such as "NAME.whl" = "why"',
        ) from error


# ---------------------------------------------------------------------------- what is served now


def _bring(earlier: str, directory: Path) -> None:
    """Copy what is served into ``directory``; every name is parsed before anything is written."""
    if "://" not in earlier:
        shutil.copytree(earlier, directory, symlinks=True, dirs_exist_ok=True)
        return
    bare, credentials = http.split_credentials(earlier.rstrip("/") + "/")
    with http.Session() as session:
        session.auth = http.OriginAuth(bare, credentials) if credentials else None
        root = _get(session, urljoin(bare, "index.json"))
        if root is None:
            raise PackageIndexError(
                f"{bare} serves no index (no index.json)",
                hint=f"correct {EARLIER}; leave it empty for the first release alone",
            )
        listings = {}
        for name in _served_projects(root.content, bare):
            page = _need(session, f"{bare}{name}/index.json").content
            listings[name] = _served(page, name, bare)
        for name, listing in listings.items():
            for entry in listing.entries:
                _bring_file(session, f"{bare}{name}/", directory / name, entry)
            for page_name, content in index_pages.project_pages(name, listing).items():
                files.write_bytes(directory / name / page_name, content)
            console.note(f"{name}: {len(listing.entries)} files that are served now")
    index.renew(directory)


def _served_projects(content: bytes, base: str) -> list[str]:
    try:
        page = decoding.checked(_ROOT, decoding.from_json(content, "the page"), "the page")
        return [project.name for project in page.projects]
    except decoding.DecodeError as error:
        raise _not_sound(f"{base}index.json", error) from error


def _served(content: bytes, name: str, base: str) -> index_pages.Listing:
    try:
        return index_pages.parse(content, project=name)
    except decoding.DecodeError as error:
        raise _not_sound(f"{base}{name}/index.json", error) from error


def _not_sound(url: str, error: decoding.DecodeError) -> PackageIndexError:
    return PackageIndexError(
        f"{url} is no page of this index: {error.summary}",
        problems=error.problems,
        hint="do not deploy; find out who changed the index",
    )


def _bring_file(
    session: http.Session, base: str, directory: Path, entry: index_pages.Entry
) -> None:
    """A wheel that is listed, and what lies beside it. Nothing is taken from where a page links."""
    target = directory / entry.filename
    url = base + entry.url
    session.limit = max(entry.size, http.PAGE_LIMIT)
    files.write_bytes(target, _need(session, url).content)
    if files.sha256(target) != entry.sha256:
        raise PackageIndexError(
            f"{url} does not have the digest that its page lists",
            hint="do not deploy; find out who changed the index",
        )
    for suffix in BESIDE:
        beside = _get(session, url + suffix)
        if beside is not None:
            files.write_bytes(target.with_name(target.name + suffix), beside.content)


def _need(session: http.Session, url: str) -> requests.Response:
    found = _get(session, url)
    if found is None:
        raise PackageIndexError(
            f"{url} is listed, but is not there",
            hint="nothing was deployed; put it back, or try again if the server was busy",
        )
    return found


def _get(session: http.Session, url: str) -> requests.Response | None:
    """What is at a URL, None where nothing is. Raises PackageIndexError for any other answer."""
    try:
        for attempt in stamina.retry_context(on=requests.RequestException, attempts=4):
            with attempt:
                answer = session.get(url)
                if answer.status_code == requests.codes.not_found:
                    return None
                answer.raise_for_status()
    except http.ODD_ANSWERS as error:
        raise PackageIndexError(
            f"{url} cannot be fetched: {http.said(error)}",
            hint="check the URL and the network, try again",
        ) from error
    return answer
