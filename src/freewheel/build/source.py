"""Stage *fetch*: upstream's sdist, from the index this machine is configured with, digest checked.

The archive is only opened after its SHA-256 has matched the recipe, and it is kept in the user's
cache, so that a second build needs no network.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import stamina
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    ProjectPage,
)

from freewheel.base import console, files, http, process, trouble
from freewheel.base.errors import CommandFailed, FetchError
from freewheel.base.members import ArchiveError
from freewheel.base.redaction import without_credentials
from freewheel.base.tars import unpack_tar
from freewheel.recipe.recipe import Release

_ATTEMPTS = 4
_PASSING_TROUBLE = {408, 429, 500, 502, 503, 504}  # HTTP status codes
_MAX_SDIST = 512 << 20  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceArchive:
    """An upstream sdist on disk whose SHA-256 is the recipe's."""

    path: Path
    release: Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where pip, or uv, on this machine is told to look for distribution archives."""

    indexes: tuple[str, ...]
    find_links: tuple[str, ...]
    certificates: str | None


def fetch(release: Release, directory: Path) -> SourceArchive:
    """The release's sdist, out of ``directory`` or, failing that, from the package index.

    Raises FetchError when no configured place has it, or has other bytes than the recipe names;
    such bytes are deleted.
    """
    target = directory / release.sha256 / release.sdist_name
    with files.locked(directory / f"{release.sha256}.lock", what=f"fetching {target.name}"):
        if target.exists():
            if files.sha256(target) == release.sha256:
                return SourceArchive(path=target, release=release)
            console.warn(f"{target} no longer has the digest it was kept under; fetching it again")
            target.unlink()
        _fetch_from_anywhere(release, target)
    return SourceArchive(path=target, release=release)


def unpack(archive: SourceArchive, directory: Path) -> Path:
    """Unpack the archive into the empty ``directory`` and return the one tree inside it.

    Raises FetchError for an archive that is not sound, or does not hold exactly one directory.
    """
    try:
        unpack_tar(archive.path, directory)
    except ArchiveError as error:
        raise FetchError(
            f"{archive.path.name} cannot be unpacked: {error.summary}",
            hint="the digest matches, so the archive itself is unsafe or damaged upstream: "
            "do not build this release, and report it",
        ) from error
    roots = list(directory.iterdir())
    if len(roots) != 1 or not roots[0].is_dir():
        raise FetchError(
            f"{archive.path.name} holds {len(roots)} things at its top, not one directory",
            hint="an sdist has one directory (PEP 517); check the digest in the recipe",
        )
    return roots[0]


# ------------------------------------------------------------------------------- where to look


def configured_places() -> Places:
    """The indexes and link directories that uv's and pip's settings name, first come first.

    Every archive is checked against its digest, so the order is a matter of speed, not of trust.
    """
    indexes = [
        value
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
        if (value := os.environ.get(name, "").strip())
    ]
    settings = _pip_settings()
    indexes += settings.get("index-url", [])
    if not indexes:
        indexes.append(PYPI_SIMPLE_ENDPOINT)
    for value in settings.get("extra-index-url", []):
        indexes += value.split()
    links = [link for value in settings.get("find-links", []) for link in value.split()]
    certificates = settings.get("cert", [])
    return Places(
        indexes=tuple(dict.fromkeys(indexes)),
        find_links=tuple(dict.fromkeys(links)),
        certificates=certificates[0] if certificates else None,
    )


def _pip_settings() -> dict[str, list[str]]:
    """What ``pip config list`` says, by option; the environment's value comes first, as in pip."""
    try:
        listed = process.run([sys.executable, "-m", "pip", "config", "list"], timeout=60).stdout
    except CommandFailed as error:
        raise FetchError(
            "pip's configuration cannot be read",
            problems=error.output.splitlines()[-3:],
            hint="try `pip config list` and mend what it complains about",
        ) from error
    return parse_pip_settings(listed)


def parse_pip_settings(listed: str) -> dict[str, list[str]]:
    """The options in the output of ``pip config list``, each with its values, strongest first."""
    settings: dict[str, list[tuple[int, str]]] = {}
    strength = {":env:": 0, "download": 1, "install": 2, "global": 3}
    for line in listed.splitlines():
        key, separator, literal = line.partition("=")
        section, dot, option = key.rpartition(".")
        if not separator or not dot or section not in strength:
            continue
        value = str(ast.literal_eval(literal))
        settings.setdefault(option, []).append((strength[section], value))
    return {option: [value for _, value in sorted(found)] for option, found in settings.items()}


# ------------------------------------------------------------------------------------- fetching


def _fetch_from_anywhere(release: Release, target: Path) -> None:
    places = configured_places()
    problems: list[str] = []
    for fetcher in _fetchers(release, places):
        problem = fetcher(target)
        if problem is None:
            return
        problems.append(problem)
    raise FetchError(
        f"{release.sdist_name} could not be fetched",
        problems=problems,
        hint="check the network and the index that `pip config list` names; if the digest is what "
        "differs, compare sha256 in the recipe with the one your index lists before changing it",
    )


@dataclass(frozen=True, slots=True)
class _Fetcher:
    """Tries one place; called with the target, returns what went wrong or None."""

    release: Release
    place: str
    certificates: str | None

    def __call__(self, target: Path) -> str | None:
        shown = without_credentials(self.place)
        partial = target.with_name(target.name + files.PARTIAL)
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not self._copy_or_download(partial):
                return f"{shown}: does not have it"
            found = files.sha256(partial)
            if found == self.release.sha256:
                partial.replace(target)
                return None
        except OSError as error:
            if trouble.is_full(error):  # the same would come of every place
                raise
            return f"{shown}: {http.said(error)}"
        except http.ODD_ANSWERS as error:
            return f"{shown}: {http.said(error)}"
        finally:
            partial.unlink(missing_ok=True)
        return (
            f"{shown}: SHA-256 differs; expected {self.release.sha256}, came {found}; "
            "the download was deleted"
        )

    def _copy_or_download(self, partial: Path) -> bool:
        local = local_path(self.place)
        if local is not None:
            return _copy_from_directory(self.release, local, partial)
        return _download(self.release, self.place, self.certificates, partial)


def _fetchers(release: Release, places: Places) -> Iterator[_Fetcher]:
    for place in (*places.find_links, *places.indexes):
        yield _Fetcher(release, place, places.certificates)


def local_path(place: str) -> Path | None:
    """The directory that a path or a file: URL names; None for anything on the network."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if "://" in place else Path(place).expanduser()


def _copy_from_directory(release: Release, directory: Path, partial: Path) -> bool:
    """Copy the sdist out of a find-links directory, or an index kept as files."""
    candidates = [directory / release.sdist_name, directory / release.project / release.sdist_name]
    page = directory / release.project / "index.html"
    if page.is_file():
        base = page.as_uri()
        listing = ProjectPage.from_html(release.project, page.read_bytes(), base)
        package = _sdist_in(listing, release)
        if package is not None and (linked := local_path(package.url)) is not None:
            candidates.append(linked)
    for candidate in candidates:
        if candidate.is_file():
            partial.write_bytes(candidate.read_bytes())
            return True
    return False


def _worth_another_try(error: Exception) -> bool:
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in _PASSING_TROUBLE
    return isinstance(error, requests.ConnectionError | requests.Timeout)


def _download(release: Release, index: str, certificates: str | None, partial: Path) -> bool:
    with http.simple_client(index, certificates) as (client, session):
        for attempt in stamina.retry_context(on=_worth_another_try, attempts=_ATTEMPTS):
            with attempt:
                try:
                    session.limit = http.PAGE_LIMIT
                    page = client.get_project_page(release.project)
                except NoSuchProjectError:
                    return False
                package = _sdist_in(page, release)
                if package is None:
                    return False
                # The digest is compared with the recipe's, not with what the same index says.
                session.limit = min(package.size or _MAX_SDIST, _MAX_SDIST)
                client.download_package(package, partial, verify=False)
    return True


def _sdist_in(page: ProjectPage, release: Release) -> DistributionPackage | None:
    for package in page.packages:
        if package.package_type == "sdist" and package.version == release.version:
            return package
    return None
