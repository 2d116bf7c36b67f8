"""From what was found about a wheel to its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from freewheel import __version__
from freewheel.base import files
from freewheel.build.check import BaselineWheel, VerifiedWheel
from freewheel.build.patches import Patch
from freewheel.machine.facts import Facts
from freewheel.machine.interpreter import Interpreter
from freewheel.proof import certificate as form
from freewheel.proof import control
from freewheel.proof.programs import Probe, Stress
from freewheel.proof.races.reports import Origin
from freewheel.proof.races.sanitizer import SanitizerResult, describe
from freewheel.proof.speed.scaling import Figure
from freewheel.proof.suite.results import Comparison
from freewheel.recipe.recipe import Release

_GIL_CHECK = "FW203"  # after all imports the GIL is still off


@dataclass(frozen=True, slots=True, kw_only=True)
class StressFinding:
    """What a stress program did on both wheels; ``work`` is in seconds."""

    stress: Stress
    work: float
    baseline: control.Tally
    patched: control.Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteFinding:
    """Upstream's suite on both wheels, each test in ``threads`` at once."""

    threads: int
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was found about the wheels of a release, and where and when."""

    release: Release
    series: tuple[Patch, ...]
    patched: VerifiedWheel
    baseline: BaselineWheel
    findings: Sequence[tuple[Probe, control.Finding]]
    stress: Sequence[StressFinding]
    suites: Sequence[SuiteFinding]
    sanitized: SanitizerResult | None
    figures: Sequence[Figure]
    interpreter: Interpreter
    machine: Facts
    started: datetime
    finished: datetime
    commit: str
    quick: bool


def issue(evidence: Evidence) -> form.Certificate:
    """The certificate; the evidence must be without problems (the form has no words for them)."""
    failed_checks = list(evidence.baseline.failures)
    gil_on = any(failure.startswith(_GIL_CHECK) for failure in failed_checks)
    return form.Certificate(
        form=form.SCHEMA_ID,
        kind="quick" if evidence.quick else "full",
        wheel=form.Wheel(
            name=evidence.patched.path.name,
            project=evidence.patched.project,
            version=evidence.patched.version,
            release=evidence.release.version,
            sha256=evidence.patched.sha256,
            size=evidence.patched.size,
            source_sha256=evidence.release.sha256,
            patches=[
                form.Patch(name=patch.name, summary=patch.summary, sha256=patch.sha256)
                for patch in evidence.series
            ],
        ),
        baseline=form.Baseline(
            name=evidence.baseline.path.name,
            sha256=evidence.baseline.sha256,
            failed_checks=failed_checks,
        ),
        gil="off",
        baseline_gil="on" if gil_on else "off",
        python=form.Python(
            version=evidence.interpreter.version,
            build=evidence.interpreter.build,
            origin=evidence.interpreter.origin,
        ),
        machine=form.Machine(**asdict(evidence.machine)),
        started=evidence.started,
        finished=evidence.finished,
        freewheel=__version__,
        commit=evidence.commit,
        defects=[_defect(evidence, probe, found) for probe, found in evidence.findings],
        stress=[_stress(found) for found in evidence.stress],
        suites=[_suite(found) for found in evidence.suites],
        sanitizer=_sanitizer(evidence.sanitized) if evidence.sanitized else None,
        figures=[form.Figure.model_validate(asdict(figure)) for figure in evidence.figures],
    )


def _defect(evidence: Evidence, probe: Probe, found: control.Finding) -> form.Defect:
    return form.Defect(
        id=probe.defect,
        title=probe.title,
        use=probe.use,
        passes=probe.passes,
        patches=[patch.name for patch in evidence.series if probe.defect in patch.defects],
        probe_sha256=files.sha256(probe.path),
        baseline=_tally(found.baseline),
        patched=_tally(found.patched),
        chance=found.chance,
        bound=found.bound,
        verdict="open" if found.verdict is control.Verdict.OPEN else "proven",
    )


def _stress(found: StressFinding) -> form.Stress:
    return form.Stress(
        name=found.stress.name,
        title=found.stress.title,
        program_sha256=files.sha256(found.stress.path),
        work=found.work,
        baseline=_tally(found.baseline),
        patched=_tally(found.patched),
    )


def _suite(found: SuiteFinding) -> form.Suite:
    made = found.comparison
    return form.Suite(
        name="parallel" if made.parallel else "ordinary",
        threads=found.threads,
        in_parallel=made.in_parallel,
        baseline=dict(made.baseline),
        patched=dict(made.patched),
        baseline_gil=made.baseline_gil,
        newly_passing=[test.id for test in made.newly_passing],
        failing_on_both=[
            form.Explained(
                test=test.id, outcome=f"{test.patched}: {test.message}", reason=test.reason
            )
            for test in made.failing_on_both
        ],
        outdated=[
            form.Explained(test=test.id, outcome=test.message, reason=test.reason)
            for test in made.outdated
        ],
        flaky=[
            form.Flaky(
                test=test.id,
                baseline_failures=test.baseline_runs.failures,
                baseline_runs=test.baseline_runs.runs,
                patched_failures=test.patched_runs.failures,
                patched_runs=test.patched_runs.runs,
            )
            for test in made.flaky
        ],
        skipped=dict(made.skipped),
        left_out=dict(made.left_out),
    )


def _sanitizer(found: SanitizerResult) -> form.Sanitizer:
    return form.Sanitizer(
        python=found.python,
        compiler=f"clang {found.clang}",
        programs=[
            form.SanitizedProgram(name=run.program, outcome=str(run.outcome), seconds=run.seconds)
            for run in found.runs
        ],
        races=[describe(race) for race in found.of(Origin.PROJECT, Origin.CALLED)],
        elsewhere=len(found.of(Origin.ELSEWHERE)),
        suppressed=dict(found.suppressed),
    )


def _tally(tally: control.Tally) -> form.Tally:
    return form.Tally(
        runs=tally.runs,
        failures=tally.failures,
        endings=dict(tally.endings),
        seconds=round(tally.seconds, 1),
        said=tally.said,
    )
