"""Where wheels are published to: twine's settings as twine reads them, and a client for it."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from pypi_simple import (
    PyPISimple,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)
from requests.auth import AuthBase, HTTPBasicAuth
from twine import repository as twine_repository
from twine import utils as twine_utils
from twine.exceptions import NonInteractive, TwineException
from twine.settings import Settings

from freewheel.base.errors import PublishError
from freewheel.base.workspace import Workspace
from freewheel.publish.server import LocalServer, local_server

INDEX_URL = "FREEWHEEL_INDEX_URL"  # the variable that names the Simple repository API to read from
CREDENTIALS_HINT = (
    "set TWINE_USERNAME and TWINE_PASSWORD, or add them to the repository's section of ~/.pypirc"
)
TIMEOUT = 60.0  # seconds for one request
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
class Credentials:
    """A user name and a password; the latter is never shown."""

    username: str
    password: str = field(repr=False)


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
    name the public index, no credentials, or a repository whose index URL cannot be told.
    """
    try:
        settings = _twine_settings()
        url = str(settings.repository_config["repository"])
        if urlsplit(url).hostname in _PUBLIC:
            return _instead_of_public(workspace, url)
        username, password = settings.username, settings.password
    except NonInteractive as error:
        raise PublishError(
            f"there are no credentials for {url}", problems=[str(error)], hint=CREDENTIALS_HINT
        ) from error
    except TwineException as error:
        raise PublishError(f"twine's settings: {error}", hint="mend them and try again") from error
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
        parts = urlsplit(named)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        reading = upload.credentials if _origin(bare) == _origin(upload.upload_url) else None
        if parts.username:
            reading = Credentials(username=parts.username, password=parts.password or "")
        return replace(upload, simple_url=bare, reading=reading)
    guess = upload.upload_url.rstrip("/") + "/+simple/"
    with session_for(upload) as session:
        try:
            answer = session.get(guess, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise _unreachable(upload.upload_url, error) from error
    if "X-Devpi-Server-Version" not in answer.headers:
        raise PublishError(
            f"the index URL that belongs to {upload.upload_url} is not known",
            hint=f"set {INDEX_URL} to the URL that pip would use as --index-url",
        )
    return replace(upload, simple_url=guess)


# ------------------------------------------------------------------------------------ HTTP


class _OriginAuth(AuthBase):
    """Credentials for one origin only; a page may link to files on another host."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        self._origin = _origin(url)
        self._basic = HTTPBasicAuth(credentials.username, credentials.password)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if _origin(request.url or "") == self._origin:
            self._basic(request)
        return request


class _Session(requests.Session):
    """A session whose own CA bundle counts more than the one in the environment."""

    def merge_environment_settings(
        self,
        url: str | bytes | None,
        proxies: MutableMapping[str, str] | None,
        stream: bool | None,  # noqa: FBT001
        verify: Any,  # noqa: ANN401
        cert: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        merged = super().merge_environment_settings(url, proxies, stream, verify, cert)
        if isinstance(self.verify, str):
            merged["verify"] = self.verify
        return merged


@contextmanager
def session_for(destination: Destination) -> Iterator[requests.Session]:
    """An HTTP session with the certificates and credentials of the destination."""
    url = destination.simple_url or destination.upload_url
    with _Session() as session:
        session.trust_env = not is_loopback(url)  # a proxy does not know this machine's loopback
        if destination.reading:
            session.auth = _OriginAuth(url, destination.reading)
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
    except (UnsupportedContentTypeError, UnsupportedRepoVersionError) as error:
        raise PublishError(
            f"{url} is not a package index: {error}", hint=f"set {INDEX_URL} to the right URL"
        ) from error
    except requests.RequestException as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> PublishError:
    return PublishError(
        f"{url} cannot be reached",
        problems=[type(error).__name__],
        hint="check the URL, the network and TWINE_CERT, and that the server runs",
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    ports: Mapping[str, int] = {"http": 80, "https": 443}
    return parts.scheme, parts.hostname, parts.port or ports.get(parts.scheme)


def is_loopback(url: str) -> bool:
    """Whether a URL stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
