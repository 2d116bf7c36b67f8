"""What became of upstream's suite on one wheel, and the difference between two wheels.

All of it is plain data, and nothing here runs anything.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from freewheel.proof.running import signal_name
from freewheel.recipe.suite import Known, Pass


class Ending(StrEnum):
    """How a test ended; ABSENT stands for one that the other wheel's run has and this one not."""

    PASSED = "passed"
    SKIPPED = "skipped"
    ERROR = "error"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CRASHED = "crashed"
    ABSENT = "absent"

    @property
    def bad(self) -> bool:
        return self not in (Ending.PASSED, Ending.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test. ``threads`` is in how many it ran at once; ``message`` why it did not pass."""

    id: str
    ending: Ending
    message: str = ""
    seconds: float = 0.0
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """One run of a suite on one wheel; ``left_out`` has the reason by test.

    ``gil`` is the wheel's module that turned the GIL on, "" where it was off to the end.
    """

    wheel: str
    wheel_sha256: str
    python: str
    parallel: bool
    gil: str
    cases: tuple[Case, ...]
    left_out: Mapping[str, str]
    seconds: float

    def case(self, test: str) -> Case:
        for case in self.cases:
            if case.id == test:
                return case
        return Case(id=test, ending=Ending.ABSENT)

    def counts(self) -> dict[str, int]:
        """How many tests ended in each way; only the ways that occur."""
        found = Counter(case.ending for case in self.cases)
        return {str(ending): found[ending] for ending in Ending if found[ending]}

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SuiteResult:
        """The inverse of ``to_json``; KeyError, TypeError or ValueError for other content."""
        cases = tuple(
            Case(**{**case, "ending": Ending(case["ending"])}) for case in content["cases"]
        )
        return cls(**{**content, "cases": cases})


# ----------------------------------------------------------------------------- from a run's record

_LEEWAY = 0.9  # of the time limit: what a worker's own clock may differ from ours


def fold(lines: Iterable[Mapping[str, Any]], *, seconds: float) -> tuple[Case, ...]:
    """One case for each test, from the reports of its stages, in the order in which they ended.

    ``seconds`` is the limit of each test, by which a worker that ended itself for taking too long
    is told from one that ended for another reason.
    """
    cases: dict[str, Case] = {}
    for line in lines:
        if line["kind"] == "report":
            found = _of_report(line)
        elif line["kind"] == "death":
            found = _of_death(line, seconds)
        else:
            continue
        before = cases.pop(found.id, None)
        cases[found.id] = _worse(before, found) if before else found
    return tuple(cases.values())


def _of_report(line: Mapping[str, Any]) -> Case:
    if line["outcome"] == "failed":
        ending = Ending.FAILED if line["when"] == "call" else Ending.ERROR
    else:
        ending = Ending(line["outcome"])
    message = line["message"]
    if line.get("expected"):
        message = f"expected failure: {message}"
    return Case(
        id=line["id"],
        ending=ending,
        message=message if ending is not Ending.PASSED else "",
        seconds=line["seconds"],
        threads=line.get("threads", 1),
    )


def _of_death(line: Mapping[str, Any], seconds: float) -> Case:
    status = line["status"]
    if status == 1 and line["seconds"] >= seconds * _LEEWAY:
        ending, message = Ending.TIMED_OUT, f"no end after {seconds:g} s"
    elif status is not None and status < 0:
        ending, message = Ending.CRASHED, signal_name(status)
    else:
        ending, message = Ending.CRASHED, f"the process exited with {status}"
    return Case(id=line["id"], ending=ending, message=message, seconds=line["seconds"])


def _worse(one: Case, other: Case) -> Case:
    """The case that two stages of a test make; the message is of the first that is as bad."""
    order = list(Ending)
    worst = max(one, other, key=lambda case: order.index(case.ending))
    # A death's time covers the stages before it.
    whole = other.ending in (Ending.CRASHED, Ending.TIMED_OUT)
    return dataclasses.replace(
        worst,
        seconds=other.seconds if whole else one.seconds + other.seconds,
        threads=max(one.threads, other.threads),
    )


# ------------------------------------------------------------------------------- the difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """In how many runs a test took part, and in how many it was as bad as at its worst."""

    runs: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A test that ended otherwise on one wheel than on the other, and what repeating it showed."""

    id: str
    baseline: Ending
    patched: Ending
    message: str
    baseline_runs: Tally
    patched_runs: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedFailure:
    """A test that fails on both wheels. ``reason`` is the recipe's; "" where it gives none."""

    id: str
    baseline: Ending
    patched: Ending
    message: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outdated:
    """A test that fails on the patched wheel alone, because it expects what a patch mends."""

    id: str
    message: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The suite on the baseline wheel and on the patched one, in numbers of tests by ending.

    ``baseline_gil`` and ``patched_gil`` are modules that turned the GIL on. ``newly_failing`` is an
    error: it fails on the patched wheel in every run and on the baseline in none. ``flaky`` are
    those for which that is not so, one way or the other. ``outdated`` fails newly, as the recipe
    tells. ``unneeded`` are patterns in the recipe that explain no failure. ``skipped`` and
    ``left_out`` are numbers of tests by reason. ``in_parallel`` is how many ran in several threads.
    """

    baseline: Mapping[str, int]
    patched: Mapping[str, int]
    baseline_gil: str
    patched_gil: str
    parallel: bool
    in_parallel: int
    newly_failing: tuple[Difference, ...]
    newly_passing: tuple[Difference, ...]
    flaky: tuple[Difference, ...]
    failing_on_both: tuple[SharedFailure, ...]
    unneeded: tuple[str, ...]
    skipped: Mapping[str, int]
    left_out: Mapping[str, int]
    outdated: tuple[Outdated, ...] = ()

    @property
    def errors(self) -> tuple[str, ...]:
        """Why the patched wheel has not stood this, one line each."""
        problems = [
            f"{found.id}: {found.patched}, {found.message} (the baseline: {found.baseline})"
            for found in self.newly_failing
        ]
        if self.patched_gil:
            problems.append(f"{self.patched_gil} turned the GIL on")
        return tuple(problems)

    @property
    def unexplained(self) -> tuple[SharedFailure, ...]:
        """What fails on both wheels without a reason in the recipe: a gap, not an error."""
        return tuple(failure for failure in self.failing_on_both if not failure.reason)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Comparison:
        """The inverse of ``to_json``; KeyError, TypeError or ValueError for other content."""
        kept = dict(content)
        for name in ("newly_failing", "newly_passing", "flaky"):
            kept[name] = tuple(map(_to_difference, content[name]))
        kept["failing_on_both"] = tuple(
            SharedFailure(**{**failure, **_endings(failure)})
            for failure in content["failing_on_both"]
        )
        kept["outdated"] = tuple(Outdated(**test) for test in content["outdated"])
        kept["unneeded"] = tuple(content["unneeded"])
        return cls(**kept)


def _to_difference(content: Mapping[str, Any]) -> Difference:
    runs = {name: Tally(**content[name]) for name in ("baseline_runs", "patched_runs")}
    return Difference(**{**content, **_endings(content), **runs})


def _endings(content: Mapping[str, Any]) -> dict[str, Ending]:
    return {name: Ending(content[name]) for name in ("baseline", "patched")}


def differing(baseline: SuiteResult, patched: SuiteResult) -> tuple[str, ...]:
    """The tests that are worth repeating: better on one wheel than on the other."""
    return tuple(
        test
        for test in _tests(baseline, patched)
        if _rank(baseline.case(test)) != _rank(patched.case(test))
    )


def compare(
    baseline: SuiteResult,
    patched: SuiteResult,
    again: Sequence[tuple[SuiteResult, SuiteResult]],
    part: Pass,
) -> Comparison:
    """The difference between two runs of a suite. ``again`` repeats the ``differing`` tests."""
    pairs = [(baseline, patched), *again]
    newly_failing: list[Difference] = []
    newly_passing: list[Difference] = []
    flaky: list[Difference] = []
    outdated: list[Outdated] = []
    for test in differing(baseline, patched):
        difference = _difference(test, pairs)
        if _settled(difference.patched_runs, difference.baseline_runs):
            if found := _outdated(test, [after for _, after in pairs], part):
                outdated.append(found)
            else:
                newly_failing.append(difference)
        elif _settled(difference.baseline_runs, difference.patched_runs):
            newly_passing.append(difference)
        else:
            flaky.append(difference)
    shared = tuple(_shared(baseline, patched, part))
    return Comparison(
        baseline=baseline.counts(),
        patched=patched.counts(),
        baseline_gil=baseline.gil,
        patched_gil=patched.gil,
        parallel=patched.parallel,
        in_parallel=sum(case.threads > 1 for case in patched.cases),
        newly_failing=tuple(newly_failing),
        newly_passing=tuple(newly_passing),
        flaky=tuple(flaky),
        failing_on_both=shared,
        outdated=tuple(outdated),
        unneeded=(
            *_unneeded(part.failing, [*shared, *newly_failing, *newly_passing, *flaky]),
            *_unneeded(part.expects_defect, outdated),
        ),
        skipped=_by_number(c.message for c in patched.cases if c.ending is Ending.SKIPPED),
        left_out=_by_number(patched.left_out.values()),
    )


def _outdated(test: str, runs: Sequence[SuiteResult], part: Pass) -> Outdated | None:
    """What the recipe tells of a newly failing test, if it failed in those words in every run."""
    cases = [run.case(test) for run in runs]
    for known in part.expects_defect:
        if known.matches(test) and all(
            case.ending is Ending.FAILED and known.fits(case.message) for case in cases
        ):
            return Outdated(id=test, message=cases[0].message, reason=known.reason)
    return None


def _unneeded(
    expected: Sequence[Known], found: Sequence[SharedFailure | Difference | Outdated]
) -> list[str]:
    return [
        ", ".join(known.tests)
        for known in expected
        if not any(known.matches(test.id) for test in found)
    ]


def _tests(baseline: SuiteResult, patched: SuiteResult) -> list[str]:
    """Every test of either, in the order of the patched wheel's run."""
    return list(dict.fromkeys(case.id for case in (*patched.cases, *baseline.cases)))


def _rank(case: Case) -> int:
    """0 for a pass, 1 for a skipped test, which shows less, and 2 for all that is bad."""
    return 2 if case.ending.bad else int(case.ending is Ending.SKIPPED)


def _difference(test: str, pairs: Sequence[tuple[SuiteResult, SuiteResult]]) -> Difference:
    runs = [[result.case(test) for result in side] for side in zip(*pairs, strict=True)]
    worst = max(_rank(runs[0][0]), _rank(runs[1][0]))
    tallies = [
        Tally(runs=len(side), failures=sum(_rank(case) >= worst for case in side)) for side in runs
    ]
    messages = [side[0].message for side in runs if _rank(side[0]) == worst]
    return Difference(
        id=test,
        baseline=runs[0][0].ending,
        patched=runs[1][0].ending,
        message=messages[0],
        baseline_runs=tallies[0],
        patched_runs=tallies[1],
    )


def _settled(failing: Tally, passing: Tally) -> bool:
    return failing.failures == failing.runs and passing.failures == 0


def _shared(baseline: SuiteResult, patched: SuiteResult, part: Pass) -> Iterator[SharedFailure]:
    for test in _tests(baseline, patched):
        before, after = baseline.case(test), patched.case(test)
        if before.ending.bad and after.ending.bad:
            reasons = [known.reason for known in part.failing if known.matches(test)]
            yield SharedFailure(
                id=test,
                baseline=before.ending,
                patched=after.ending,
                message=after.message or before.message,
                reason=reasons[0] if reasons else "",
            )


def _by_number(reasons: Iterable[str]) -> dict[str, int]:
    return dict(Counter(reasons).most_common())
