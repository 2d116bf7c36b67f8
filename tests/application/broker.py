"""A Redis server of our own for the application's tests: on loopback, thrown away afterwards."""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from freewheel.base import process
from freewheel.base.errors import MachineError
from freewheel.machine import debian
from freewheel.machine.host import free_port

PACKAGES = ("redis-server",)
_PLACES = "/usr/bin:/usr/sbin:/usr/local/bin"
_PROGRAMS = ("redis-server", "valkey-server")  # Valkey is what some distributions have instead
_ATTEMPTS = 3
_PATIENCE = 15.0  # seconds until it answers


@dataclass(slots=True, kw_only=True)
class Redis:
    """A running server. What it acknowledged is on disk, and there again after ``restart``."""

    program: Path
    directory: Path
    port: int
    password: str = field(repr=False)
    child: process.Running | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it on its port, and return when it answers. Raises MachineError."""
        settings = self.directory / "redis.conf"
        self.child = process.start(
            [self.program, settings], cwd=self.directory, log=self.directory / "log"
        )
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self.child.returncode() is None:
            if self._answers():
                return
            time.sleep(0.02)
        said = self.child.tail()
        self.stop()
        raise MachineError("Redis did not start", output=said, hint="see its log above")

    def stop(self) -> None:
        """End it by its process id."""
        if self.child:
            self.child.stop()
            self.child = None

    def restart(self, *, away: float) -> None:
        """Stop it, leave it away for that many seconds, and start it with what it held."""
        self.stop()
        time.sleep(away)
        self.start()

    def _answers(self) -> bool:
        """Whether it takes commands; while it still reads its data it answers with an error."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                with connection.makefile("rb") as answers:
                    return (answers.readline(), answers.readline()) == (b"+OK\r\n", b"+PONG\r\n")
        except OSError:
            return False


def find_program() -> Path | None:
    """The server's program on PATH, or where distributions put it."""
    for name in _PROGRAMS:
        if found := shutil.which(name) or shutil.which(name, path=_PLACES):
            return Path(found)
    return None


def provide_program() -> Path:
    """As ``find_program``, after an installation where that is possible. Raises MachineError."""
    return find_program() or _install()


@contextmanager
def running_redis() -> Iterator[Redis]:
    """Start a server with an empty data directory, yield it, and stop it by process id.

    Every command is on disk before it is answered, as a broker that must lose nothing is run.
    Raises MachineError.
    """
    program = provide_program()
    with tempfile.TemporaryDirectory(prefix="freewheel-redis-") as name:
        server = _start(program, Path(name))
        try:
            yield server
        finally:
            server.stop()


def _start(program: Path, directory: Path) -> Redis:
    """Start on a free port; another process may take it in between, so try a few times."""
    for attempt in range(_ATTEMPTS):
        port = free_port()
        server = Redis(
            program=program, directory=directory, port=port, password=secrets.token_hex(16)
        )
        _write_settings(server)
        try:
            server.start()
        except MachineError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return server
    raise AssertionError("unreachable")


def _write_settings(server: Redis) -> None:
    """In a file, because arguments of a process can be read by every user of the machine."""
    settings = {
        "bind": "127.0.0.1",
        "port": str(server.port),
        "dir": str(server.directory),
        "requirepass": server.password,
        "daemonize": "no",
        "save": '""',
        "appendonly": "yes",
        "appendfsync": "always",
    }
    path = server.directory / "redis.conf"
    path.touch(mode=0o600)
    path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()), "utf-8")


def _install() -> Path:
    if debian.can_install():
        try:
            debian.install(PACKAGES, why="the application's tests need a message broker")
        except debian.AptError as error:
            raise MachineError(error.summary, problems=error.problems, hint=error.hint) from error
    found = find_program()
    if found is None:
        raise MachineError(
            "no Redis server found (redis-server or valkey-server, on PATH or in /usr/bin)",
            hint=f"install one: {debian.install_command(PACKAGES)}",
        )
    return found
