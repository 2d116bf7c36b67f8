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

from pydantic import TypeAdapter

from freewheel.proof.form import Explained, Flaky
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


# ----------------------------------------------------------------------------- from a run's record

_LEEWAY = 0.9  # of the time limit: what a worker's own clock may differ from ours


def fold(lines: Iterable[Mapping[str, Any]], *, seconds: float) -> tuple[Case, ...]:
    """One case for each test, from the reports of its stages, in the order in which they ended.

    ``seconds`` is the limit of each test, by which a worker that ended itself for taking too long
    is distinguished from one that ended for another reason.
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
class Comparison:
    """The suite on the baseline wheel and on the patched one; form.Suite is made of it.

    ``patched_gil`` is the module of the patched wheel that turned the GIL on, "" if none did.
    ``newly_failing`` is an error: it fails on the patched wheel in every run and on the baseline in
    none. ``flaky`` are those for which that is not so, one way or the other. ``unneeded`` are
    patterns in the recipe that explain no failure.
    """

    baseline: Mapping[str, int]
    patched: Mapping[str, int]
    baseline_gil: str
    patched_gil: str
    threads: int
    in_parallel: int
    newly_failing: tuple[Difference, ...]
    newly_passing: tuple[str, ...]
    flaky: tuple[Flaky, ...]
    failing_on_both: tuple[Explained, ...]
    outdated: tuple[Explained, ...]
    unneeded: tuple[str, ...]
    skipped: Mapping[str, int]
    left_out: Mapping[str, int]

    @property
    def name(self) -> str:
        return "parallel" if self.threads > 1 else "ordinary"

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


COMPARISON = TypeAdapter(Comparison)  # as it is kept


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
    newly_passing: list[str] = []
    flaky: list[Flaky] = []
    outdated: list[Explained] = []
    for test in differing(baseline, patched):
        difference = _difference(test, pairs)
        if _settled(difference.patched_runs, difference.baseline_runs):
            if found := _outdated(test, [after for _, after in pairs], part):
                outdated.append(found)
            else:
                newly_failing.append(difference)
        elif _settled(difference.baseline_runs, difference.patched_runs):
            newly_passing.append(test)
        else:
            flaky.append(_flaky(difference))
    shared = tuple(_shared(baseline, patched, part))
    return Comparison(
        baseline=baseline.counts(),
        patched=patched.counts(),
        baseline_gil=baseline.gil,
        patched_gil=patched.gil,
        threads=part.threads,
        in_parallel=sum(case.threads > 1 for case in patched.cases),
        newly_failing=tuple(newly_failing),
        newly_passing=tuple(newly_passing),
        flaky=tuple(flaky),
        failing_on_both=shared,
        outdated=tuple(outdated),
        unneeded=(
            *_unneeded(
                part.failing,
                [
                    *(test.id for test in newly_failing),
                    *(test.test for test in shared),
                    *(test.test for test in flaky),
                    *newly_passing,
                ],
            ),
            *_unneeded(part.expects_defect, [test.test for test in outdated]),
        ),
        skipped=_by_number(c.message for c in patched.cases if c.ending is Ending.SKIPPED),
        left_out=_by_number(patched.left_out.values()),
    )


def _outdated(test: str, runs: Sequence[SuiteResult], part: Pass) -> Explained | None:
    """What the recipe tells of a newly failing test, if it failed in those words in every run."""
    cases = [run.case(test) for run in runs]
    for known in part.expects_defect:
        if known.matches(test) and all(
            case.ending is Ending.FAILED and known.fits(case.message) for case in cases
        ):
            return Explained(test=test, outcome=cases[0].message, reason=known.reason)
    return None


def _flaky(difference: Difference) -> Flaky:
    before, after = difference.baseline_runs, difference.patched_runs
    return Flaky(
        test=difference.id,
        baseline_failures=before.failures,
        baseline_runs=before.runs,
        patched_failures=after.failures,
        patched_runs=after.runs,
    )


def _unneeded(expected: Sequence[Known], found: Sequence[str]) -> list[str]:
    return [", ".join(known.tests) for known in expected if not any(map(known.matches, found))]


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


def _shared(baseline: SuiteResult, patched: SuiteResult, part: Pass) -> Iterator[Explained]:
    for test in _tests(baseline, patched):
        before, after = baseline.case(test), patched.case(test)
        if before.ending.bad and after.ending.bad:
            reasons = [known.reason for known in part.failing if known.matches(test)]
            message = after.message or before.message
            yield Explained(
                test=test,
                outcome=f"{after.ending}: {message}",
                reason=reasons[0] if reasons else "",
            )


def _by_number(reasons: Iterable[str]) -> dict[str, int]:
    return dict(Counter(reasons).most_common())
