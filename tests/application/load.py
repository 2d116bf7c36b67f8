"""The load: customers that use the API, each with accounts of its own, and check every answer."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

_PATIENCE = 20.0  # seconds for an answer; without one by then, something hangs
_GRACE = 3.0  # seconds after a disturbance in which its effects may still be seen
_ENTRIES = 150  # on an account; then a new one is opened
_MANY = 20  # faults of one customer, after which it stops: more of them tell nothing new


class WrongAnswer(Exception):  # noqa: N818 - reads as what happened
    """An answer that is not what it must be."""


class Disturbed(Exception):  # noqa: N818 - reads as what happened
    """An answer that is missing because the database or the broker was taken away."""


class Disturbances:
    """When the database or the broker was disturbed, in seconds of the epoch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self.spans: list[tuple[float, float]] = []

    @contextmanager
    def span(self) -> Iterator[None]:
        """Something is disturbed for as long as the block runs."""
        with self._lock:
            self._open += 1
            begun = time.time()
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                self.spans.append((begun, time.time()))

    def excuse(self, begun: float, ended: float) -> bool:
        """Whether what happened between these two times may be the effect of one."""
        with self._lock:
            return self._open > 0 or any(
                start <= ended and begun <= end + _GRACE for start, end in self.spans
            )


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one customer did: requests by kind, faults, and the keys of the jobs it handed over.

    ``accepted`` are the jobs that the API said the broker has; ``unsure`` those it gave no such
    answer for. ``threads`` are the server's threads that answered, ``shared`` the entries that
    were put on the account of all.
    """

    requests: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    threads: set[str] = field(default_factory=set)


class Customer(threading.Thread):
    """Asks until told to stop. Nobody else writes to its account, so it knows what is there."""

    def __init__(
        self,
        *,
        port: int,
        number: int,
        shared: int,
        disturbances: Disturbances,
        until: threading.Event,
    ) -> None:
        super().__init__(name=f"customer {number}")
        self.tally = Tally()
        self._port = port
        self._number = number
        self._shared = shared
        self._disturbances = disturbances
        self._until = until
        self._random = random.Random(number)
        self._keys = 0
        self._account = 0
        self._entries: list[tuple[str, int]] = []
        self._seen = 0  # the highest balance of the shared account so far
        self._connection: http.client.HTTPConnection | None = None
        self._acts: dict[Callable[[], None], int] = {
            self.read: 4,
            self.write: 8,
            self.overdraw: 1,
            self.repeat: 1,
            self.page: 2,
            self.stream: 2,
            self.share: 2,
            self.hand_over: 4,
            self.total: 1,
            self.health: 1,
            self.digest: 2,
            self.refused: 2,
            self.give_up: 1,
            self.cancel: 2,
        }

    def run(self) -> None:
        acts, weights = list(self._acts), list(self._acts.values())
        while not self._until.is_set() and len(self.tally.faults) < _MANY:
            act = self._random.choices(acts, weights)[0]
            kind = act.__name__
            try:
                if not self._account or len(self._entries) >= _ENTRIES:
                    kind = "open"
                    self.open()
                else:
                    act()
                self.tally.requests[kind] += 1
            except Disturbed:
                self.tally.requests["disturbed"] += 1
            except WrongAnswer as error:
                self.tally.faults.append(f"{self.name}, {kind}: {error}")
            except Exception as error:  # noqa: BLE001 - an answer of another shape than it must be
                self.tally.faults.append(f"{self.name}, {kind}: {error!r}")
        self._drop()

    # ------------------------------------------------------------------------------ what it does

    def open(self) -> None:
        """Open an account of its own."""
        status, body = self._ask("POST", "/accounts", {"owner": self.name})
        _expect(status, 201, body)
        self._account, self._entries = json.loads(body)["id"], []

    def read(self) -> None:
        told = self._get(f"/accounts/{self._account}")
        balance = sum(amount for _, amount in self._entries)
        wanted = {"owner": self.name, "balance": balance, "entries": len(self._entries)}
        _same(told, {**wanted, "sum": balance})

    def write(self) -> None:
        balance = sum(amount for _, amount in self._entries)
        entry = (self._key(), self._random.randint(-min(balance, 50), 100))
        try:
            status, body = self._post_entry(self._account, *entry)
        except Disturbed:
            self._settle(entry)
            raise
        _expect(status, 201, body)
        self._entries.append(entry)
        _same(json.loads(body), {"balance": balance + entry[1]})

    def overdraw(self) -> None:
        balance = sum(amount for _, amount in self._entries)
        status, body = self._post_entry(self._account, self._key(), -balance - 1)
        _expect(status, 409, body)
        self.read()

    def repeat(self) -> None:
        """The same key again must not count."""
        if self._entries:
            status, body = self._post_entry(self._account, self._entries[-1][0], 1)
            _expect(status, 409, body)
            self.read()

    def page(self) -> None:
        limit = self._random.randint(5, 60)
        _same(self._all_pages(limit), self._entries)

    def stream(self) -> None:
        status, body = self._ask("GET", f"/accounts/{self._account}/stream")
        _expect(status, 200, body)
        *lines, count = [json.loads(line) for line in body.splitlines()]
        _same([(key, amount) for key, amount in lines], self._entries)
        _same(count, len(self._entries))

    def share(self) -> None:
        """Put 1 on the account that all write to; its balance only grows."""
        status, body = self._post_entry(self._shared, self._key(), 1)
        _expect(status, 201, body)
        balance = json.loads(body)["balance"]
        if balance <= self._seen:
            raise WrongAnswer(f"the balance was {self._seen} and is {balance}")
        self._seen = balance

    def hand_over(self) -> None:
        actor = self._random.choice(("on_the_loop", "in_a_thread"))
        key = self._key()
        path = f"/accounts/{self._shared}/jobs/{actor}"
        try:
            status, body = self._ask("POST", path, {"amount": 1, "key": key})
        except Exception:
            self.tally.unsure.add(key)
            raise
        _expect(status, 202, body)
        self.tally.accepted.add(key)

    def total(self) -> None:
        told = self._get("/total")
        _same(told["balances"], told["entries"])

    def health(self) -> None:
        self._drop()  # a new connection may come to another loop
        told = self._get("/health")
        if told["gil"]:
            raise WrongAnswer("the GIL is on")
        self.tally.threads.add(told["thread"])

    def digest(self) -> None:
        """A body in pieces, so that the parser sees it in pieces."""
        pieces = [self._random.randbytes(self._random.randint(1, 5_000)) for _ in range(20)]
        status, body = self._ask("POST", "/digest", pieces)
        _expect(status, 200, body)
        whole = b"".join(pieces)
        wanted = {"sha256": hashlib.sha256(whole).hexdigest(), "size": len(whole)}
        _same(json.loads(body), wanted)

    def refused(self) -> None:
        asked: list[tuple[str, str, Any, int]] = [
            ("GET", "/accounts/999999999", None, 404),
            ("GET", "/nowhere", None, 404),
            ("DELETE", "/total", None, 405),
            ("POST", "/accounts", [b"{not ", b"JSON"], 400),
            ("GET", "/fail", None, 500),
        ]
        method, path, body, wanted = self._random.choice(asked)
        status, answer = self._ask(method, path, body)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self._drop()  # uvicorn closes the connection after an error, without saying so before
        _expect(status, wanted, answer)

    def give_up(self) -> None:
        """The server cancels the statement itself."""
        status, body = self._ask("GET", "/sleep?seconds=5&within=0.05")
        _expect(status, 504, body)

    def cancel(self) -> None:
        """Go away in the middle of a request or of its answer."""
        stream = f"GET /accounts/{self._account}/stream HTTP/1.1\r\nHost: here\r\n\r\n"
        half = "POST /digest HTTP/1.1\r\nHost: here\r\nContent-Length: 9000\r\n\r\nhalf"
        slow = "GET /sleep?seconds=0.2&within=5 HTTP/1.1\r\nHost: here\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self._port), timeout=_PATIENCE) as connection:
            # Closing then resets the connection.
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            asked = self._random.choice((stream, half, slow))
            connection.sendall(asked.encode())
            if asked is stream:
                connection.recv(100)
            else:
                time.sleep(self._random.uniform(0, 0.05))

    # --------------------------------------------------------------------------------- how

    def _key(self) -> str:
        self._keys += 1
        return f"{self._number}-{self._keys}"

    def _get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        status, body = self._ask("GET", path)
        _expect(status, 200, body)
        return json.loads(body)

    def _post_entry(self, account: int, key: str, amount: int) -> tuple[int, bytes]:
        return self._ask("POST", f"/accounts/{account}/entries", {"amount": amount, "key": key})

    def _all_pages(self, limit: int) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        after = 0
        while True:
            path = f"/accounts/{self._account}/entries?after={after}&limit={limit}"
            page = self._get(path)
            found += [(key, amount) for _, key, amount in page]
            if len(page) < limit:
                return found
            after = page[-1][0]

    def _settle(self, entry: tuple[str, int]) -> None:
        """Find out whether an entry was made that no answer came for: wholly or not at all."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                found = self._all_pages(1_000)
                break
            except Disturbed:
                if time.monotonic() > deadline:
                    raise
        if found == [*self._entries, entry]:
            self._entries.append(entry)
        _same(found, self._entries)

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:  # noqa: ANN401
        """The status and the body of the answer. A list of bytes is sent in chunks."""
        begun = time.time()
        content = body if body is None or isinstance(body, list) else json.dumps(body)
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(
                    "127.0.0.1", self._port, timeout=_PATIENCE
                )
            self._connection.request(
                method,
                path,
                content,
                encode_chunked=isinstance(content, list),
                headers={"Transfer-Encoding": "chunked"} if isinstance(content, list) else {},
            )
            response = self._connection.getresponse()
            answer = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            # An answer that has begun can only be broken off.
            broken_off = isinstance(error, http.client.IncompleteRead)
            if broken_off and self._disturbances.excuse(begun, time.time()):
                raise Disturbed from error
            took = time.time() - begun
            raise WrongAnswer(
                f"{method} {path}: no answer after {took:.1f} s: {error!r}"
            ) from error
        if answer[0] == HTTPStatus.SERVICE_UNAVAILABLE and self._disturbances.excuse(
            begun, time.time()
        ):
            raise Disturbed
        return answer

    def _drop(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


def _expect(status: int, wanted: int, body: bytes) -> None:
    if status != wanted:
        raise WrongAnswer(f"status {status} instead of {wanted}: {body[:200]!r}")


def _same(told: object, wanted: object) -> None:
    if told != wanted:
        raise WrongAnswer(f"{str(told)[:300]} instead of {str(wanted)[:300]}")
