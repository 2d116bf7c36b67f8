"""Stage *publish*, as files: the static index of a release, for Pages or any web server.

A deployment replaces the whole site, but an index is append-only: so what is served now comes
first, file by file and each with its digest, and the release is added to it. What may not be used
any more is said in ``pins/yanked.toml``, and marked anew each time.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urljoin

import requests
import stamina
from pydantic import StringConstraints, TypeAdapter
from pypi_simple import ProjectPage

from freewheel.base import console, files
from freewheel.base.errors import PackageIndexError
from freewheel.base.workspace import PINS
from freewheel.build import index
from freewheel.proof.certificate import CertifiedWheel
from freewheel.release.artifacts import BESIDE

EARLIER = "FREEWHEEL_PAGES_URL"  # the variable that names the index as it is served now
YANKED = PINS / "yanked.toml"
_Reason = Annotated[str, StringConstraints(min_length=1)]
_Yanked = TypeAdapter(dict[Literal["wheels"], dict[str, _Reason]])
_TIMEOUT = 60.0  # seconds without a byte


def assemble(
    wheels: Sequence[CertifiedWheel], directory: Path, *, earlier: str, yanked: dict[str, str]
) -> list[str]:
    """Make ``directory`` a static index of those wheels and of all that ``earlier`` serves.

    ``earlier`` is a URL, a directory, or "" for an index that begins. Gives the names of the wheels
    that are new. Raises PackageIndexError where the two contradict each other, or what is served
    is not what its pages say.
    """
    files.empty_directory(directory)
    if earlier:
        _bring(earlier, directory)
    added = []
    for wheel in wheels:
        if isinstance(index.add(directory, wheel), index.Added):
            added.append(wheel.path.name)
        for suffix in BESIDE:
            if wheel.path.with_name(wheel.path.name + suffix).exists():
                index.attach(directory, wheel.project, wheel.path, suffix)
    _mark(directory, yanked)
    problems = index.check(directory)
    if problems:
        raise PackageIndexError(
            f"the index in {directory} is not sound",
            problems=problems,
            hint="nothing was deployed; find out what changed the index that is served now",
        )
    return added


def _mark(directory: Path, yanked: dict[str, str]) -> None:
    """Yank what the list names, and lift the mark of everything else."""
    for path in sorted(directory.glob("*/*.whl")):
        if path.name not in yanked:
            index.yank(directory, path.name, reason=None)
    for name, reason in yanked.items():
        index.yank(directory, name, reason=reason)


def read_yanked(path: Path = YANKED) -> dict[str, str]:
    """The wheels that may not be used any more, each with the reason. Raises PackageIndexError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return dict(_Yanked.validate_python(table)["wheels"])
    except (OSError, ValueError, KeyError) as error:
        raise PackageIndexError(
            f"{path.name} cannot be read: {error}",
            hint='it has a table [wheels] of lines such as "NAME.whl" = "why"',
        ) from error


# ---------------------------------------------------------------------------- what is served now


def _bring(earlier: str, directory: Path) -> None:
    if "://" not in earlier:
        shutil.copytree(earlier, directory, dirs_exist_ok=True)
        return
    base = earlier.rstrip("/") + "/"
    with requests.Session() as session:
        root = _get(session, urljoin(base, "index.json"))
        if root is None:
            raise PackageIndexError(
                f"{base} serves no index (no index.json)",
                hint=f"correct {EARLIER}; leave it empty for the first release alone",
            )
        for name in [project["name"] for project in root.json()["projects"]]:
            _bring_project(session, f"{base}{name}/", directory / name)
    index.renew(directory)


def _bring_project(session: requests.Session, base: str, directory: Path) -> None:
    page = _need(session, f"{base}index.json")
    listing = ProjectPage.from_json_data(page.json(), base)
    for package in listing.packages:
        target = directory / package.filename
        if target.parent != directory or not package.filename.endswith(".whl"):
            raise PackageIndexError(
                f"{base} lists {package.filename!r}, which is no wheel of it",
                hint="do not deploy; find out who changed the index",
            )
        files.write_bytes(target, _need(session, package.url).content)
        if files.sha256(target) != package.digests.get("sha256"):
            raise PackageIndexError(
                f"{package.url} has not the digest that its page lists",
                hint="do not deploy; find out who changed the index",
            )
        for suffix in BESIDE:
            beside = _get(session, package.url + suffix)
            if beside is not None:
                files.write_bytes(target.with_name(target.name + suffix), beside.content)
    files.write_bytes(directory / "index.json", page.content)
    console.note(f"{directory.name}: {len(listing.packages)} files that are served now")


def _need(session: requests.Session, url: str) -> requests.Response:
    found = _get(session, url)
    if found is None:
        raise PackageIndexError(
            f"{url} is listed, but is not there",
            hint="nothing was deployed; put it back, or try again if the server was busy",
        )
    return found


def _get(session: requests.Session, url: str) -> requests.Response | None:
    """What is at a URL, None where nothing is. Raises PackageIndexError for any other answer."""
    try:
        for attempt in stamina.retry_context(on=requests.RequestException, attempts=4):
            with attempt:
                answer = session.get(url, timeout=_TIMEOUT)
                if answer.status_code == requests.codes.not_found:
                    return None
                answer.raise_for_status()
    except requests.RequestException as error:
        raise PackageIndexError(
            f"{url} cannot be fetched: {error}", hint="check the URL and the network, try again"
        ) from error
    return answer
