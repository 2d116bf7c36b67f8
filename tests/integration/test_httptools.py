"""httptools' patched wheels do what the unpatched ones do, and stand what those do not.

A corpus of traffic and what Hypothesis makes are given to both wheels of each release, and all
callbacks, answers and exceptions are compared. Where threads share a parser, each call has to be
whole or refused. FREEWHEEL_FUZZ=N makes N times as many examples as usual.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from freewheel.machine.interpreter import Interpreter
from tests.integration import httptools_traffic as traffic
from tests.integration.conftest import Builder, clean_environment, make_environment
from tests.integration.httptools_corpus import CALLBACKS, GET, POST, Case, corpus

pytestmark = pytest.mark.integration

RELEASES = ("0.9.0", "0.7.1")
PROGRAM = Path(__file__).with_name("httptools_replay.py")
TIMES = int(os.environ.get("FREEWHEEL_FUZZ") or 1)
REFUSED = "the parser is in use by another thread; a parser can be fed by one thread at a time"
SHARED = {"do": "share", "threads": 4, "pieces": [GET, POST] * 6}
LEAK = 200  # blocks of memory more after 2,100 cases; a lost one each would be 2,100
FUZZ = settings(
    deadline=None,  # one machine is slower than another
    database=None,  # nothing is left in the tree
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# The order of threads is not the same again: what failed is told as it was.
THREADS = settings(FUZZ, phases=(Phase.explicit, Phase.generate))


class Replay:
    """A wheel in an interpreter of its own, which is asked one case after another."""

    def __init__(self, name: str, python: Path, log: Path) -> None:
        self.name = name
        self.python = python
        self.log = log
        self.child: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        with self.log.open("w", encoding="utf-8") as log:
            return subprocess.Popen(
                [self.python, "-X", "faulthandler", PROGRAM],
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, *cases: Case) -> list[Any]:
        """What became of each case. Fails the test if the interpreter dies of one."""
        return [json.loads(self.raw(case)) for case in cases]

    def raw(self, case: Case) -> str:
        self.child = child = self.child or self.start()
        assert child.stdin
        assert child.stdout
        child.stdin.write(json.dumps(case) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
        if not line:
            self.child = None
            code = child.wait()
            child.stdin.close()
            child.stdout.close()
            said = self.log.read_text(encoding="utf-8")[-3000:]
            pytest.fail(f"{self.name} died ({code}) of {case}\n{said}")
        return line

    def close(self) -> None:
        if self.child and self.child.stdin:
            self.child.stdin.close()
            self.child.wait(60)


Replays = dict[tuple[str, str], Replay]


@pytest.fixture(scope="module")
def replays(
    built: Builder, interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replays]:
    """By release, and "baseline" or "patched"."""
    root = tmp_path_factory.mktemp("httptools")
    found: Replays = {}
    for release in RELEASES:
        wheels = {
            "baseline": built.baseline("httptools", release).wheel,
            "patched": built.patched("httptools", release).wheel,
        }
        for kind, wheel in wheels.items():
            name = f"{release}-{kind}"
            environment = make_environment(root / name, interpreter)
            environment.install(wheel)
            found[release, kind] = Replay(name, environment.python, root / f"{name}.log")
    yield found
    for replay in found.values():
        replay.close()


def patched(replays: Replays) -> list[Replay]:
    return [replays[release, "patched"] for release in RELEASES]


def compare(replays: Replays, cases: Iterable[Case]) -> set[str]:
    """Ask both wheels of each release; the names of all callbacks and exceptions that occurred."""
    seen = set()
    for case in cases:
        for release in RELEASES:
            before, after = (replays[release, kind].raw(case) for kind in ("baseline", "patched"))
            if before != after:
                assert json.loads(after) == json.loads(before), f"{release}: {case}"
            seen |= set(before.split('"')[1::2])
    return seen


# --------------------------------------------------------------------------- one parser, one thread


def test_the_patched_parser_runs_without_the_gil(replays: Replays) -> None:
    assert [replay.ask({"do": "gil"}) for replay in patched(replays)] == [[False], [False]]


def test_the_corpus_is_parsed_as_before(replays: Replays) -> None:
    seen = compare(replays, corpus())

    assert seen >= {
        *CALLBACKS,
        *("HttpParserError", "HttpParserCallbackError", "HttpParserInvalidMethodError"),
        *("HttpParserInvalidStatusError", "HttpParserInvalidURLError", "HttpParserUpgrade"),
        "LookupError",
    }


def test_what_differs_is_seen(replays: Replays) -> None:
    case = {"do": "parse_url", "url": "/" + "x" * 70_000}  # H0U

    compare({**replays, ("0.7.1", "patched"): replays["0.7.1", "baseline"]}, [case])
    with pytest.raises(AssertionError, match=r"0\.7\.1: "):
        compare(replays, [case])


def test_no_memory_is_lost(replays: Replays) -> None:
    cases = [case for case in corpus() if len(case.get("pieces", "1")) == 1][:2000]
    cases += [{**SHARED, "buffer": buffer} for buffer in ("bytes", "any") for _ in range(50)]
    for replay in patched(replays):
        used = [(replay.ask(*cases), replay.ask({"do": "memory"})[0])[1] for _ in range(3)]
        assert used[2] - used[1] < LEAK, (replay.name, used)


@settings(FUZZ, max_examples=1000 * TIMES)
@given(case=traffic.feeds())
def test_generated_traffic_is_parsed_as_before(replays: Replays, case: Case) -> None:
    compare(replays, [case])


@settings(FUZZ, max_examples=500 * TIMES)
@given(case=traffic.urls())
def test_generated_urls_are_parsed_as_before(replays: Replays, case: Case) -> None:
    compare(replays, [case])


@settings(FUZZ, max_examples=300 * TIMES)
@given(case=traffic.nested_feeds())
def test_a_parser_survives_what_its_callbacks_feed_it(replays: Replays, case: Case) -> None:
    for replay in patched(replays):
        replay.ask(case)  # fails if it dies, be it of a buffer that is not released


@pytest.mark.parametrize("release", RELEASES)
def test_without_the_patches_it_holds_a_buffer(replays: Replays, release: str) -> None:
    nested = ["on_message_complete", [GET]]
    case = {"do": "feed", "pieces": [GET], "buffer": "bytearray", "nested": nested}

    replays[release, "patched"].ask(case)
    with pytest.raises(pytest.fail.Exception, match="BufferError"):
        replays[release, "baseline"].ask(case)


# ---------------------------------------------------------------------- one parser, several threads


def alone(replay: Replay, case: Case, order: Sequence[int]) -> list[Any]:
    """What each call comes to where one thread makes them, in this order."""
    pieces = [case["pieces"][number] for number in order]
    told: list[Any] = replay.ask({**case, "threads": 1, "pieces": pieces})[0]["told"]
    return told


def refused(told: object) -> bool:
    """Whether a call was refused before anything else happened."""
    return told == [["fed", ["RuntimeError", repr((REFUSED,)), None]]]


def check_shared(replay: Replay, case: Case) -> tuple[int, int]:
    """Each call must be whole, or refused; how many were which."""
    (found,) = replay.ask(case)
    told = found["told"]
    if case["buffer"] == "bytes":  # nobody knows the order, and it makes no difference
        order = [number for number, one in enumerate(told) if not refused(one)]
    else:
        order = found["order"]
    left = set(range(len(told))) - set(order)
    assert all(refused(told[number]) for number in left), (case, found)
    assert [told[number] for number in order] == alone(replay, case, order), (case, found)
    return len(order), len(left)


def test_threads_that_share_a_parser_are_whole_or_refused(replays: Replays) -> None:
    counts: list[tuple[int, int]] = []

    @settings(THREADS, max_examples=200 * TIMES)
    @given(case=traffic.shared_feeds() | traffic.shared_requests())
    def run(case: Case) -> None:
        counts.extend(check_shared(replay, case) for replay in patched(replays))

    run()
    whole, left = map(sum, zip(*counts, strict=True))
    assert whole >= len(counts)
    assert left >= len(counts)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("buffer", ["bytes", "any"])
def test_without_the_patches_they_are_not(replays: Replays, release: str, buffer: str) -> None:
    case = {**SHARED, "buffer": buffer}

    def often() -> None:
        for _ in range(20):
            check_shared(replays[release, "baseline"], case)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        often()
