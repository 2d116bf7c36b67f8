"""The negative control: what runs on two wheels say about a patch."""

from pathlib import Path

import pytest

from freewheel.proof import control
from freewheel.proof.control import Verdict, bound_of, chance_of, judge, tally
from freewheel.proof.form import Tally
from freewheel.proof.programs import Outcome
from freewheel.proof.running import Run
from tests.unit.proofmaker import make_probe, make_tally


def run(outcome: Outcome, *, signal: str = "", said: str = "") -> Run:
    return Run(outcome=outcome, returncode=None, signal=signal, seconds=0.5, said=said)


def test_a_tally_counts_endings_and_keeps_what_the_first_failure_printed() -> None:
    counted = tally(
        [
            run(Outcome.PASS, said="fine"),
            run(Outcome.CRASH, signal="SIGSEGV", said="first"),
            run(Outcome.CRASH, signal="SIGSEGV", said="second"),
            run(Outcome.CRASH, signal="SIGABRT"),
            run(Outcome.NOT_RUN, said="no server"),
        ]
    )

    assert (counted.runs, counted.failures, counted.not_run) == (5, 3, 1)
    assert counted.endings == {
        "crash (SIGABRT)": 1,
        "crash (SIGSEGV)": 2,
        "not run": 1,
        "pass": 1,
    }
    assert counted.said == "first"
    assert counted.seconds == 2.5


@pytest.mark.parametrize(
    ("baseline", "patched", "chance"),
    [
        # By hand: all 5 failures among the 5 of 60 runs that were the baseline's.
        ((5, 5), (55, 0), 1 / 5_461_512),
        # 1 failure in 20 runs, 10 of them the baseline's: it falls there with 1/2.
        ((10, 1), (10, 0), 0.5),
        ((10, 0), (10, 0), 1.0),
        ((10, 10), (10, 10), 1.0),
    ],
)
def test_the_chance_is_fishers(
    baseline: tuple[int, int], patched: tuple[int, int], chance: float
) -> None:
    assert chance_of(make_tally(*baseline), make_tally(*patched)) == pytest.approx(chance)


def test_failures_are_excused_by_enough_runs_alone_and_by_nothing_else() -> None:
    def seen(runs: int, failures: int, again: int = 0, failures_again: int = 0) -> Tally:
        return make_tally(runs, failures).model_copy(
            update={"again": again, "failures_again": failures_again}
        )

    assert control.again_wanted(seen(40, 0), 90) == 0
    assert control.again_wanted(seen(10, 1), 90) == 90
    assert control.again_wanted(seen(40, 1), 90) == 187  # (1 - 1/41) ** 187 is 1 %
    assert control.again_wanted(seen(227, 1, 187), 90) == 0
    assert control.again_wanted(seen(41, 2, 1, 1), 90) == 0
    assert control.again_wanted(seen(1, 1), 6) == 7

    assert control.is_flaky(seen(227, 1, 187), 90)
    assert not control.is_flaky(seen(226, 1, 186), 90)
    assert not control.is_flaky(seen(227, 2, 187, 1), 90)
    assert not control.is_flaky(seen(40, 0), 90)


def test_the_bound_is_the_rate_at_which_so_many_passes_are_still_five_percent_likely() -> None:
    bound = bound_of(make_tally(60))

    assert (1 - bound) ** 60 == pytest.approx(0.05)
    one = bound_of(make_tally(60, 1))
    assert (1 - one) ** 60 + 60 * one * (1 - one) ** 59 == pytest.approx(0.05)
    assert bound_of(make_tally(60, 60)) == 1
    assert bound_of(make_tally(0)) == 1


@pytest.mark.parametrize(
    ("baseline", "patched", "verdict", "told"),
    [
        (make_tally(10, 10), make_tally(40), Verdict.PROVEN, ""),
        (make_tally(10), make_tally(40), Verdict.UNPROVEN, "passes all 10 runs"),
        (make_tally(10, 1), make_tally(40), Verdict.UNPROVEN, "1 of 10 runs only"),
        (make_tally(10, 10), make_tally(40, 1), Verdict.NOT_FIXED, "1 of 40"),
        (make_tally(10), make_tally(40, 1), Verdict.NOT_FIXED, "1 of 40"),
        (
            make_tally(10, 10, {"wrong answer": 9, "exception": 1}),
            make_tally(40),
            Verdict.OTHER_FAILURE,
            "fails by exception",
        ),
        (
            make_tally(10, 0, {"not run": 10}, said="no server"),
            make_tally(40),
            Verdict.NOT_RUN,
            "no server",
        ),
        (
            make_tally(10, 10),
            make_tally(40, 0, {"not run": 1}),
            Verdict.NOT_RUN,
            "1 times on the patched",
        ),
    ],
)
def test_verdicts(
    tmp_path: Path,
    baseline: Tally,
    patched: Tally,
    verdict: Verdict,
    told: str,
) -> None:
    found = judge(make_probe(tmp_path), baseline, patched, claimed=True, quick=False)

    assert found.verdict is verdict
    assert told in found.explanation
    assert found.is_problem is (verdict is not Verdict.PROVEN)


def test_a_crash_counts_as_declared_whatever_its_signal(tmp_path: Path) -> None:
    probe = make_probe(tmp_path, fails_by=(Outcome.CRASH,))
    crashed = make_tally(10, 10, {"crash (SIGSEGV)": 6, "crash (SIGBUS)": 4})

    assert judge(probe, crashed, make_tally(40), claimed=True, quick=False).verdict == "proven"


def test_a_defect_that_no_patch_names_is_open_and_no_problem(tmp_path: Path) -> None:
    probe = make_probe(tmp_path)
    found = judge(probe, make_tally(10, 10), make_tally(40, 40), claimed=False, quick=False)

    assert found.verdict is Verdict.OPEN
    assert not found.is_problem


def test_a_quick_proof_runs_less_and_asks_for_less(tmp_path: Path) -> None:
    probe = make_probe(tmp_path)
    baseline_runs, patched_runs = control.runs_wanted(probe, quick=True)
    few = make_tally(baseline_runs, baseline_runs), make_tally(patched_runs)

    assert judge(probe, *few, claimed=True, quick=True).verdict is Verdict.PROVEN
    assert judge(probe, *few, claimed=True, quick=False).verdict is Verdict.UNPROVEN
    assert control.runs_wanted(probe, quick=False) == (10, 40)


@pytest.mark.parametrize(
    ("baseline", "patched", "verdict", "problem"),
    [
        (make_tally(40), make_tally(40), Verdict.MOOT, False),
        (make_tally(40, 1), make_tally(40), Verdict.PRESENT, True),
        (make_tally(40), make_tally(40, 3), Verdict.NOT_FIXED, True),
        (
            make_tally(1, 0, {"not run": 1}),
            make_tally(1, 0, {"not run": 1}),
            Verdict.NOT_RUN,
            False,
        ),
    ],
)
def test_where_the_interpreter_lacks_the_defect_the_baseline_has_to_pass(
    tmp_path: Path,
    baseline: Tally,
    patched: Tally,
    verdict: Verdict,
    problem: bool,  # noqa: FBT001  a parameter of the table
) -> None:
    probe = make_probe(tmp_path, pythons="==3.14.*")

    found = control.judge_absence(probe, baseline, patched)

    assert (found.verdict, found.is_problem) == (verdict, problem)
    assert "==3.14.*" in found.explanation or verdict is Verdict.NOT_FIXED
    assert found.bound == bound_of(baseline)
    # As many runs of the baseline as of a patched wheel: it is the one that has to pass.
    assert control.runs_wanted(probe, quick=False, expected=False) == (40, 40)
