"""Where wheels are published to: twine's settings as twine reads them, and a client for it."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import getaddrinfo
from urllib.parse import urlsplit

import requests
from pypi_simple import PyPISimple
from twine import repository as twine_repository
from twine import utils as twine_utils
from twine.exceptions import NonInteractive, TwineException
from twine.settings import Settings

from freewheel.base import http
from freewheel.base.errors import PublishError
from freewheel.base.http import Credentials
from freewheel.base.workspace import Workspace
from freewheel.publish.server import LocalServer, local_server

INDEX_URL = "FREEWHEEL_INDEX_URL"  # the variable that names the Simple repository API to read from
CREDENTIALS_HINT = (
    "set TWINE_USERNAME and TWINE_PASSWORD, or add them to the repository's section of ~/.pypirc"
)
_PUBLIC = {
    urlsplit(url).hostname
    for url in (
        twine_utils.DEFAULT_REPOSITORY,
        twine_utils.TEST_REPOSITORY,
        twine_repository.LEGACY_PYPI,
        twine_repository.LEGACY_TEST_PYPI,
        twine_repository.OLD_WAREHOUSE,
        twine_repository.WAREHOUSE_WEB,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where wheels are uploaded to, and where they are then read from; the URLs hold no password.

    ``ca_bundle`` and ``client_certificate`` are paths of PEM files.
    """

    upload_url: str
    simple_url: str
    credentials: Credentials | None
    reading: Credentials | None
    ca_bundle: str | None = None
    client_certificate: str | None = None


# -------------------------------------------------------------------------- where it goes


def resolve_destination(workspace: Workspace) -> Destination:
    """The repository that twine's settings name; where none does, the local server if it runs.

    The settings are TWINE_REPOSITORY_URL, TWINE_REPOSITORY, TWINE_USERNAME, TWINE_PASSWORD,
    TWINE_CERT, ~/.pypirc and the keyring, read by twine itself. Raises PublishError where they
    name the public index, no credentials, or a repository whose index URL is unknown.
    """
    try:
        settings = _twine_settings()
        url = str(settings.repository_config["repository"])
        if _is_public(url):
            return _instead_of_public(workspace, url)
        username, password = settings.username, settings.password
    except NonInteractive as error:
        raise PublishError(
            f"there are no credentials for {url}", problems=[str(error)], hint=CREDENTIALS_HINT
        ) from error
    except TwineException as error:
        raise PublishError(f"twine's settings: {error}", hint="fix them and try again") from error
    credentials = (
        Credentials(username=username, password=password) if username and password else None
    )
    upload = Destination(
        upload_url=url,
        simple_url="",
        credentials=credentials,
        reading=credentials,
        ca_bundle=settings.cacert,
        client_certificate=settings.client_cert,
    )
    return _with_index(upload)


def _twine_settings() -> Settings:
    parser = ArgumentParser()
    Settings.register_argparse_arguments(parser)
    return Settings.from_argparse(parser.parse_args(["--non-interactive"]))


def _instead_of_public(workspace: Workspace, url: str) -> Destination:
    """The local server, unless the user asked for the public index in so many words."""
    asked = [name for name in ("REPOSITORY_URL", "REPOSITORY") if os.environ.get(f"TWINE_{name}")]
    keys = [name for name in ("USERNAME", "PASSWORD") if os.environ.get(f"TWINE_{name}")]
    if asked or keys:
        named = ", ".join(f"TWINE_{name}" for name in asked + keys)
        raise PublishError(
            f"{url} is the public package index, and a patched wheel must not get there",
            problems=[f"set in the environment: {named}"]
            + ([] if asked else ["without a repository, twine means the public index"]),
            hint="set TWINE_REPOSITORY_URL to your own index; or, for the server of "
            f"`nox -s serve`, unset {named}",
        )
    server = local_server(workspace)
    if server is None:
        raise PublishError(
            "no repository is named, and the local server does not run",
            hint="start it with `nox -s serve` in another terminal, or set TWINE_REPOSITORY_URL, "
            "TWINE_USERNAME and TWINE_PASSWORD for your own index",
        )
    return on_this_machine(server)


def _is_public(url: str) -> bool:
    """Whether a URL leads to the public index, however its host is written, or by its address."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if host in _PUBLIC:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_global and address in _public_addresses()


def _public_addresses() -> set[IPv4Address | IPv6Address]:
    found = set()
    for host in _PUBLIC:
        with suppress(OSError, ValueError):
            found |= {ip_address(info[4][0]) for info in getaddrinfo(host, 443)}
    return found


def on_this_machine(server: LocalServer) -> Destination:
    """The server that `nox -s serve` runs, whatever twine's settings name."""
    credentials = Credentials(username=server.username, password=server.password)
    return Destination(
        upload_url=server.upload_url,
        simple_url=server.simple_url,
        credentials=credentials,
        reading=credentials,
    )


def _with_index(upload: Destination) -> Destination:
    """Add the index URL: the one that FREEWHEEL_INDEX_URL names, or the one that devpi has."""
    named = os.environ.get(INDEX_URL)
    if named:
        bare, reading = http.split_credentials(named)
        if reading is None and http.origin(bare) == http.origin(upload.upload_url):
            reading = upload.credentials
        return replace(upload, simple_url=bare, reading=reading)
    guess = upload.upload_url.rstrip("/") + "/+simple/"
    with session_for(upload) as session:
        try:
            answer = session.get(guess)
        except requests.RequestException as error:
            raise _unreachable(upload.upload_url, error) from error
    if "X-Devpi-Server-Version" not in answer.headers:
        raise PublishError(
            f"the index URL that belongs to {upload.upload_url} is not known",
            hint=f"set {INDEX_URL} to the URL that pip would use as --index-url",
        )
    return replace(upload, simple_url=guess)


# ------------------------------------------------------------------------------------ HTTP


@contextmanager
def session_for(destination: Destination) -> Iterator[requests.Session]:
    """An HTTP session with the certificates and credentials of the destination."""
    url = destination.simple_url or destination.upload_url
    with http.Session() as session:
        session.trust_env = not is_loopback(url)  # a proxy does not know this machine's loopback
        if destination.reading:
            session.auth = http.OriginAuth(url, destination.reading)
        session.verify = destination.ca_bundle or True
        session.cert = destination.client_certificate
        yield session


@contextmanager
def connect(destination: Destination) -> Iterator[PyPISimple]:
    """A client of the destination's Simple repository API."""
    with session_for(destination) as session:
        yield PyPISimple(destination.simple_url, session=session)


@contextmanager
def explained(destination: Destination) -> Iterator[None]:
    """Say what a failure of the index means and what to do about it."""
    url = destination.simple_url
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code
        denied = status in {requests.codes.unauthorized, requests.codes.forbidden}
        raise PublishError(
            f"{url} answered with status {status}",
            hint=f"check that these credentials may read; {CREDENTIALS_HINT}"
            if denied
            else f"check the URL; {INDEX_URL} names another one",
        ) from error
    except requests.exceptions.JSONDecodeError as error:
        raise _no_index(url, error) from error
    except requests.RequestException as error:
        raise _unreachable(url, error) from error
    except http.ODD_ANSWERS as error:
        raise _no_index(url, error) from error


def _no_index(url: str, error: Exception) -> PublishError:
    return PublishError(
        f"{url} answered with what is no package index: {http.said(error)}",
        hint=f"set {INDEX_URL} to the right URL, or repair the index",
    )


def _unreachable(url: str, error: Exception) -> PublishError:
    return PublishError(
        f"{url} cannot be reached",
        problems=[type(error).__name__],
        hint="check the URL, the network and TWINE_CERT, and that the server runs",
    )


def is_loopback(url: str) -> bool:
    """Whether a URL stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
