"""A PostgreSQL server of our own for probes and tests: on loopback, thrown away afterwards."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freewheel.base import process
from freewheel.base.errors import CommandFailed, MachineError
from freewheel.machine import debian
from freewheel.machine.host import free_port
from freewheel.machine.jail import OPEN, Jail

PACKAGES = ("postgresql",)
_ATTEMPTS = 3
_PATIENCE = 30.0  # seconds until it answers


def find_binaries() -> Path | None:
    """The directory that holds ``initdb`` and ``postgres``; the newest where there are several."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    debians = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(debians, key=lambda path: _number(path.parent.name), reverse=True)
    for place in places:
        if (place / "initdb").is_file() and (place / "postgres").is_file():
            return place
    return None


def provide_binaries() -> Path:
    """As ``find_binaries``, after an installation where that is possible. Raises MachineError."""
    return find_binaries() or _install()


@contextmanager
def running_postgres(jail: Jail = OPEN) -> Iterator[str]:
    """Start a server in an empty data directory, yield its DSN, and stop it by process id.

    It does not sync to disk: what it holds is lost with it. Whoever connects may run programs as
    the server's user, so it is in the same ``jail`` as they are. Raises MachineError.
    """
    binaries = provide_binaries()
    user = unprivileged_user()
    with tempfile.TemporaryDirectory(prefix="freewheel-postgres-", dir=jail.directory) as name:
        directory = Path(name)
        if user:
            shutil.chown(directory, user)
        password = secrets.token_urlsafe(16)
        _initialise(jail, binaries, directory, password, user)
        server, port = _start(jail, binaries, directory, user)
        try:
            yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        finally:
            _stop(jail, binaries, directory, user)
            server.stop()


def _number(name: str) -> int:
    return int(name) if name.isdigit() else 0


def _install() -> Path:
    if debian.can_install():
        try:
            debian.install(PACKAGES, why="probes and tests of asyncpg need a server")
        except debian.AptError as error:
            raise MachineError(error.summary, problems=error.problems, hint=error.hint) from error
    found = find_binaries()
    if found is None:
        raise MachineError(
            "no PostgreSQL server found (initdb and postgres, on PATH or in /usr/lib/postgresql)",
            hint=f"install one: {debian.install_command(PACKAGES)}",
        )
    return found


def unprivileged_user() -> str | None:
    """Who to run a server as, which refuses root; None for whoever is not root: as themselves."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415  Windows has no such module

    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise MachineError(
        "PostgreSQL refuses to run as root, and there is no user postgres or nobody",
        hint="run as an ordinary user",
    )


def _initialise(
    jail: Jail, binaries: Path, directory: Path, password: str, user: str | None
) -> None:
    secret = directory / "password"
    secret.touch(mode=0o600)
    secret.write_text(password + "\n", encoding="utf-8")
    if user:
        shutil.chown(secret, user)
    try:
        jail.run(
            [
                *(binaries / "initdb", "--pgdata", directory / "data", "--username", "postgres"),
                *("--auth", "scram-sha-256", "--pwfile", secret, "--no-sync"),
                *("--encoding", "UTF8", "--locale", "C"),
            ],
            cwd=directory,
            env=process.confined(directory),
            user=user,
            timeout=120,
        )
    except CommandFailed as error:
        raise MachineError(
            "initdb failed", output=error.output, hint="read its output above"
        ) from error


def _start(
    jail: Jail, binaries: Path, directory: Path, user: str | None
) -> tuple[process.Running, int]:
    """Start on a free port; another process may take it in between, so try a few times."""
    log = directory / "log"
    for _ in range(_ATTEMPTS):
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(directory),
            "fsync": "off",
            "max_connections": "200",
        }
        options = [f"-c{name}={value}" for name, value in settings.items()]
        server = jail.start(
            [binaries / "postgres", "-D", directory / "data", *options],
            cwd=directory,
            env=process.confined(directory),
            log=log,
            user=user,
        )
        if _answers(server, port):
            return server, port
        server.stop()
    raise MachineError("PostgreSQL did not start", output=log.read_text(), hint="see its log above")


def _stop(jail: Jail, binaries: Path, directory: Path, user: str | None) -> None:
    """Let the server end, and its processes with it: what was started is not itself in a jail."""
    words = (binaries / "pg_ctl", "stop", "--silent", "--mode=immediate", "-D", directory / "data")
    with contextlib.suppress(CommandFailed):
        jail.run(words, cwd=directory, env=process.confined(directory), user=user, timeout=60)


def _answers(server: process.Running, port: int) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and server.returncode() is None:
        # A socket file with the port's name appears when connections are accepted.
        if (Path(server.log).parent / f".s.PGSQL.{port}").exists():
            return True
        time.sleep(0.05)
    return False
