"""What an index has of a project: its releases, newest first, each with its sdist and wheels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import requests
import stamina
from packaging.tags import cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from pypi_simple import DistributionPackage, NoSuchProjectError, ProjectPage

from freewheel.base import decoding, http
from freewheel.base.errors import UpstreamError
from freewheel.base.redaction import without_credentials
from freewheel.build.source import Places, configured_places, local_path
from freewheel.recipe.recipe import Release

_ATTEMPTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One release on an index; ``released`` is None where the index does not say when.

    ``sha256`` is that of the sdist, "" where there is none; ``wheels`` are file names.
    """

    project: str
    version: str
    sha256: str
    released: datetime | None
    wheels: tuple[str, ...]

    def serves(self, target: str) -> bool:
        """Whether one of its wheels is for that build identifier."""
        return any(fits(wheel, target) for wheel in self.wheels)

    def as_release(self) -> Release:
        """The release as a recipe would carry it, without patches. Raises UpstreamError."""
        if not self.sha256 or self.released is None:
            missing = "no sdist" if not self.sha256 else "no time of its upload"
            raise UpstreamError(
                f"the index has {missing} of {self.project} {self.version}",
                hint="name an index that has it: `pip config list` shows which one is asked",
            )
        return Release(
            project=self.project,
            version=self.version,
            sha256=self.sha256,
            released=self.released.astimezone(UTC).replace(microsecond=0),
            revision=1,
            patches=(),
        )


def fits(wheel: str, target: str) -> bool:
    """Whether a wheel of that file name has compiled code for a build identifier.

    Which interpreters take it is packaging's answer, so that a wheel of the stable ABI for
    free-threaded builds (abi3t, PEP 803) counts as well.
    """
    python, _, platform = target.partition("-")
    system, _, machine = platform.partition("_")
    try:
        tags = parse_wheel_filename(wheel)[3]
    except InvalidWheelFilename:
        return False
    taken = _interpreter_tags(python)
    for tag in tags:
        if (tag.interpreter, tag.abi) not in taken:
            continue
        both = system == "macosx" and tag.platform.endswith("_universal2")
        if tag.platform.startswith(system) and (tag.platform.endswith(f"_{machine}") or both):
            return True
    return False


@cache
def _interpreter_tags(python: str) -> frozenset[tuple[str, str]]:
    """The pairs of interpreter and ABI that such an interpreter as cp314t takes, any platform."""
    digits = python.removeprefix("cp").removesuffix("t")
    version = (int(digits[0]), int(digits[1:]))
    found = cpython_tags(version, abis=[python], platforms=["any"])
    return frozenset((tag.interpreter, tag.abi) for tag in found)


def offers(project: str) -> tuple[Offer, ...]:
    """The project's releases that are final and not yanked, newest first.

    They come from the first place that the machine is configured with and that knows the project.
    Raises UpstreamError.
    """
    places = configured_places()
    problems: list[str] = []
    for index in places.indexes:
        try:
            page = _page(index, project, places)
        except decoding.DecodeError as error:
            problems.append(error.summary)
            continue
        except http.ODD_ANSWERS as error:
            problems.append(f"{without_credentials(index)}: {http.said(error)}")
            continue
        if page is not None:
            return read_page(project, page)
    raise UpstreamError(
        f"no index that this machine is configured with knows {project}",
        problems=problems,
        hint="check the name, the network, and what `pip config list` names",
    )


def offer_of(project: str, version: str) -> Offer:
    """One release of a project. Raises UpstreamError, naming those that there are."""
    found = offers(project)
    for offer in found:
        if Version(offer.version) == Version(version):
            return offer
    newest = ", ".join(offer.version for offer in found[:5]) or "none"
    raise UpstreamError(
        f"the index has no {project} {version}", hint=f"the newest that it has are {newest}"
    )


def read_page(project: str, page: ProjectPage) -> tuple[Offer, ...]:
    """The offers of one project page."""
    files: dict[Version, list[DistributionPackage]] = {}
    for package in page.packages:
        version = _version(package)
        if version and not version.is_prerelease and not package.is_yanked:
            files.setdefault(version, []).append(package)
    return tuple(_offer(project, files[version]) for version in sorted(files, reverse=True))


def _version(package: DistributionPackage) -> Version | None:
    try:
        found = Version(package.version or "")
    except InvalidVersion:
        return None
    return None if found.local else found


def _offer(project: str, packages: Sequence[DistributionPackage]) -> Offer:
    sdist = next(iter(_sdists(packages)), None)
    return Offer(
        project=canonicalize_name(project),
        version=str(_version(packages[0])),
        sha256=sdist.digests.get("sha256", "") if sdist else "",
        released=sdist.upload_time if sdist else None,
        wheels=tuple(sorted(p.filename for p in packages if p.package_type == "wheel")),
    )


def _sdists(packages: Iterable[DistributionPackage]) -> list[DistributionPackage]:
    return [
        package
        for package in packages
        if package.package_type == "sdist" and package.filename.endswith(".tar.gz")
    ]


def _page(index: str, project: str, places: Places) -> ProjectPage | None:
    """The project's page; None where the index does not know it."""
    directory = local_path(index)
    if directory is not None:
        page = directory / project / "index.json"
        if not page.is_file():
            return None
        content = decoding.from_json(decoding.read_bytes(page), str(page))
        return ProjectPage.from_json_data(content, page.as_uri())
    with http.simple_client(index, places.certificates) as (client, _):
        for attempt in stamina.retry_context(on=requests.ConnectionError, attempts=_ATTEMPTS):
            with attempt:
                try:
                    return client.get_project_page(project)
                except NoSuchProjectError:
                    return None
    return None
