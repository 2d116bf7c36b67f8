"""What the wheels do for an application: requests and jobs a second, ours by the public ones.

``nox -s bench -- application`` runs it, on the newest stack. Each is measured with one event loop,
with two in two threads, and with two in two processes. The wheels take turns within a round, and
only ratios within a round are compared: the load generator, PostgreSQL and Redis run on the same
machine, so that absolute figures say little. CPython's default build, with the public wheels, takes
part once `nox -s bench -- default-build` has built it, or with --default-build.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from freewheel.base import console, files
from freewheel.base.errors import CommandFailed
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.machine.interpreter import Interpreter, find_interpreter
from freewheel.proof.speed.scaling import in_turn
from tests.application.processes import Application, application, ask
from tests.application.stacks import STACKS, install, installed
from tests.benchmarks.default_cpython import find_default_build, is_built

_STACK = STACKS[0]
_CONNECTIONS = 8  # at a time, the same number to each loop
_WARM_UP = 0.5  # seconds
_ENTRIES = 20  # on each account that is read
_JOBS_PER_SECOND = 400  # queued for each second of measurement
_PATIENCE = 120.0  # seconds until the jobs are done
_JSON = "Content-Type: application/json\r\n"

# Loops in one process, and processes.
ARRANGEMENTS = {"one loop": (1, 1), "two threads": (2, 1), "two processes": (1, 2)}
DEFAULT = "default build"  # with the public wheels

# The middle of the work: at both ends not every thread has something to do.
_RATE = """
    SELECT count(*), percentile_disc(ARRAY[0.2, 0.8]) WITHIN GROUP
        (ORDER BY extract(epoch FROM at)) FROM run WHERE key LIKE '{batch}-%'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Installed wheels, and the application on them."""

    name: str
    app: Application


Rates = dict[tuple[str, str, str], float]  # by case, arrangement and contender


# ------------------------------------------------------------------------------------- requests


@contextmanager
def serving(app: Application, loops: int, processes: int) -> Iterator[int]:
    """The API in that arrangement; how many loops there are in all."""
    with ExitStack() as stack:
        for _ in range(processes):
            api = app.start_api(loops=loops)
            stack.callback(api.stop)
        yield loops * processes


def connect(port: int, loops: int) -> list[socket.socket]:
    """Connections, as many to each loop as to any other: the system spreads them by chance."""
    kept: list[socket.socket] = []
    taken: Counter[tuple[int, str]] = Counter()
    deadline = time.monotonic() + 30
    while len(kept) < _CONNECTIONS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"of {loops} loops only {sorted(taken)} answer")
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
        told = json.loads(_receive(connection).partition(b"\r\n\r\n")[2])
        who = (told["process"], told["thread"])
        if taken[who] < _CONNECTIONS // loops:
            taken[who] += 1
            kept.append(connection)
        else:
            connection.close()
    return kept


def rate(port: int, loops: int, requests: Callable[[int], bytes], seconds: float) -> float:
    """Answers a second, each connection asking again as soon as it has its answer."""
    connections = connect(port, loops)
    answered = 0
    with selectors.DefaultSelector() as selector:
        for number, connection in enumerate(connections):
            selector.register(connection, selectors.EVENT_READ, number)
            connection.sendall(requests(number))
        begun = time.perf_counter() + _WARM_UP
        while (now := time.perf_counter()) < begun + seconds:
            for key, _ in selector.select(timeout=20):
                connection = connections[key.data]
                answer = _receive(connection)
                if not answer.startswith(b"HTTP/1.1 20"):
                    raise AssertionError(answer[:300])
                answered += now >= begun
                connection.sendall(requests(key.data))
    for connection in connections:
        connection.close()
    return answered / seconds


def _receive(connection: socket.socket) -> bytes:
    """One whole answer."""
    answer = b""
    while True:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError(f"closed after {answer[:100]!r}")
        answer += piece
        head, found, body = answer.partition(b"\r\n\r\n")
        if found:
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            if len(body) >= int(length):
                return answer


def _post(path: str, body: Mapping[str, object]) -> bytes:
    content = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\n{_JSON}Content-Length: {len(content)}"
    return f"{head}\r\n\r\n{content}".encode()


def open_accounts(port: int, entries: int = 0) -> list[int]:
    """An account for each connection, so that none waits for the lock of another's."""
    opened = []
    for number in range(_CONNECTIONS):
        told = ask(port, "POST", "/accounts", {"owner": f"connection {number}"})
        assert isinstance(told, dict), "an account could not be opened"
        opened.append(int(told["id"]))
        for entry in range(entries):
            body = {"amount": 1, "key": f"first-{opened[-1]}-{entry}"}
            ask(port, "POST", f"/accounts/{opened[-1]}/entries", body)
    return opened


def cases(port: int) -> dict[str, Callable[[int], bytes]]:
    """What is asked for, by the name of the case; a function of the connection's number."""
    read, written = open_accounts(port, _ENTRIES), open_accounts(port)
    keys = count()
    health = b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n"

    def write(number: int) -> bytes:
        key = f"write-{written[number]}-{next(keys)}"
        return _post(f"/accounts/{written[number]}/entries", {"amount": 1, "key": key})

    return {
        "requests that need no database": lambda _: health,
        "requests that read objects": lambda number: (
            f"GET /accounts/{read[number]} HTTP/1.1\r\nHost: here\r\n\r\n".encode()
        ),
        "requests that write": write,
    }


# ----------------------------------------------------------------------------------------- jobs


def job_rate(app: Application, threads: int, processes: int, seconds: float) -> float:
    """Jobs a second of a worker that finds them all waiting."""
    batch = f"batch{time.monotonic_ns()}"
    jobs = int(seconds * _JOBS_PER_SECOND)
    with serving(app, 1, 1):
        accounts = open_accounts(app.port)
        numbers = count()

        def hand_over(connection: int) -> bytes:
            path = f"/accounts/{accounts[connection]}/jobs/in_a_thread"
            return _post(path, {"amount": 1, "key": f"{batch}-{next(numbers)}"})

        _ask_for(app.port, hand_over, jobs)
    worker = app.start_worker(name=batch, threads=threads, processes=processes)
    try:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            done, _, between = app.sql(_RATE.format(batch=batch))[0].partition("|")
            if int(done) >= jobs:
                first, last = (float(at) for at in between.strip("{}").split(","))
                return 0.6 * jobs / (last - first)
            time.sleep(0.5)
    finally:
        worker.stop()
    raise CommandFailed(worker.argv, worker.returncode() or 1, worker.tail())


def _ask_for(port: int, requests: Callable[[int], bytes], number: int) -> None:
    """Ask that many times, one after the other."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for turn in range(number):
            connection.sendall(requests(turn % _CONNECTIONS))
            answer = _receive(connection)
            if not answer.startswith(b"HTTP/1.1 202"):
                raise AssertionError(answer[:300])


# -------------------------------------------------------------------------------------- rounds


def one_round(contenders: Sequence[Contender], seconds: float, what: str) -> Rates:
    """Everything once; the contenders in turn, so that all see the same machine."""
    rates: Rates = {}
    for arrangement, (loops, processes) in ARRANGEMENTS.items():
        for contender in contenders if what != "jobs" else ():
            with serving(contender.app, loops, processes) as number:
                for case, requests in cases(contender.app.port).items():
                    rates[case, arrangement, contender.name] = rate(
                        contender.app.port, number, requests, seconds
                    )
        for contender in contenders if what != "requests" else ():
            rates["jobs", arrangement, contender.name] = job_rate(
                contender.app, loops, processes, seconds
            )
    return rates


def show(rounds: Sequence[Rates], names: Sequence[str]) -> None:
    """Print ratios of the rounds: the median, and the lowest and the highest."""
    rows = []
    for case in dict.fromkeys(case for case, _, _ in rounds[0]):
        for arrangement in ARRANGEMENTS:
            for other in names[1:]:
                found = [
                    each[case, arrangement, names[0]] / each[case, arrangement, other]
                    for each in rounds
                ]
                rows.append((case, f"{arrangement}: {names[0]} by {other}", *_spread(found)))
        if DEFAULT in names:
            # What an application does today that wants both processors.
            found = [
                each[case, "two threads", names[0]] / each[case, "two processes", DEFAULT]
                for each in rounds
            ]
            ratio = f"{names[0]}, two threads, by {DEFAULT}, two processes"
            rows.append((case, ratio, *_spread(found)))
        for name in names:
            # Where the second loop gains little, the machine is the limit and not the wheels.
            for other in ("two processes", "one loop"):
                found = [
                    each[case, "two threads", name] / each[case, other, name] for each in rounds
                ]
                rows.append((case, f"{name}: two threads by {other}", *_spread(found)))
    console.table(("what", "ratio of", "median", "from, to"), rows)


def _spread(ratios: Sequence[float]) -> tuple[str, str]:
    return f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"


def environments(
    workspace: Workspace, interpreter: Interpreter, scratch: Path, *, default: bool
) -> dict[str, Path]:
    """Install what is compared; the interpreters by name, ours first."""
    found = {
        "ours": install(_STACK, workspace, interpreter, scratch / "ours", upstream=False),
        "public": install(_STACK, workspace, interpreter, scratch / "public", upstream=True),
    }
    if default or is_built(workspace):
        other = find_default_build(workspace).interpreter
        found[DEFAULT] = install(_STACK, workspace, other, scratch / "default", upstream=True)
    else:
        console.say("CPython's default build is not there (--default-build): not compared")
    return found


def kept(path: Path | None) -> list[Rates]:
    """The rounds of earlier runs in that file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
    return [{(c, a, name): rate for c, a, name, rate in json.loads(line)} for line in lines]


def keep(path: Path, rates: Rates) -> None:
    """Add a round to those in that file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([[*key, value] for key, value in rates.items()]) + "\n")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--only", choices=["requests", "jobs"], default="both")
    parser.add_argument("--default-build", action="store_true", help="build it if it is absent")
    parser.add_argument("--keep", type=Path, help="file of rounds, to measure in several pieces")
    options = parser.parse_args()
    workspace = find_workspace()
    rounds = kept(options.keep)
    with tempfile.TemporaryDirectory(prefix="freewheel-bench-") as name, ExitStack() as stack:
        scratch = Path(name)
        contenders = []
        interpreter = find_interpreter(workspace)
        found = environments(workspace, interpreter, scratch, default=options.default_build)
        for what, python in found.items():
            versions = installed(python)
            console.say(f"{what}: {', '.join(f'{n} {versions[n]}' for n in _STACK.releases)}")
            logs = files.empty_directory(scratch / f"logs of {what}")
            app = stack.enter_context(application(python, logs, _STACK.variables, collect=0))
            contenders.append(Contender(name=what, app=app))
        for number in range(options.rounds):
            turn = in_turn(contenders, len(rounds))
            rounds.append(one_round(turn, options.seconds, options.only))
            console.note(f"round {number + 1} of {options.rounds}")
            if options.keep:
                keep(options.keep, rounds[-1])
    show(rounds, [contender.name for contender in contenders])
    console.say(f"{len(rounds)} rounds; {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
