"""From what was found about a wheel to its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from freewheel import __version__
from freewheel.build.check import BaselineWheel, KnownWheel
from freewheel.build.patches import Patch
from freewheel.machine.facts import Facts
from freewheel.machine.interpreter import Interpreter
from freewheel.proof import control, form
from freewheel.proof.programs import Probe
from freewheel.proof.races.reports import Origin
from freewheel.proof.races.sanitizer import SanitizerResult, describe
from freewheel.proof.suite.results import Comparison
from freewheel.recipe.recipe import Release

_VERDICTS: dict[control.Verdict, Literal["proven", "moot", "not run", "open"]] = {
    control.Verdict.PROVEN: "proven",
    control.Verdict.MOOT: "moot",
    control.Verdict.NOT_RUN: "not run",
    control.Verdict.OPEN: "open",
}
_GIL_CHECK = "FW203"  # after all imports the GIL is still off


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was found about the wheels of a release, and where and when."""

    release: Release
    series: tuple[Patch, ...]
    patched: KnownWheel
    baseline: BaselineWheel
    findings: Sequence[tuple[Probe, control.Finding]]
    stress: Sequence[form.Stress]
    suites: Sequence[Comparison]
    sanitized: SanitizerResult | None
    figures: Sequence[form.Figure]
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
            patches=[form.Patch.model_validate(patch) for patch in evidence.series],
        ),
        baseline=form.Baseline(
            name=evidence.baseline.path.name,
            sha256=evidence.baseline.sha256,
            failed_checks=failed_checks,
        ),
        gil="off",
        baseline_gil="on" if gil_on else "off",
        python=form.Python.model_validate(evidence.interpreter),
        machine=form.Machine.model_validate(evidence.machine),
        started=evidence.started,
        finished=evidence.finished,
        freewheel=__version__,
        commit=evidence.commit,
        defects=[_defect(evidence, probe, found) for probe, found in evidence.findings],
        stress=list(evidence.stress),
        suites=[form.Suite.model_validate(found) for found in evidence.suites],
        sanitizer=_sanitizer(evidence.sanitized) if evidence.sanitized else None,
        figures=list(evidence.figures),
    )


def _defect(evidence: Evidence, probe: Probe, found: control.Finding) -> form.Defect:
    return form.Defect(
        id=probe.defect,
        title=probe.title,
        use=probe.use,
        passes=probe.passes,
        patches=[patch.name for patch in evidence.series if probe.defect in patch.defects],
        probe_sha256=probe.sha256,
        baseline=found.baseline,
        patched=found.patched,
        chance=found.chance,
        bound=found.bound,
        verdict=_VERDICTS[found.verdict],
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
