"""How a proof ends: a certificate, or all the reasons why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.workspace import Workspace
from freewheel.build.check import BaselineWheel
from freewheel.proof import certificate, control, judgement, proving
from freewheel.proof.suite.results import Comparison, Difference, Ending, Tally
from freewheel.proof.trials import Trials, Tried
from tests.unit.proofmaker import make_comparison, make_patch, make_tally
from tests.unit.sbommaker import RECIPE
from tests.unit.test_trials import trials
from tests.unit.wheelmaker import make_wheel


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")


def make_trials(tmp_path: Path, *, quick: bool = True) -> Trials:
    """As ``trials``, with a baseline of its own and a patch that has a header."""
    one = trials(tmp_path, "", quick=quick)
    path = make_wheel(tmp_path / "wheels" / "baseline", "demo", "1.0")
    baseline = BaselineWheel(
        path=path,
        project="demo",
        version="1.0",
        sha256=files.sha256(path),
        size=path.stat().st_size,
        failures=(),
    )
    series = (make_patch(tmp_path),)
    return replace(one, case=replace(one.case, baseline=baseline, series=series))


def conclude(
    workspace: Workspace, one: Trials, *, failures: int = 0, suites: Sequence[Comparison] = ()
) -> proving.Proof:
    """The end of a proof in which the patched wheel failed the probe so many times."""
    (probe,) = one.case.probes
    baseline, patched = control.runs_wanted(probe, quick=one.quick)
    found = control.judge(
        probe,
        make_tally(baseline, baseline),
        make_tally(patched, failures),
        claimed=True,
        quick=one.quick,
    )
    tried = Tried(findings=((probe, found),), stress=())
    return proving._conclude(workspace, one, tried, tuple(suites))


def test_a_patch_that_works_gets_a_certificate_beside_the_wheel_and_in_the_index(
    workspace: Workspace, tmp_path: Path
) -> None:
    one = make_trials(tmp_path)

    proof = conclude(workspace, one)

    beside = certificate.path_of(one.case.patched.path)
    assert (proof.problems, proof.certificate) == ((), beside)
    assert certificate.read(beside).wheel.sha256 == one.case.patched.sha256
    assert (workspace.simple / RECIPE.name / beside.name).read_bytes() == beside.read_bytes()
    kept = judgement.recall(workspace, one.case.patched.sha256)
    assert kept is not None
    assert not kept.blocked


def test_a_wheel_that_fails_loses_the_certificate_that_it_had(
    workspace: Workspace, tmp_path: Path
) -> None:
    beside = conclude(workspace, make_trials(tmp_path)).certificate
    one = make_trials(tmp_path)

    proof = conclude(workspace, one, failures=10)

    assert proof.certificate is None
    assert beside is not None
    assert not beside.exists()
    assert not (workspace.simple / RECIPE.name / beside.name).exists()
    (problem,) = proof.problems
    assert problem.startswith("D1: not fixed: the patched wheel fails in 10 of 10 runs")
    kept = judgement.recall(workspace, one.case.patched.sha256)
    assert kept is not None
    assert [(defect.id, defect.blocks) for defect in kept.defects] == [("D1", True)]


def test_all_problems_are_named_at_once(workspace: Workspace, tmp_path: Path) -> None:
    new = Difference(
        id="test_new",
        baseline=Ending.PASSED,
        patched=Ending.FAILED,
        message="7 != 8",
        baseline_runs=Tally(runs=4, failures=0),
        patched_runs=Tally(runs=4, failures=4),
    )
    broken = replace(make_comparison(), newly_failing=(new,))

    proof = conclude(workspace, make_trials(tmp_path), failures=10, suites=[broken])

    assert [problem.partition(":")[0] for problem in proof.problems] == ["D1", "upstream's suite"]
    assert "test_new" in proof.problems[1]


def test_a_quick_proof_leaves_a_full_certificate_that_holds(
    workspace: Workspace, tmp_path: Path
) -> None:
    full = make_trials(tmp_path, quick=False)
    case = replace(full.case, recipe=replace(RECIPE, suite=None))
    beside = conclude(workspace, replace(full, case=case)).certificate
    assert beside is not None
    before = beside.read_bytes()

    proof = conclude(workspace, replace(make_trials(tmp_path), case=case))

    assert proof.certificate == beside
    assert beside.read_bytes() == before
    assert certificate.read(beside).kind == "full"


def test_a_suite_that_was_run_on_the_same_bytes_is_not_run_again(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[bool] = []

    def prove_suite(*_: object, parallel: bool) -> Comparison:
        ran.append(parallel)
        return make_comparison()

    monkeypatch.setattr(proving, "prove_suite", prove_suite)
    monkeypatch.setattr(proving, "suite_digest", lambda *_, **__: "digest")
    monkeypatch.setattr(proving, "chosen_pass", lambda *_, **__: make_comparison_pass())
    one = make_trials(tmp_path)

    found = [proving._suite(workspace, one, parallel=False) for _ in range(2)]
    assert found[0] == found[1] == make_comparison()
    assert ran == [False]

    proving._suite(workspace, replace(one, look="afresh"), parallel=False)
    assert ran == [False, False]


def make_comparison_pass() -> object:
    """What a pass explains; it decides whether a result that is kept still counts."""
    return type("Explained", (), {"failing": (), "expects_defect": ()})()
