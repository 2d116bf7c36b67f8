"""A bounded soak: the load, the disturbances in the middle of it, and the verdict."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from freewheel.base import process
from freewheel.base.errors import CommandFailed

from .load import Customer, Disturbances, Tally
from .processes import Application, application, ask, memory
from .stacks import Stack

_CUSTOMERS = 8
_LOOPS = 2
_COLLECT = 0.05  # seconds between collections
_AWAY = 1.0  # seconds without the broker
_LAST_JOBS = 40  # handed over right before the worker is told to end
_DONE_WITHIN = 60.0  # seconds for the worker to do what is left
_END_WITHIN = 20.0  # seconds from SIGTERM to the end
_DYING = 2.0  # seconds in which a process that answers no more is gone, if it crashed
_MEMORY = 1 << 30  # bytes that a process may hold at most
_GROWTH, _SLACK = 1.25, 32 << 20  # from the second quarter of the load to its last

# Four connections to the database at a time, whatever they are doing: also those whose statement is
# about to be cancelled, or is being cancelled.
_DROP = """
    SELECT count(pg_terminate_backend(pid)) FROM (
        SELECT pid FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        ORDER BY random() LIMIT 4
    ) AS chosen
"""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a soak came to; it was passed when there are no ``problems``.

    ``requests`` are counted by kind, ``jobs`` are those that the broker was given and ``twice``
    how many of them were done more than once. ``died`` has the signal that ended a process, by
    process, where one did. ``memory`` are bytes in the second and in the last
    quarter, by process.
    """

    seconds: float
    requests: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    twice: int = 0
    dropped: int = 0
    restarted: bool = False
    died: dict[str, int] = field(default_factory=dict)
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)


def soak(stack: Stack, python: Path, scratch: Path, *, seconds: float) -> Outcome:
    """Run the application under load for that long, on a stack that is installed.

    Whatever goes wrong is in the outcome. Raises FreewheelError only where PostgreSQL or Redis
    cannot be had.
    """
    outcome = Outcome(seconds=seconds)
    try:
        with application(python, scratch, stack.variables, collect=_COLLECT) as app:
            _run(app, outcome)
    except CommandFailed as error:
        outcome.problems.append(error.summary)
        outcome.logs[error.argv[0]] = error.output
    return outcome


def _run(app: Application, outcome: Outcome) -> None:
    api = app.start_api(loops=_LOOPS)
    try:
        soaking = _Soak(app, outcome, api, app.start_worker())
        try:
            soaking.run()
        finally:
            soaking.worker.stop()
            if outcome.problems:
                outcome.logs["worker"] = soaking.worker.tail()
    finally:
        api.stop()
        if outcome.problems:
            outcome.logs["api"] = api.tail()


class _Soak:
    """One soak's steps, and what they share."""

    def __init__(
        self, app: Application, outcome: Outcome, api: process.Running, worker: process.Running
    ) -> None:
        self.app = app
        self.outcome = outcome
        self.api = api
        self.worker = worker
        self.disturbances = Disturbances()
        self.over = threading.Event()
        self.samples: dict[str, list[int]] = {"api": [], "worker": []}
        self.shared = 0

    def run(self) -> None:
        opened = ask(self.app.port, "POST", "/accounts", {"owner": "all"})
        if not isinstance(opened, dict):
            self.outcome.problems.append("the first account could not be opened")
            self.alive()
            return
        self.shared = opened["id"]
        tallies = self.load()
        for tally in tallies:
            self.outcome.requests += tally.requests
            self.outcome.problems += tally.faults
        if not self.alive():
            return
        self.judge_memory()
        self.judge_threads(tallies)
        accepted = set[str]().union(*(tally.accepted for tally in tallies))
        unsure = set[str]().union(*(tally.unsure for tally in tallies))
        accepted |= self.change_workers()
        self.await_jobs(accepted)
        self.judge_jobs(accepted, unsure)
        self.judge_sums()
        self.end("worker", self.worker)
        self.end_api()

    def alive(self) -> bool:
        """Whether both processes run; what ended by itself is a problem."""
        alive = True
        if self.outcome.problems:
            time.sleep(_DYING)
        for name, child in (("api", self.api), ("worker", self.worker)):
            if (code := child.returncode()) is not None:
                alive = False
                how = f"signal {-code}" if code < 0 else f"code {code}"
                if code < 0:
                    self.outcome.died[name] = -code
                self.outcome.problems.insert(0, f"{name}: ended by itself with {how}")
        return alive

    # ------------------------------------------------------------------------------------ load

    def load(self) -> list[Tally]:
        """Let the customers work for as long as it was asked for, and disturb them."""
        customers = [
            Customer(
                port=self.app.port,
                number=number,
                shared=self.shared,
                disturbances=self.disturbances,
                until=self.over,
            )
            for number in range(_CUSTOMERS)
        ]
        for customer in customers:
            customer.start()
        started = time.monotonic()
        plan = list(self.plan())
        try:
            while (passed := time.monotonic() - started) < self.outcome.seconds:
                if plan and passed >= plan[0][0]:
                    self.disturb(plan.pop(0)[1])
                if not self.sample() or not any(customer.is_alive() for customer in customers):
                    break
                time.sleep(0.25)
        finally:
            self.over.set()
            for customer in customers:
                customer.join()
        return [customer.tally for customer in customers]

    def plan(self) -> Iterator[tuple[float, str]]:
        """When what is to be disturbed, in seconds from the start: the broker in the middle.

        Not both at once: a job that failed for want of the database is put back by the broker.
        """
        step = max(2.0, self.outcome.seconds / 12)
        number = 1
        while (when := number * step) < self.outcome.seconds - 1:
            nearest = abs(when - self.outcome.seconds / 2) <= step / 2
            yield when, "broker" if nearest else "database"
            number += 1

    def disturb(self, what: str) -> None:
        with self.disturbances.span():
            if what == "broker":
                self.app.broker.restart(away=_AWAY)
                self.outcome.restarted = True
            else:
                self.outcome.dropped += int(self.app.sql(_DROP)[0])

    def sample(self) -> bool:
        """Take note of the memory in use; False where it is no use to go on."""
        for name, child in (("api", self.api), ("worker", self.worker)):
            taken = memory(child.pid)
            self.samples[name].append(taken)
            if child.returncode() is not None:
                return False
            if taken > _MEMORY:
                self.outcome.problems.append(f"{name}: holds {taken >> 20} MiB")
                return False
        return True

    # --------------------------------------------------------------------------------- verdict

    def judge_memory(self) -> None:
        for name, samples in self.samples.items():
            quarter = max(1, len(samples) // 4)
            early, late = median(samples[quarter : 2 * quarter]), median(samples[-quarter:])
            self.outcome.memory[name] = (early, late)
            if late > early * _GROWTH + _SLACK:
                grown = f"from {early / 2**20:.0f} to {late / 2**20:.0f} MiB"
                self.outcome.problems.append(f"{name}: memory grew {grown}")

    def judge_threads(self, tallies: Sequence[Tally]) -> None:
        threads = set[str]().union(*(tally.threads for tally in tallies))
        if len(threads) != _LOOPS:
            self.outcome.problems.append(f"api: only {sorted(threads)} answered")

    def change_workers(self) -> set[str]:
        """Tell the worker to end with work in its hands, and start another; those last jobs."""
        keys = {f"last-{number}" for number in range(_LAST_JOBS)}
        for number, key in enumerate(sorted(keys)):
            actor = ("on_the_loop", "in_a_thread")[number % 2]
            body = {"amount": 1, "key": key}
            if ask(self.app.port, "POST", f"/accounts/{self.shared}/jobs/{actor}", body) is None:
                self.outcome.problems.append(f"the broker did not get {key}")
        self.end("worker", self.worker)
        self.worker = self.app.start_worker(name="worker-2")
        return keys

    def await_jobs(self, accepted: set[str]) -> None:
        """Wait until the worker has done everything, or for as long as it may take."""
        deadline = time.monotonic() + _DONE_WITHIN
        while time.monotonic() < deadline:
            done = set(self.app.sql("SELECT DISTINCT key FROM run"))
            if accepted <= done:
                return
            time.sleep(0.5)

    def judge_jobs(self, accepted: set[str], unsure: set[str]) -> None:
        """Every job that the broker took was done; once, but for what was disturbed meanwhile."""
        rows = self.app.sql(
            "SELECT key, count(*), extract(epoch FROM min(at)), bool_or(gil), "
            "count(DISTINCT actor) FROM run GROUP BY key"
        )
        runs = {row.split("|")[0]: row.split("|")[1:] for row in rows}
        problems = self.outcome.problems
        self.outcome.jobs = len(accepted)
        if lost := accepted - runs.keys():
            problems.append(f"worker: {len(lost)} messages lost: {sorted(lost)[:5]}")
        if strange := runs.keys() - accepted - unsure:
            problems.append(f"worker: jobs that nobody asked for: {sorted(strange)[:5]}")
        for key, (count, first, gil, actors) in runs.items():
            if gil != "f":
                problems.append(f"worker: {key} was done with the GIL on")
            if actors != "1":
                problems.append(f"worker: {key} was done by two actors")
            if count != "1":
                self.outcome.twice += 1
                # At least once is what is promised, and a loss of the connection is the reason.
                if not self.disturbances.excuse(float(first), float(first)):
                    problems.append(f"worker: {key} was done {count} times, undisturbed")
        threads = self.app.sql("SELECT actor, count(DISTINCT thread) FROM run GROUP BY actor")
        used = dict(row.split("|") for row in threads)
        if not accepted or used.keys() != {"on_the_loop", "in_a_thread"}:
            problems.append(f"worker: only {sorted(used)} worked")
        elif int(used["in_a_thread"]) < 2:
            problems.append("worker: one thread did all the work")

    def judge_sums(self) -> None:
        """What the database holds adds up, as it tells another client."""
        wrong = self.app.sql(
            "SELECT id FROM account WHERE balance <> "
            "coalesce((SELECT sum(amount) FROM entry WHERE account_id = account.id), 0)"
        )
        if wrong:
            self.outcome.problems.append(f"api: balances that are no sums: {wrong[:5]}")
        effects = self.app.sql(
            "SELECT count(*) FROM (SELECT key FROM run EXCEPT SELECT key FROM entry) AS without"
        )
        if effects != ["0"]:
            self.outcome.problems.append(f"worker: {effects[0]} jobs done without effect")

    # ------------------------------------------------------------------------------------- end

    def end(self, name: str, child: process.Running) -> None:
        """SIGTERM, and a clean end within its time."""
        if child.returncode() is None:
            started = time.monotonic()
            child.stop(patience=_END_WITHIN)
            if time.monotonic() - started >= _END_WITHIN:
                self.outcome.problems.append(f"{name}: no end {_END_WITHIN:.0f} s after SIGTERM")
        if code := child.returncode():
            self.outcome.problems.append(f"{name}: ended with code {code} after SIGTERM")

    def end_api(self) -> None:
        """What is being answered at SIGTERM is answered to its end."""
        answers: list[object] = []
        path = "/sleep?seconds=1&within=5"
        asked = threading.Thread(
            target=lambda: answers.append(ask(self.app.port, "GET", path)), name="last"
        )
        asked.start()
        time.sleep(0.3)
        self.end("api", self.api)
        asked.join()
        if answers != [{"slept": 1.0}]:
            self.outcome.problems.append("api: did not answer what it was asked before SIGTERM")
