"""The private index as a server, for teams: devpi-server on loopback (``nox -s serve``).

All it keeps lies under ``devpi/`` in the user's data directory. The server process itself holds a
lock there for as long as it lives, so one data directory never has two servers, and whether one
runs is known even when the process that started it was killed. Each step of the first start is
either repeated or left alone by the next one.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import requests

from freewheel.base import console, files, process
from freewheel.base.errors import BusyError, PackageIndexError
from freewheel.base.workspace import Workspace
from freewheel.machine.host import free_port

DEFAULT_PORT = 3141
_HOST = "127.0.0.1"
_USER, _INDEX = "freewheel", "patched"
_PATIENCE = 120.0  # seconds for the first answer; a start takes 2 on an idle machine
_TIMEOUT = 30.0  # seconds for one request


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """How a running server is reached, and by whom it is written to."""

    port: int
    pid: int
    username: str
    password: str = field(repr=False)

    @property
    def address(self) -> str:
        return f"http://{_HOST}:{self.port}/"

    @property
    def upload_url(self) -> str:
        """For twine."""
        return f"{self.address}{_USER}/{_INDEX}/"

    @property
    def simple_url(self) -> str:
        """For pip and uv: the Simple repository API."""
        return f"{self.upload_url}+simple/"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that this process started; ``stop`` ends it."""

    server: LocalServer
    child: process.Running

    @property
    def simple_url(self) -> str:
        return self.server.simple_url

    @property
    def upload_url(self) -> str:
        return self.server.upload_url

    def stop(self) -> None:
        self.child.stop()


def serve(workspace: Workspace, *, port: int | None = None) -> None:
    """Start the server, say how to use it, and run it until SIGINT or SIGTERM."""
    process.end_by_sigterm()
    try:
        running = start_server(workspace, port=port)
    except KeyboardInterrupt:
        return
    try:
        console.say(f"The private index runs at {running.server.address} (Ctrl-C stops it).")
        console.say(f"  pip:     --index-url {running.simple_url}")
        console.say(f"  uv:      --default-index {running.simple_url}")
        console.say("  publish: nox -s publish, from another terminal")
        console.say(f"  data and credentials: {_home(workspace)}")
        code = running.child.wait()
    except KeyboardInterrupt:
        return
    finally:
        running.stop()
    raise PackageIndexError(
        f"devpi-server ended by itself with code {code}",
        hint=f"read {running.child.log}, then start it again",
        output=running.child.tail(),
    )


def start_server(workspace: Workspace, *, port: int | None = None) -> RunningServer:
    """Start devpi-server on this machine's loopback and return when it can be used.

    ``port`` None takes the one used last (3141 at first), or a free one where that is taken; 0
    takes a free one. The first start makes the data directory, a user with a random password, and
    an index without bases on which a file, once there, cannot be changed.

    Raises BusyError where a server runs on this data directory already, with its address, and
    PackageIndexError where it does not start.
    """
    if find_spec("devpi_server") is None:
        raise PackageIndexError(
            "devpi-server is not installed here", hint="start it with `nox -s serve`"
        )
    home = _home(workspace)
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    _refuse_second(workspace)
    log = workspace.logs / "devpi-server.log"
    log.unlink(missing_ok=True)
    chosen = _choose_port(home, port)
    child = process.start(
        [sys.executable, "-m", "freewheel.publish.server", home, str(chosen)], log=log
    )
    try:
        server = _await_answer(workspace, child, chosen)
        _provide_index(server, home)
    except BaseException:
        child.stop()
        raise
    return RunningServer(server=server, child=child)


def local_server(workspace: Workspace) -> LocalServer | None:
    """The server that runs on this data directory, whoever started it; None where none answers."""
    home = _home(workspace)
    if not _is_held(home):
        return None
    try:
        state, keys = _load(home / "state.json"), _load(home / "credentials.json")
    except FileNotFoundError:
        return None
    server = LocalServer(
        port=state["port"], pid=state["pid"], username=_USER, password=keys["password"]
    )
    return server if _answers(server.port, home) else None


# --------------------------------------------------------------------------- in this process


def _home(workspace: Workspace) -> Path:
    return workspace.data / "devpi"


def _is_held(home: Path) -> bool:
    """Whether a server process holds the lock of the data directory."""
    if not (home / ".lock").exists():
        return False
    try:
        with files.locked(home / ".lock", what="the package index server", patience=0):
            return False
    except BusyError:
        return True


def _refuse_second(workspace: Workspace) -> None:
    home = _home(workspace)
    if not _is_held(home):
        return
    server = local_server(workspace)
    if server is None:
        pid = _load(home / "state.json").get("pid") if (home / "state.json").exists() else "unknown"
        raise BusyError(
            f"a server on {home} is starting, or does not answer (process {pid})",
            hint="wait a moment; if it stays so, end that process and run the same command again",
        )
    # Its first start may have been cut short before the index was made.
    _provide_index(server, home)
    raise BusyError(
        f"a server on {home} is running already, at {server.address} (process {server.pid})",
        hint=f"use it: its index URL is {server.simple_url}; or stop it: kill {server.pid}",
    )


def _choose_port(home: Path, port: int | None) -> int:
    if port:
        if not _is_free(port):
            raise PackageIndexError(f"port {port} is taken", hint="name another port")
        return port
    state = home / "state.json"
    last = _load(state)["port"] if state.exists() else DEFAULT_PORT
    if port is None and _is_free(last):
        return int(last)
    return free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        # A port whose last connections are still fading is free for a server.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port))
        except OSError:
            return False
    return True


def _await_answer(workspace: Workspace, child: process.Running, port: int) -> LocalServer:
    home = _home(workspace)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if child.returncode() is not None:
            _refuse_second(workspace)  # another start may have been faster
            break
        if _answers(port, home):
            server = local_server(workspace)
            if server:
                return server
        time.sleep(0.05)
    raise PackageIndexError(
        "devpi-server did not start",
        problems=[f"the whole log: {child.log}"],
        hint="fix the cause and run the same command again",
        output=child.tail(),
    )


def _answers(port: int, home: Path) -> bool:
    """Whether the server at that port is the one with this data."""
    try:
        with _session() as session:
            status = session.get(f"http://{_HOST}:{port}/+status", timeout=_TIMEOUT).json()
    except (requests.RequestException, ValueError):
        return False
    return bool(status.get("result", {}).get("serverdir") == str(home / "server"))


def _provide_index(server: LocalServer, home: Path) -> None:
    """Make the user and the index where they are not there yet."""
    settings = {"bases": [], "volatile": False, "acl_upload": [_USER]}
    with _session() as session:
        session.auth = ("root", _load(home / "credentials.json")["root_password"])
        for path, content in (
            (_USER, {"password": server.password}),
            (f"{_USER}/{_INDEX}", settings),
        ):
            if session.get(server.address + path, timeout=_TIMEOUT).ok:
                continue
            answer = session.put(server.address + path, json=content, timeout=_TIMEOUT)
            if not answer.ok:
                raise PackageIndexError(
                    f"devpi-server did not make {path}: {answer.status_code} {answer.reason}",
                    hint=f"if credentials.json was changed, restore it; or move {home} away",
                )


@contextmanager
def _session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # a proxy does not know this machine's loopback
        session.headers["Accept"] = "application/json"
        yield session


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


# ------------------------------------------------------------------------ in the server process


def _serve_here(home: Path, port: int) -> None:
    """Become the server: hold the lock, make what is missing, run devpi-server to its end."""
    with files.locked(home / ".lock", what="the package index server", patience=5):
        keys = _credentials(home)
        data = home / "server"
        if not data.is_dir():
            partial = files.empty_directory(home / f"server{files.PARTIAL}")
            # The password is an argument of this call, not of a process that others could list.
            # It may begin with a dash, so it is one word with its option.
            password = f"--root-passwd={keys['root_password']}"
            words = ["--serverdir", partial, "--no-root-pypi", password]
            code = import_module("devpi_server.init").init(argv=["devpi-init", *words])
            if code:
                raise PackageIndexError(
                    f"devpi-init ended with code {code}", hint="read the lines above"
                )
            partial.rename(data)
        files.write_text(home / "state.json", json.dumps({"pid": os.getpid(), "port": port}))
        options = [
            *("--serverdir", data, "--listen", f"{_HOST}:{port}", "--restrict-modify", "root"),
            "--enable-core-metadata",
            # These stretch the secret that signs login tokens. It is random and made at each start,
            # so stretching adds nothing; by default it takes half a gigabyte and 3 to 20 seconds.
            *("--argon2-memory-cost", "1024", "--argon2-time-cost", "1"),
        ]
        import_module("devpi_server.main").main(argv=["devpi-server", *options])


def _credentials(home: Path) -> Mapping[str, str]:
    """The passwords, made at the first start; nobody but the user can read the file."""
    path = home / "credentials.json"
    if not path.exists():
        keys = {name: secrets.token_urlsafe(32) for name in ("password", "root_password")}
        with files.replacing(path) as partial:
            partial.touch(mode=0o600)
            partial.write_text(json.dumps({"username": _USER, **keys}), encoding="utf-8")
    return _load(path)


if __name__ == "__main__":
    _serve_here(Path(sys.argv[1]), int(sys.argv[2]))
