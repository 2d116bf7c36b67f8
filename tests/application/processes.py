"""The application's two processes, its database and its broker, and what they take."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from freewheel.base import process
from freewheel.base.errors import CommandFailed, MachineError
from freewheel.machine.host import free_port
from freewheel.machine.postgres import provide_binaries, running_postgres

from .broker import Redis, running_redis

_HERE = Path(__file__).parent
_PATIENCE = 60.0  # seconds until a process is ready
# What would hide a fault, or point to another environment.
_UNSET = ("PYTHON_GIL", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A database, a broker, and how to start the rest."""

    python: Path
    database: str
    broker: Redis
    environment: dict[str, str | None]
    scratch: Path
    port: int

    def start_api(self, *, loops: int) -> process.Running:
        """Start the API and return when each of its loops can be asked. Raises CommandFailed."""
        words = ("ledger.serve", "--port", str(self.port), "--loops", str(loops))
        api = self._start("api", *words)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and api.returncode() is None:
            if ask(self.port, "GET", "/health") is not None:
                return api
            time.sleep(0.05)
        api.stop()
        raise CommandFailed(api.argv, api.returncode() or 1, api.tail(), log=str(api.log))

    def start_worker(
        self, *, name: str = "worker", threads: int = 8, processes: int = 1
    ) -> process.Running:
        """Start a worker and return when each of its processes works. Raises CommandFailed."""
        counts = ("--processes", str(processes), "--threads", str(threads))
        worker = self._start(name, "dramatiq", "ledger.tasks", *counts)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and worker.returncode() is None:
            if worker.tail().count("Worker process is ready for action") == processes:
                return worker
            time.sleep(0.05)
        worker.stop()
        raise CommandFailed(worker.argv, worker.returncode() or 1, worker.tail())

    def sql(self, statement: str) -> list[str]:
        """The rows of a statement, by psql: what is checked is not what checks."""
        parts = urlsplit(self.database)
        done = process.run(
            [
                *(provide_binaries() / "psql", "--no-psqlrc", "--tuples-only", "--no-align"),
                *("--host", parts.hostname or "", "--port", str(parts.port)),
                *("--username", parts.username or "", "--command", statement),
                parts.path.strip("/"),
            ],
            env={"PGPASSWORD": parts.password},
            timeout=60,
        )
        return done.stdout.splitlines()

    def _start(self, name: str, module: str, *words: str) -> process.Running:
        return process.start(
            [self.python, "-X", "faulthandler", "-m", module, *words],
            cwd=_HERE,
            env=self.environment,
            log=self.scratch / f"{name}.log",
        )


@contextmanager
def application(
    python: Path, scratch: Path, variables: dict[str, str], *, collect: float
) -> Iterator[Application]:
    """Start what the application needs, with empty tables; it is gone afterwards.

    ``python`` is the interpreter of a stack's environment and ``variables`` what its users set.
    The application collects garbage every ``collect`` seconds; 0: as it would by itself.
    """
    if not (provide_binaries() / "psql").is_file():
        raise MachineError(
            f"no psql beside initdb in {provide_binaries()}", hint="install PostgreSQL's client"
        )
    with running_postgres() as dsn, running_redis() as broker:
        environment: dict[str, str | None] = {
            **dict.fromkeys(_UNSET),
            **variables,
            "LEDGER_DATABASE": dsn,
            "LEDGER_BROKER": broker.url,
            "LEDGER_COLLECT": f"{collect:g}",
        }
        process.run([python, "-m", "ledger.database"], cwd=_HERE, env=environment, timeout=60)
        yield Application(
            python=python,
            database=dsn,
            broker=broker,
            environment=environment,
            scratch=scratch,
            port=free_port(),
        )


def ask(port: int, method: str, path: str, body: object = None) -> object | None:
    """The answer's JSON; None where there is no answer or it is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        told: object = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException):
        return None
    else:
        return told if response.status < HTTPStatus.BAD_REQUEST else None
    finally:
        connection.close()


def memory(pid: int) -> int:
    """Bytes that a process and its descendants hold in memory; 0 where it is gone."""
    total, pending = 0, [pid]
    while pending:
        place = Path("/proc") / str(pending.pop())
        try:
            pending += [
                int(child)
                for children in place.glob("task/*/children")
                for child in children.read_text(encoding="ascii").split()
            ]
            status = (place / "status").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")
        )
    return total
