"""What the index that pip is set up with has of a project: asked in parallel, kept for an hour."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Protocol

import requests
import stamina
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import TypeAdapter
from pypi_simple import (
    DistributionPackage,
    NoSuchProjectError,
    ProjectPage,
    PyPISimple,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)
from requests.adapters import HTTPAdapter

from freewheel.audit.target import wheel_name
from freewheel.base import files
from freewheel.build.source import Places, local_path

_AT_ONCE = 16  # requests
_ATTEMPTS = 3
_TIMEOUT = 30.0  # seconds without a byte
_FRESH = 3600.0  # seconds for which an answer is kept
_PASSING_TROUBLE = {408, 429, 500, 502, 503, 504}  # HTTP status codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One file that an index lists; ``uploaded`` is None where it does not say when."""

    filename: str
    url: str
    sha256: str = ""
    requires_python: str = ""
    yanked: bool = False
    uploaded: datetime | None = None

    @property
    def version(self) -> Version | None:
        """The release that the file is of; None where its name does not say."""
        return _version_in(self.filename)


@cache
def _version_in(filename: str) -> Version | None:
    if filename.endswith(".whl"):
        return version_of("".join(filename.split("-")[1:2]))
    return version_of(filename.removesuffix(".zip").removesuffix(".tar.gz").split("-")[-1])


@cache
def version_of(text: str) -> Version | None:
    """A version, None for what is none; a project has thousands of files, of far fewer releases."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What all indexes together have of a project; ``problem`` says why that may be not all."""

    offers: tuple[Offer, ...] = ()
    problem: str = ""


class Offers(Protocol):
    """Whatever can be asked what there is of projects: an index, or its recorded answers."""

    def ask(self, names: Iterable[str]) -> Mapping[str, Answer]: ...


_KEPT = TypeAdapter(tuple[Offer, ...])


class Index:
    """The configured indexes and link directories; answers are kept in ``directory``."""

    def __init__(
        self,
        places: Places,
        directory: Path,
        *,
        refresh: bool = False,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        every = (*places.indexes, *places.find_links)
        self._remote = [place for place in every if local_path(place) is None]
        self._local = [place for place in every if local_path(place) is not None]
        where = hashlib.sha256(json.dumps(self._remote).encode()).hexdigest()
        self._directory = directory / where[:16]
        self._refresh = refresh
        self._progress = progress
        self._session = session(places)

    def ask(self, names: Iterable[str]) -> Mapping[str, Answer]:
        """What there is of each project."""
        wanted = sorted(set(names))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(wanted, pool.map(self._ask, wanted), strict=True))

    def _ask(self, name: str) -> Answer:
        """What the places have; only what came over a network is kept, as files here may change."""
        kept = self._directory / f"{name}.json"
        answer = None if self._refresh else _read(kept)
        if answer is None:
            answer = self._together(name, self._remote)
            if not answer.problem:
                files.write_bytes(kept, _KEPT.dump_json(answer.offers))
        if self._local:
            here = self._together(name, self._local)
            known = {offer.filename for offer in answer.offers}
            more = (offer for offer in here.offers if offer.filename not in known)
            problems = filter(None, (answer.problem, here.problem))
            answer = Answer(offers=(*answer.offers, *more), problem="; ".join(problems))
        self._progress()
        return answer

    def _together(self, name: str, places: Iterable[str]) -> Answer:
        offers: dict[str, Offer] = {}
        problems = []
        for place in places:
            found, problem = self._in_one(place, name)
            for offer in found:
                offers.setdefault(offer.filename, offer)
            if problem:
                problems.append(problem)
        return Answer(offers=tuple(offers.values()), problem="; ".join(problems))

    def _in_one(self, place: str, name: str) -> tuple[list[Offer], str]:
        """What one index has, and what went wrong when it was asked."""
        try:
            directory = local_path(place)
            if directory is not None:
                return _in_directory(directory, name), ""
            return self._page(place, name), ""
        except NoSuchProjectError:
            return [], ""
        except (
            requests.RequestException,
            UnsupportedContentTypeError,
            UnsupportedRepoVersionError,
            OSError,
            ValueError,
        ) as error:
            return [], f"the index did not answer for {name}: {_said(error)}"

    def _page(self, place: str, name: str) -> list[Offer]:
        client = PyPISimple(place, session=self._session)
        for attempt in stamina.retry_context(on=_worth_another_try, attempts=_ATTEMPTS):
            with attempt:
                page = client.get_project_page(name, timeout=_TIMEOUT)
        return [_offer(package) for package in page.packages]


def session(places: Places) -> requests.Session:
    """A session for several threads that trusts what pip trusts."""
    made = requests.Session()
    made.mount("https://", HTTPAdapter(pool_connections=4, pool_maxsize=_AT_ONCE))
    if places.certificates:
        made.verify = places.certificates
    return made


def _worth_another_try(error: Exception) -> bool:
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in _PASSING_TROUBLE
    return isinstance(error, requests.Timeout)


def _read(path: Path) -> Answer | None:
    """An answer that was kept, if it is not too old."""
    try:
        if time.time() - path.stat().st_mtime > _FRESH:
            return None
        return Answer(offers=_KEPT.validate_json(path.read_bytes()))
    except (OSError, ValueError):
        return None


def _offer(package: DistributionPackage) -> Offer:
    return Offer(
        filename=package.filename,
        url=package.url,
        sha256=package.digests.get("sha256", ""),
        requires_python=package.requires_python or "",
        yanked=package.is_yanked,
        uploaded=package.upload_time,
    )


def _in_directory(directory: Path, name: str) -> list[Offer]:
    """What an index of files, or a directory of archives, has of a project."""
    page = directory / name / "index.html"
    if page.is_file():
        listing = ProjectPage.from_html(name, page.read_text(encoding="utf-8"), page.as_uri())
        return [_offer(package) for package in listing.packages]
    found = []
    for path in sorted(directory.glob("*")) if directory.is_dir() else ():
        wheel = wheel_name(path.name)
        stem = path.name.removesuffix(".tar.gz").rpartition("-")[0]
        project = wheel.project if wheel else canonicalize_name(stem)
        if project == name and path.name.endswith((".whl", ".tar.gz")):
            digest = files.sha256(path)
            found.append(Offer(filename=path.name, url=path.resolve().as_uri(), sha256=digest))
    return found


def _said(error: Exception) -> str:
    """An error of the network in a few words, without addresses that hold passwords."""
    if isinstance(error, requests.HTTPError):
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {_TIMEOUT:.0f} seconds"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__
