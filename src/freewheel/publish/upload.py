"""Stage *publish*: certified wheels go to a private index with twine, are read back and compared.

What could be wrong is found before anything leaves this machine: no server checks that METADATA
agrees with the file name, or that a name is not another one in a different case.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
import stamina
from packaging.metadata import parse_email
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from pypi_simple import (
    DistributionPackage,
    NoSuchProjectError,
    PyPISimple,
)

from freewheel.base import differences, files, process
from freewheel.base.errors import CommandFailed, PublishError
from freewheel.base.wheel_archive import core_metadata
from freewheel.build.check import KnownWheel
from freewheel.proof.certificate import CertifiedWheel
from freewheel.publish.destination import (
    CREDENTIALS_HINT,
    Destination,
    connect,
    explained,
    is_loopback,
)

_REVISION = re.compile(r"\+ft\.[1-9][0-9]*$")
_VISIBLE = 90.0  # seconds in which an index must show what it accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A wheel that the index serves with the bytes it was sent; ``uploaded`` by this run or not."""

    wheel: KnownWheel
    url: str
    uploaded: bool


# ------------------------------------------------------------------------------ publishing


def publish(
    certified: Sequence[CertifiedWheel],
    destination: Destination,
    unproven: Sequence[KnownWheel] = (),
) -> tuple[Published, ...]:
    """Upload what the index lacks, then read every file back and compare it.

    ``unproven`` are wheels that somebody named one by one, although nothing is proven about them.

    A file that is there with the same bytes is a success. Raises PublishError with all problems
    before the first upload: a version that is no ``+ft.N``, METADATA that disagrees with the file
    name, a file name that the index has with other bytes or in another spelling.
    """
    wheels = (*certified, *unproven)
    problems = [problem for wheel in wheels for problem in _wheel_problems(wheel)]
    problems += [
        f"{wheel.path.name}: {wheel.version} is no patched version (X+ft.N); a baseline is not "
        "published"
        for wheel in certified
        if not _REVISION.search(wheel.version)
    ]
    problems += _batch_problems(wheels)
    if problems:
        raise PublishError(
            "nothing was uploaded", problems=problems, hint="build the wheels again, then publish"
        )
    with connect(destination) as client, explained(destination):
        there = {}
        for wheel in wheels:
            found = _listed(client, wheel.project)
            there[wheel] = any(package.filename == wheel.path.name for package in found)
            problems += _index_problems(client, wheel, found)
        if problems:
            raise PublishError(
                f"nothing was uploaded to {destination.upload_url}",
                problems=problems,
                hint="raise `revision` of the release in the recipe, build again, then publish",
            )
        for wheel in wheels:
            if not there[wheel]:
                _upload(wheel, destination)
        return tuple(
            Published(wheel=wheel, url=_read_back(client, wheel), uploaded=not there[wheel])
            for wheel in wheels
        )


def _wheel_problems(wheel: KnownWheel) -> Iterator[str]:
    """What is wrong with a wheel by itself; asks nobody."""
    name = wheel.path.name
    if not wheel.path.is_file() or files.sha256(wheel.path) != wheel.sha256:
        yield f"{name}: is not the file that was verified"
        return
    try:
        project, version, _, _ = parse_wheel_filename(name)
    except InvalidWheelFilename as error:
        yield str(error)
        return
    if (project, name.split("-")[1]) != (wheel.project, wheel.version):
        yield f"{name}: the file name says {project} {version}, not {wheel.project} {wheel.version}"
    said = parse_email(core_metadata(wheel.path))[0]
    said_name, said_version = said.get("name", "nothing"), said.get("version", "nothing")
    if canonicalize_name(said_name) != project:
        yield f"{name}: METADATA names the project {said_name}"
    if said_version != name.split("-")[1]:
        yield f"{name}: METADATA says version {said_version}"


def _batch_problems(wheels: Sequence[KnownWheel]) -> Iterator[str]:
    for position, wheel in enumerate(wheels):
        earlier = [w.path.name for w in wheels[:position] if w.project == wheel.project]
        other = differences.twin(wheel.path.name, earlier)
        if other:
            yield f"{wheel.path.name}: differs from {other} only in case or spelling"


def _listed(client: PyPISimple, project: str) -> list[DistributionPackage]:
    """The project's files on the index; none where the index does not know it."""
    try:
        return client.get_project_page(project).packages
    except NoSuchProjectError:
        # Nothing there, or no index there? The root page tells.
        client.get_index_page()
        return []


def _index_problems(
    client: PyPISimple, wheel: KnownWheel, found: Sequence[DistributionPackage]
) -> list[str]:
    """What the index has that this wheel must not stand beside."""
    name = wheel.path.name
    other = differences.twin(name, [package.filename for package in found])
    if other:
        return [f"{name}: the index has {other}, which differs only in case or spelling"]
    for package in found:
        if package.filename == name and package.digests.get("sha256") != wheel.sha256:
            with _downloaded(client, package) as old:
                if files.sha256(old) != wheel.sha256:
                    reasons = differences.differences(old, wheel.path)
                    return [f"{name}: the index has it with other bytes", *reasons]
    return []


def _upload(wheel: KnownWheel, destination: Destination) -> None:
    """One file, with twine as a program: its own code prints."""
    options = ["--repository-url", destination.upload_url, "--non-interactive"]
    if destination.client_certificate:
        options += ["--client-cert", destination.client_certificate]
    command = [sys.executable, "-m", "twine", "upload", "--disable-progress-bar", *options]
    try:
        process.run([*command, wheel.path], env=_twine_environment(destination), timeout=600)
    except CommandFailed as error:
        output = _redacted(error.output, destination)
        status = re.search(r"HTTPError: (\d{3})", output)
        hint = "read what twine printed, above; nothing else was changed"
        if status and status[1] in {"401", "403"}:
            hint = f"check that these credentials may upload; {CREDENTIALS_HINT}"
        raise PublishError(
            f"{wheel.path.name} was not taken by {destination.upload_url}"
            + (f": status {status[1]}" if status else ""),
            hint=hint,
            output=output,
        ) from error


def _twine_environment(destination: Destination) -> dict[str, str | None]:
    """Credentials go by the environment: an argument could be seen in the list of processes."""
    keys = destination.credentials
    environment: dict[str, str | None] = {
        "TWINE_REPOSITORY_URL": None,
        "TWINE_REPOSITORY": None,
        "TWINE_USERNAME": keys.username if keys else None,
        "TWINE_PASSWORD": keys.password if keys else None,
        "NO_COLOR": "1",
    }
    if destination.ca_bundle:
        # requests prefers this variable to twine's own settings.
        environment |= dict.fromkeys(("TWINE_CERT", "REQUESTS_CA_BUNDLE"), destination.ca_bundle)
    if is_loopback(destination.upload_url):
        environment |= dict.fromkeys(
            ("NO_PROXY", "no_proxy"), urlsplit(destination.upload_url).hostname
        )
    return environment


def _redacted(text: str, destination: Destination) -> str:
    keys = destination.credentials
    return text.replace(keys.password, "********") if keys and keys.password else text


# ------------------------------------------------------------------------------ reading back


class _NotThereYetError(Exception):
    """The index does not show the file; some take a while."""


def _read_back(client: PyPISimple, wheel: KnownWheel) -> str:
    """The URL of the file on the index. Raises PublishError where it is not what was sent."""
    name = wheel.path.name
    try:
        for attempt in stamina.retry_context(
            on=_NotThereYetError, attempts=20, timeout=_VISIBLE, wait_initial=0.2, wait_max=10
        ):
            with attempt:
                package = _find(client, wheel)
                problems = _package_problems(client, wheel, package)
    except _NotThereYetError as error:
        raise PublishError(
            f"{name} was uploaded, but the index does not list it after {_VISIBLE:.0f} s",
            hint="run the same command again later: a file that is there by then is a success",
        ) from error
    if problems:
        raise PublishError(
            f"what the index serves as {name} is not what was sent",
            problems=problems,
            hint=f"take the file off the index ({package.url}), find out who changed it, and "
            "publish again",
        )
    return package.url


def _find(client: PyPISimple, wheel: KnownWheel) -> DistributionPackage:
    for package in _listed(client, wheel.project):
        if package.filename == wheel.path.name:
            return package
    raise _NotThereYetError(wheel.path.name)


def _package_problems(
    client: PyPISimple, wheel: KnownWheel, package: DistributionPackage
) -> list[str]:
    problems = []
    try:
        with _downloaded(client, package) as path:
            came = files.sha256(path)
    except requests.HTTPError as error:
        if error.response.status_code == requests.codes.not_found:
            raise _NotThereYetError(package.url) from error
        raise
    if came != wheel.sha256:
        problems.append(f"SHA-256 of the download: {came}; sent was {wheel.sha256}")
    listed = package.digests.get("sha256", wheel.sha256)
    if listed != wheel.sha256:
        problems.append(f"SHA-256 on the page: {listed}; sent was {wheel.sha256}")
    metadata = core_metadata(wheel.path)
    if package.has_metadata:
        served = client.get_package_metadata_bytes(package, verify=False)
        if served != metadata:
            problems.append("the core metadata file beside it is not the wheel's METADATA")
    required = parse_email(metadata)[0].get("requires_python")
    if package.requires_python not in (None, required):
        problems.append(f"Requires-Python {package.requires_python}; METADATA says {required}")
    return problems


@contextmanager
def _downloaded(client: PyPISimple, package: DistributionPackage) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="freewheel-") as directory:
        path = Path(directory) / "download.whl"  # the name on the page could lead out of here
        # The digest that counts is the sent file's, not the one the page names.
        client.download_package(package, path, verify=False)
        yield path
