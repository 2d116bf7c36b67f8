"""Stage *negative control*: each probe on both wheels of a release, and what it means.

The question is not whether the patched wheel passes, but whether it passes where the baseline
fails, so often that chance is excluded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, comb, log, log1p
from typing import Protocol

from freewheel.proof.form import Tally
from freewheel.proof.programs import Outcome, Probe
from freewheel.proof.running import Run

CONFIDENCE = 0.95  # of the upper bound on the failure rate
# The chance, at most, that a patch which does nothing would have given the same runs.
FULL_CHANCE = 1e-6
QUICK_CHANCE = 5e-3
QUICK_BASELINE_RUNS = 3
QUICK_PATCHED_RUNS = 10
# Runs to make again, alone, after a failure: a program that fails in one of 20 is caught.
PROBES_AGAIN = 90
STRESS_AGAIN = 6
_CERTAINTY = 0.99
_PRECISION = 1e-9
_SAID = 1500  # characters that are kept of what a failing run printed


class Verdict(StrEnum):
    """What the runs say about a patch."""

    PROVEN = "proven"
    UNPROVEN = "unproven"  # the baseline passes, or fails too rarely to tell
    NOT_FIXED = "not fixed"  # the patched wheel fails
    OTHER_FAILURE = "fails otherwise"  # the baseline fails, but not in the way of this defect
    NOT_RUN = "not run"
    MOOT = "moot"  # by the probe, the interpreter does not have the defect, and so it is
    PRESENT = "there after all"  # by the probe, it does not, but the baseline fails
    OPEN = "open"  # a known defect that no patch of the release claims to fix


class Counted(Protocol):
    """How many runs there were, and how many failed."""

    @property
    def runs(self) -> int: ...

    @property
    def failures(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The verdict on one defect of one release, with one interpreter.

    ``expected`` says that the interpreter has the defect, by the probe. ``chance`` is the
    probability that so few of the failures fall on the patched wheel if the
    patch changes nothing; ``bound`` the upper bound, at 95 % confidence, on the rate at which the
    patched wheel may still fail, given how often it passed (of a moot defect: the baseline).
    """

    defect: str
    expected: bool
    verdict: Verdict
    baseline: Tally
    patched: Tally
    chance: float
    bound: float
    explanation: str

    @property
    def is_problem(self) -> bool:
        """Whether it blocks a certificate."""
        if self.verdict is Verdict.NOT_RUN:
            return self.expected
        return self.verdict not in (Verdict.PROVEN, Verdict.OPEN, Verdict.MOOT)


def tally(runs: Iterable[Run]) -> Tally:
    """Count the runs of a program on one wheel, by how they ended: ``crash (SIGSEGV)``.

    ``said`` is the end of what the first run printed that did not pass, "" if all did.
    """
    taken = list(runs)
    failed = [run for run in taken if run.outcome not in (Outcome.PASS, Outcome.NOT_RUN)]
    not_run = [run for run in taken if run.outcome is Outcome.NOT_RUN]
    return Tally(
        runs=len(taken),
        failures=len(failed),
        endings=dict(sorted(Counter(ending(run) for run in taken).items())),
        seconds=round(sum(run.seconds for run in taken), 1),
        said=next((run.said[-_SAID:] for run in (*failed, *not_run)), ""),
        again=sum(run.again for run in taken),
        failures_again=sum(run.again for run in failed),
        load=max((run.load for run in taken), default=0.0),
        stacks=next((run.stacks for run in failed if run.stacks), ""),
    )


def ending(run: Run) -> str:
    """How a run ended, in words."""
    return f"{run.outcome} ({run.signal})" if run.signal else str(run.outcome)


def runs_wanted(probe: Probe, *, quick: bool, expected: bool = True) -> tuple[int, int]:
    """How often to run a probe on the baseline wheel and on the patched one.

    Where the defect is not ``expected``, the baseline has to pass as often as a patched wheel.
    """
    patched = min(probe.patched_runs, QUICK_PATCHED_RUNS) if quick else probe.patched_runs
    if not expected:
        return patched, patched
    baseline = min(probe.baseline_runs, QUICK_BASELINE_RUNS) if quick else probe.baseline_runs
    return baseline, patched


def again_wanted(tally: Tally, least: int) -> int:
    """How many more runs, alone, have to pass before the failures of a patched wheel are excused.

    So many that a program which fails at the rate seen would fail in one of them with 99 %
    probability, and at ``least`` that many; 0 where it is settled: nothing failed, or failed again.
    """
    first, failures = tally.runs - tally.again, tally.failures - tally.failures_again
    if not failures or tally.failures_again:
        return 0
    needed = ceil(log(1 - _CERTAINTY) / log1p(-failures / (first + 1)))
    return max(0, max(least, needed) - tally.again)


def is_flaky(tally: Tally, least: int) -> bool:
    """Whether a program failed now and then, but never in enough runs alone."""
    settled = not again_wanted(tally, least) and not tally.failures_again
    return tally.failures > 0 and settled


def stood(tally: Tally, least: int) -> bool:
    """Whether a patched wheel stood a program: it never failed, or it is flaky."""
    return not tally.failures or is_flaky(tally, least)


def chance_of(baseline: Counted, patched: Counted) -> float:
    """The probability that chance alone puts so few of the failures on the patched wheel.

    Fisher's exact test, one-sided: all runs in one urn, failures and passes, and as many drawn as
    the patched wheel had runs. 1.0 where nothing failed at all.
    """
    failures = baseline.failures + patched.failures
    runs = baseline.runs + patched.runs
    ways = sum(
        comb(patched.runs, on_patched) * comb(baseline.runs, failures - on_patched)
        for on_patched in range(patched.failures + 1)
    )
    return ways / comb(runs, failures)


def bound_of(patched: Counted) -> float:
    """The highest failure rate at which so few failures in so many runs are still 5 % likely.

    The exact (Clopper-Pearson) upper bound; 1.0 where there was no run, or all failed.
    """
    runs, failures = patched.runs, patched.failures
    if failures == runs:
        return 1.0
    low, high = failures / runs, 1.0
    while high - low > _PRECISION:
        rate = (low + high) / 2
        ways = (comb(runs, k) * rate**k * (1 - rate) ** (runs - k) for k in range(failures + 1))
        low, high = (rate, high) if sum(ways) > 1 - CONFIDENCE else (low, rate)
    return high


def judge_absence(probe: Probe, baseline: Tally, patched: Tally) -> Finding:
    """What the runs of one probe mean with an interpreter that, by the probe, lacks the defect."""
    verdict, explanation = Verdict.MOOT, f"only {probe.pythons} have it, by requires-python"
    if baseline.not_run or patched.not_run:
        verdict = Verdict.NOT_RUN
        explanation = f"{explanation}; here it cannot run: {baseline.said or patched.said}"
    elif baseline.failures:
        verdict = Verdict.PRESENT
        explanation = (
            f"{explanation}, but the baseline wheel fails in {baseline.failures} of "
            f"{baseline.runs} runs here: name this version there, and cure it here too"
        )
    elif patched.failures and not is_flaky(patched, PROBES_AGAIN):
        verdict = Verdict.NOT_FIXED
        explanation = (
            f"the patched wheel fails in {patched.failures} of {patched.runs} runs, and the "
            "baseline in none: the patch does harm here"
        )
    return Finding(
        defect=probe.defect,
        expected=False,
        verdict=verdict,
        baseline=baseline,
        patched=patched,
        chance=1.0,
        bound=bound_of(baseline),
        explanation=explanation,
    )


def judge(probe: Probe, baseline: Tally, patched: Tally, *, claimed: bool, quick: bool) -> Finding:
    """What the runs of one probe mean; ``claimed`` says that a patch of the release names it."""
    chance, bound = chance_of(baseline, patched), bound_of(patched)
    limit = QUICK_CHANCE if quick else FULL_CHANCE
    foreign = _foreign_endings(probe, baseline)
    flaky = is_flaky(patched, PROBES_AGAIN)
    verdict, explanation = Verdict.PROVEN, ""
    if flaky:
        explanation = (
            f"flaky: the patched wheel failed in {patched.failures} of {patched.runs} runs, but in "
            f"none of the {patched.again} that were made again, alone"
        )
    if not claimed:
        verdict = Verdict.OPEN
        explanation = "known, and no patch of this release fixes it"
    elif baseline.not_run or patched.not_run:
        verdict = Verdict.NOT_RUN
        explanation = (
            f"the probe could not run {baseline.not_run} times on the baseline wheel and "
            f"{patched.not_run} times on the patched one: {baseline.said or patched.said}"
        )
    elif patched.failures and not flaky:
        verdict = Verdict.NOT_FIXED
        explanation = (
            f"the patched wheel fails in {patched.failures} of {patched.runs} runs, and in "
            f"{patched.failures_again} of the {patched.again} that were made again, alone"
        )
    elif not baseline.failures:
        verdict = Verdict.UNPROVEN
        explanation = (
            f"the baseline wheel passes all {baseline.runs} runs: drop the patch, or make the "
            "probe sharper"
        )
    elif foreign:
        verdict = Verdict.OTHER_FAILURE
        explanation = (
            f"the baseline wheel fails by {foreign}, which the probe does not declare in `fails-by`"
        )
    elif chance > limit:
        verdict = Verdict.UNPROVEN
        explanation = (
            f"the baseline wheel fails in {baseline.failures} of {baseline.runs} runs only: a "
            f"patch that does nothing has a chance of {chance:.2g} to look as good (at most "
            f"{limit:g}); raise the probe's `runs`, or make it sharper"
        )
    return Finding(
        defect=probe.defect,
        expected=True,
        verdict=verdict,
        baseline=baseline,
        patched=patched,
        chance=chance,
        bound=bound,
        explanation=explanation,
    )


def _foreign_endings(probe: Probe, baseline: Tally) -> str:
    """The ways in which the baseline failed that are not this defect's, joined; "" if none."""
    own = {str(outcome) for outcome in (*probe.fails_by, Outcome.PASS)}
    return ", ".join(name for name in baseline.endings if name.partition(" (")[0] not in own)
