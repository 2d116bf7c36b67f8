"""Look at this machine: what is there, what a build would choose and why, and what is missing.

Nothing is installed, pulled or made, except the tiny image that a container engine is probed with.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import click
import requests

from freewheel.base import console, process
from freewheel.base.errors import CommandFailed, FreewheelError, MachineError
from freewheel.base.redaction import without_credentials
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build.source import configured_places
from freewheel.machine import debian, postgres
from freewheel.machine.engine import Engine, find_engine, missing_packages
from freewheel.machine.host import Host, look_at_host
from freewheel.machine.image import find_image, official_reference
from freewheel.machine.interpreter import find_interpreter, uv_program
from freewheel.machine.jail import why_no_jail
from freewheel.machine.local_image import specifications
from freewheel.recipe.pythons import PYTHONS, Python

_GIB = 1 << 30
_ROOM = 5 * _GIB  # bytes: a base system, CPython's build tree, the image and its layers
_REACH_TIMEOUT = 10.0  # seconds
_CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "UV_SYSTEM_CERTS")
_PROXIES = ("https_proxy", "http_proxy", "all_proxy")

State = Literal["ok", "chosen", "odd", "absent", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    ``state`` is ok (there), chosen (what a build would use), odd (unusual, and handled), absent
    (a build obtains it, or does not need it) or missing (a build fails without it). ``reason``
    says why; ``remedy`` is what to do, "" when there is nothing to do.
    """

    topic: str
    state: State
    detail: str
    reason: str = ""
    remedy: str = ""


def examine(workspace: Workspace) -> tuple[Finding, ...]:
    """Everything a build depends on, in the order in which it is needed."""
    host = look_at_host()
    engine, findings = _engine(workspace, host)
    return (
        *_machine(workspace),
        *host_findings(host),
        *proxy_findings(os.environ),
        *_index(),
        _tool("git", ("git", "--version"), "patches are applied with git apply"),
        _uv(),
        *findings,
        *(_image(engine, python) for python in PYTHONS),
        *(_interpreter(workspace, python) for python in PYTHONS),
        _postgresql(),
        _jail(),
    )


# ------------------------------------------------------------------------------------ the machine


def _machine(workspace: Workspace) -> Iterator[Finding]:
    here = debian.distribution()
    yield Finding(
        topic="system",
        state="ok",
        detail=f"{here.family or 'unknown'} {here.suite} {platform.machine()}".replace("  ", " "),
        reason="as root" if debian.is_root() else "not as root: no packages can be installed",
    )
    cores = os.cpu_count() or 1
    yield Finding(topic="cores", state="ok", detail=str(cores), reason="as many wheels at once")
    for topic, path in (("cache", workspace.cache), ("data", workspace.data)):
        free = shutil.disk_usage(_existing(path)).free
        yield disk_finding(topic, path, free, needed=_ROOM if topic == "cache" else 0)


def disk_finding(topic: str, path: Path, free: int, *, needed: int) -> Finding:
    """Where things are kept, and whether ``free`` bytes are enough for ``needed``."""
    shown = f"{path} ({free / _GIB:.0f} GiB free)"
    variable = f"FREEWHEEL_{topic.upper()}"
    if free < needed:
        return Finding(
            topic=topic,
            state="missing",
            detail=shown,
            reason=f"a builder image needs {needed / _GIB:.0f} GiB while it is made",
            remedy=f"free some space, or set {variable} to a larger disk",
        )
    return Finding(topic=topic, state="ok", detail=shown, reason=f"{variable} moves it")


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def host_findings(host: Host) -> Iterator[Finding]:
    """The oddities that decide how containers are started."""
    if host.needs_runc:
        yield Finding(
            topic="control groups",
            state="odd",
            detail=host.cgroups,
            reason="crun refuses them, so Podman gets runc",
            remedy="" if shutil.which("runc") else f"`{debian.install_command(('runc',))}`",
        )
    else:
        yield Finding(topic="control groups", state="ok", detail=host.cgroups)
    if host.root and not host.may_raise_limits:
        yield Finding(
            topic="limits",
            state="odd",
            detail=", ".join(f"{name} {hard}" for name, hard in host.limits.items()),
            reason="they cannot be raised here, so containers get no more than these",
        )
    else:
        yield Finding(topic="limits", state="ok", detail="containers get their usual ones")


def proxy_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """The proxies and certificate bundles that the environment names, without credentials."""
    for name in _PROXIES:
        value = environ.get(name) or environ.get(name.upper())
        if value:
            yield Finding(topic="proxy", state="odd", detail=f"{name}={without_credentials(value)}")
    named = [f"{name}={environ[name]}" for name in _CERTIFICATES if environ.get(name)]
    if named:
        yield Finding(
            topic="certificates",
            state="odd",
            detail=", ".join(named),
            reason="used for all downloads; builds in containers have no network",
        )


def _index() -> Iterator[Finding]:
    try:
        places = configured_places()
    except FreewheelError as error:
        yield Finding(
            topic="package index", state="missing", detail=error.summary, remedy=error.hint
        )
        return
    for index in places.indexes:
        shown = without_credentials(index)
        problem = _unreachable(index, places.certificates)
        yield Finding(
            topic="package index",
            state="missing" if problem else "ok",
            detail=shown,
            reason=problem or "answers",
            remedy="check the network and `pip config list`" if problem else "",
        )
    for link in places.find_links:
        yield Finding(topic="find-links", state="ok", detail=without_credentials(link))


def _unreachable(index: str, certificates: str | None) -> str:
    """Why an index cannot be used; "" when it answers. Never has credentials in it."""
    parts = urlsplit(index)
    if parts.scheme not in ("http", "https"):
        return "" if Path(parts.path).is_dir() else "there is no such directory"
    try:
        answer = requests.get(
            f"{index.rstrip('/')}/pip/",
            headers={"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5"},
            timeout=_REACH_TIMEOUT,
            verify=certificates or True,
            stream=True,
        )
    except requests.RequestException as error:
        return f"does not answer ({type(error).__name__})"
    return "" if answer.ok else f"answers {answer.status_code} {answer.reason}"


# --------------------------------------------------------------------------------------- programs


def _tool(name: str, argv: tuple[str, ...], reason: str) -> Finding:
    try:
        said = process.run(argv, timeout=_REACH_TIMEOUT).stdout.strip()
    except CommandFailed:
        return Finding(
            topic=name,
            state="missing",
            detail="not installed",
            reason=reason,
            remedy=_how_to_install(name),
        )
    return Finding(topic=name, state="ok", detail=said, reason=reason)


def _uv() -> Finding:
    reason = "makes the environments that wheels are checked in"
    return _tool("uv", (str(uv_program() or "uv"), "--version"), reason)


def _jail() -> Finding:
    reason = "what a proof runs sees only what it needs of this machine"
    if problem := why_no_jail():
        remedy = "docs/security.md says what a jail needs, and what it means without"
        return Finding(topic="jail", state="absent", detail=problem, reason=reason, remedy=remedy)
    return Finding(topic="jail", state="ok", detail="Linux namespaces", reason=reason)


def _postgresql() -> Finding:
    reason = "no build needs it; proofs of database drivers and the tests start a server"
    directory = postgres.find_binaries()
    if directory is None:
        return Finding(
            topic="PostgreSQL",
            state="absent",
            detail="no initdb and postgres on PATH or in /usr/lib/postgresql",
            reason=reason,
            remedy=_how_to_install("postgresql"),
        )
    return Finding(topic="PostgreSQL", state="ok", detail=str(directory), reason=reason)


def _how_to_install(program: str) -> str:
    if debian.distribution().has_apt:
        return f"`{debian.install_command((program,))}`"
    return f"install {program}"


# ------------------------------------------------------------------------------------ the builder


def _engine(workspace: Workspace, host: Host) -> tuple[Engine | None, list[Finding]]:
    try:
        engine = find_engine(workspace, may_install=False)
    except MachineError as error:
        obtained = missing_packages(host) and debian.can_install()
        remedy = f"`nox -s build` installs it, or {error.hint}" if obtained else error.hint
        return None, [
            Finding(
                topic="engine",
                state="absent" if obtained else "missing",
                detail=error.summary,
                reason="; ".join(error.problems),
                remedy=remedy,
            )
        ]
    return engine, [
        Finding(
            topic="engine",
            state="chosen",
            detail=f"{engine.name} {engine.version}",
            reason="; ".join(engine.reasons),
        )
    ]


def _image(engine: Engine | None, python: Python) -> Finding:
    target = f"{python}-manylinux_{platform.machine()}"
    topic = f"image for {python}"
    can_make = bool(specifications(target)) and debian.can_install()
    if engine is None:
        return Finding(topic=topic, state="absent", detail="unknown without an engine")
    found = find_image(engine, target)
    if found:
        return Finding(
            topic=topic,
            state="chosen",
            detail=f"{found.origin}: {found.reference}",
            reason="it is there already",
        )
    official = official_reference(target).partition("@")[0]
    ways = [f"pulls {official}"] if official else []
    ways += ["makes a local one"] if can_make else []
    return Finding(
        topic=topic,
        state="ok" if ways else "missing",
        detail="none yet",
        reason=f"the first build {', or else '.join(ways)}" if ways else "no way to one",
        remedy="" if ways else "name one with FREEWHEEL_IMAGE",
    )


def _interpreter(workspace: Workspace, python: Python) -> Finding:
    topic = f"interpreter for {python}"
    try:
        found = find_interpreter(workspace, python, obtain=False)
    except FreewheelError as error:
        return Finding(
            topic=topic,
            state="absent",
            detail=error.summary,
            reason="; ".join(error.problems),
            remedy=f"the first build for it obtains one; or {error.hint}",
        )
    return Finding(
        topic=topic,
        state="chosen",
        detail=f"{found.version} {found.path}",
        reason=f"from {found.origin}",
    )


@click.command(
    short_help="Say what this machine has and lacks.",
    epilog="Example: freewheel doctor",
)
def doctor() -> int:
    """Say what was found on this machine, what would be chosen and why, and what is missing."""
    findings = examine(find_workspace())
    for finding in findings:
        console.say(f"{finding.state:8} {finding.topic}: {finding.detail}")
        if finding.reason:
            console.say(f"{'':8}   {finding.reason}")
        if finding.remedy:
            console.say(f"{'':8}   Next: {finding.remedy}")
    return 1 if any(finding.state == "missing" for finding in findings) else 0
