"""The programs of a case on both of its wheels: every run there is, and those made again.

A run counts for what it shows of the wheel, not of the machine. So what is unclear is measured
again, with nothing else of ours at work: a baseline that fails too rarely to tell, and a patched
wheel that failed, in so many runs that the rate at which it failed is excluded, or confirmed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from freewheel.base.console import Board
from freewheel.proof import control, form
from freewheel.proof.cases import Case, WheelName
from freewheel.proof.programs import Outcome, Probe, Program, Stress
from freewheel.proof.result_cache import ResultCache, Subject, harness_digest
from freewheel.proof.running import Environment, Run, run_program, run_stress
from freewheel.proof.services import services_of

Look = Literal["kept", "again", "afresh"]
RUNS = TypeAdapter(list[Run])  # as they are kept
_MORE_BASELINE = 3  # times the runs of a full proof, where the baseline fails too rarely to tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """What all runs of a case share.

    ``look`` says which results that are kept count: all ("kept"), all but those that may have led
    to a problem ("again"), or none ("afresh").
    """

    case: Case
    environments: dict[WheelName, Environment]
    services: dict[str, str]
    scratch: Path
    kept: ResultCache
    look: Look
    quick: bool
    started: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What the programs of a case showed."""

    findings: tuple[tuple[Probe, control.Finding], ...]
    stress: tuple[form.Stress, ...]


STAGES = 2  # of each case: probes, stress


def try_programs(trials: Trials, board: Board) -> Tried:
    """Run the probes that concern the release, then the stress programs, on both wheels."""
    with board.stage(trials.case.title, "probes"):
        findings = _negative_control(trials, board)
    with board.stage(trials.case.title, "stress"):
        stress = tuple(_stress(trials, program) for program in trials.case.programs.stress)
    return Tried(findings=findings, stress=stress)


def _negative_control(trials: Trials, board: Board) -> tuple[tuple[Probe, control.Finding], ...]:
    """Every probe that concerns the release, on both wheels: side by side where they may be."""
    pairs = [(probe, *_both_wheels(trials, probe)) for probe in trials.case.probes]
    together = [one for probe, *both in pairs if not probe.exclusive for one in both]
    alone = [one for probe, *both in pairs if probe.exclusive for one in both]
    with board.counted(
        f"{trials.case.title}: probes on a wheel", len(together) + len(alone)
    ) as ran:

        def complete(one: _Series) -> None:
            one.complete()
            ran()

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(complete, together))
        for one in alone:
            complete(one)
    return tuple((probe, _settle(trials, probe, *both)) for probe, *both in pairs)


def _both_wheels(trials: Trials, probe: Probe) -> tuple[_Series, _Series]:
    """The series of a probe, few runs where no patch claims anything: baseline, then patched."""
    few = trials.quick or not trials.case.patches_for(probe.defect)
    expected = trials.case.expects(probe)
    on_baseline, on_patched = control.runs_wanted(probe, quick=few, expected=expected)
    return (
        _Series(trials, probe, "baseline", wanted=on_baseline),
        _Series(trials, probe, "patched", wanted=on_patched),
    )


def _settle(trials: Trials, probe: Probe, baseline: _Series, patched: _Series) -> control.Finding:
    """The verdict on a probe, after runs alone where it is unclear."""
    claimed = bool(trials.case.patches_for(probe.defect))

    def judge() -> control.Finding:
        before, after = control.tally(baseline.runs), control.tally(patched.runs)
        if not trials.case.expects(probe):
            return control.judge_absence(probe, before, after)
        return control.judge(probe, before, after, claimed=claimed, quick=trials.quick)

    if claimed:
        patched.excuse(control.PROBES_AGAIN)
    most = probe.baseline_runs * (1 if trials.quick else _MORE_BASELINE)
    while (
        (found := judge()).verdict is control.Verdict.UNPROVEN
        and found.baseline.failures
        and found.baseline.runs < most
    ):
        baseline.complete(more=1)
    return found


def _stress(trials: Trials, stress: Stress) -> form.Stress:
    """A stress program on both wheels; on the baseline only to see what it does, so shortly."""
    work = stress.quick_seconds if trials.quick else stress.full_seconds
    baseline = _Series(trials, stress, "baseline", wanted=1, work=stress.quick_seconds)
    patched = _Series(trials, stress, "patched", wanted=1, work=work)
    for one in (baseline, patched):
        one.complete()
    patched.excuse(control.STRESS_AGAIN)
    return form.Stress(
        name=stress.name,
        title=stress.title,
        program_sha256=stress.sha256,
        work=work,
        baseline=control.tally(baseline.runs),
        patched=control.tally(patched.runs),
    )


class _Series:
    """The runs of one program on one wheel: those that are kept, then new ones, ``wanted`` in all.

    Each is kept as soon as it has ended. One that could not run says nothing about the wheel, and
    is not kept. A stress program works for ``work`` seconds.
    """

    def __init__(
        self,
        trials: Trials,
        program: Program,
        wheel: WheelName,
        *,
        wanted: int,
        work: float | None = None,
    ) -> None:
        self._wanted = wanted
        self._kept = trials.kept
        environment = trials.environments[wheel]
        self._subject = subject(program, environment, work=work)
        self.runs = [] if trials.look == "afresh" else self._kept.read(self._subject, RUNS) or []
        if trials.look == "again" and _may_be_to_blame(self.runs, program, wheel):
            self.runs = []
        services = services_of(program, trials.services)
        if isinstance(program, Stress) and work is not None:
            self._run = partial(
                run_stress, program, environment, trials.scratch, work=work, services=services
            )
        else:
            self._run = partial(
                run_program, program, environment, trials.scratch, services=services
            )

    def complete(self, more: int = 0) -> None:
        """Run until there are as many runs as wanted, and so many ``more``; without those again."""
        self._wanted += more
        while sum(not run.again for run in self.runs) < self._wanted:
            self._add(self._run())

    def excuse(self, least: int) -> None:
        """Where runs failed, run again until one more fails, or enough have passed."""
        while control.again_wanted(control.tally(self.runs), least):
            if any(run.outcome is Outcome.NOT_RUN for run in self.runs):
                return
            self._add(replace(self._run(), again=True))

    def _add(self, run: Run) -> None:
        self.runs.append(run if run.outcome is not Outcome.PASS else replace(run, said=""))
        counted = [run for run in self.runs if run.outcome is not Outcome.NOT_RUN]
        self._kept.write(self._subject, RUNS, counted)


def subject(program: Program, environment: Environment, *, work: float | None) -> Subject:
    """What the runs of a program on a wheel depend on."""
    return Subject(
        kind=f"{program.project}-{program.name}",
        facts={
            "wheel": environment.wheel_sha256,
            "program": program.sha256,
            "interpreter": environment.interpreter.build,
            "harness": harness_digest(),
            **({} if work is None else {"work": f"{work:g}"}),
        },
    )


def _may_be_to_blame(runs: Iterable[Run], program: Program, wheel: WheelName) -> bool:
    """Whether the patched wheel failed in some run, or the baseline passed a probe."""
    passed = [run.outcome is Outcome.PASS for run in runs]
    return not all(passed) if wheel == "patched" else isinstance(program, Probe) and any(passed)
