"""The proof of a release: composes probes, stress and upstream's suite, and hands out certificates.

Takes wheels that are built, gives a Proof of each release: a certificate, or all the reasons why
there is none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from freewheel.base import files, git
from freewheel.base.console import Board
from freewheel.base.errors import CertificateError
from freewheel.base.workspace import Workspace
from freewheel.build import index
from freewheel.machine import facts
from freewheel.machine.interpreter import find_interpreter
from freewheel.proof import certificate, control, form
from freewheel.proof.cases import Case, environments_of
from freewheel.proof.make_certificate import Evidence, issue
from freewheel.proof.programs import Outcome, Probe, Program, Stress
from freewheel.proof.races.sanitizer import SanitizerResult, known_races
from freewheel.proof.result_cache import ResultCache, Subject, harness_digest
from freewheel.proof.running import Environment, Run, run_program, run_stress
from freewheel.proof.services import running_services, services_of
from freewheel.proof.speed import scaling
from freewheel.proof.suite.results import COMPARISON, Comparison
from freewheel.proof.suite.running import Wheels, chosen_pass, prove_suite, suite_digest

# Each on both wheels. Much of their time they wait, for a server or for a second to pass.
_SUITES_AT_ONCE = 2
_RUNS = TypeAdapter(list[Run])  # as they are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What came of a case. There is a certificate exactly if there are no problems."""

    case: Case
    findings: tuple[tuple[Probe, control.Finding], ...]
    stress: tuple[form.Stress, ...]
    suites: tuple[Comparison, ...]
    problems: tuple[str, ...]
    certificate: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trials:
    """What all runs of a case share."""

    case: Case
    environments: dict[str, Environment]  # by "baseline" and "patched"
    services: dict[str, str]
    scratch: Path
    kept: ResultCache
    afresh: bool
    quick: bool
    started: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """What the programs of a case showed."""

    findings: tuple[tuple[Probe, control.Finding], ...]
    stress: tuple[form.Stress, ...]


# ------------------------------------------------------------------------------------ the proof


def prove(
    workspace: Workspace,
    cases: Sequence[Case],
    board: Board,
    *,
    quick: bool,
    afresh: bool,
) -> list[Proof]:
    """Put each case to the proof, and write the certificates.

    Programs run case by case, and upstream's suites after them, so that nothing disturbs what
    depends on time. ``quick`` runs each probe a few times and leaves upstream's suite out.
    ``afresh`` forgets the results that are kept for the same bytes.
    """
    interpreters = {case.python: find_interpreter(workspace, case.python) for case in cases}
    kept = ResultCache(workspace.proof)
    with (
        files.locked(workspace.locks / "proof.lock", what="a proof"),
        running_services(_programs(cases)) as services,
    ):
        trials, tried = [], []
        for case in cases:
            scratch = files.empty_directory(workspace.work / f"proof-{case.slug}")
            one = _Trials(
                case=case,
                environments=environments_of(case, scratch, interpreters[case.python]),
                services=services,
                scratch=scratch,
                kept=kept,
                afresh=afresh,
                quick=quick,
                started=datetime.now(UTC),
            )
            trials.append(one)
            tried.append(_try(one, board))
        suites = _suites(workspace, [] if quick else trials, board)
        proofs = [
            _conclude(workspace, one, found, suites.get(one.case.slug, ()))
            for one, found in zip(trials, tried, strict=True)
        ]
        for one in trials:
            shutil.rmtree(one.scratch)
    return proofs


def _programs(cases: Sequence[Case]) -> Iterator[Program]:
    for case in cases:
        yield from (*case.probes, *case.programs.stress, *case.programs.benchmarks)


def _try(trials: _Trials, board: Board) -> _Tried:
    with board.stage(trials.case.title, "probes"):
        findings = _negative_control(trials)
    with board.stage(trials.case.title, "stress"):
        stress = tuple(_stress(trials, program) for program in trials.case.programs.stress)
    return _Tried(findings=findings, stress=stress)


def _conclude(
    workspace: Workspace, trials: _Trials, tried: _Tried, suites: tuple[Comparison, ...]
) -> Proof:
    """Give the case its certificate, or all the reasons why there is none."""
    case = trials.case
    sanitized = known_races(workspace, case.release, case.series, case.programs, case.python)
    problems = list(_problems(tried.findings, tried.stress, suites, sanitized))
    path = None
    if problems:
        _withdraw(workspace, case)
    else:
        evidence = Evidence(
            release=case.release,
            series=case.series,
            patched=case.patched,
            baseline=case.baseline,
            findings=tried.findings,
            stress=tried.stress,
            suites=suites,
            sanitized=sanitized,
            figures=tuple(_figures(trials)),
            interpreter=trials.environments["patched"].interpreter,
            machine=facts.look(),
            started=trials.started,
            finished=datetime.now(UTC),
            commit=git.clean_commit(workspace.root),
            quick=trials.quick,
        )
        path = _certify(case, issue(evidence))
        index.attach(workspace.simple, case.recipe.name, case.patched.path, certificate.SUFFIX)
    return Proof(
        case=case,
        findings=tried.findings,
        stress=tried.stress,
        suites=suites,
        problems=tuple(problems),
        certificate=path,
    )


def _certify(case: Case, issued: form.Certificate) -> Path:
    """Lay the certificate beside the wheel, unless a full one that still holds is there."""
    path = certificate.path_of(case.patched.path)
    if issued.kind == "quick" and path.exists():
        try:
            certificate.certified(case.patched, case.programs)
        except CertificateError:
            pass
        else:
            return path
    return certificate.write(case.patched.path, issued)


def _withdraw(workspace: Workspace, case: Case) -> None:
    """Take the certificate away, from beside the wheel and from the static index."""
    certificate.withdraw(case.patched.path)
    certificate.withdraw(workspace.simple / case.recipe.name / case.patched.path.name)


def _problems(
    findings: Sequence[tuple[Probe, control.Finding]],
    stress: Sequence[form.Stress],
    suites: Sequence[Comparison],
    sanitized: SanitizerResult | None,
) -> Iterator[str]:
    for _, finding in findings:
        if finding.is_problem:
            yield f"{finding.defect}: {finding.verdict}: {finding.explanation}"
    for found in stress:
        if found.patched.failures or found.patched.not_run:
            ended = ", ".join(found.patched.endings)
            yield f"{found.name}: the patched wheel ends with {ended}: {found.patched.said}"
    for suite in suites:
        yield from (f"upstream's suite: {error}" for error in suite.errors)
    if sanitized:
        yield from (f"ThreadSanitizer: {problem}" for problem in sanitized.problems)


# ------------------------------------------------------------------------------------ its parts


def _negative_control(trials: _Trials) -> tuple[tuple[Probe, control.Finding], ...]:
    """Every probe that concerns the release, on both wheels: side by side where they may be."""
    pairs = [(probe, wheel) for probe in trials.case.probes for wheel in trials.environments]
    runs: dict[tuple[str, str], list[Run]] = {}

    def run(pair: tuple[Probe, str]) -> None:
        probe, wheel = pair
        runs[probe.defect, wheel] = _runs_of(trials, probe, wheel)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(run, [pair for pair in pairs if not pair[0].exclusive]))
    for pair in pairs:
        if pair[0].exclusive:
            run(pair)
    return tuple(
        (
            probe,
            control.judge(
                probe,
                control.tally(runs[probe.defect, "baseline"]),
                control.tally(runs[probe.defect, "patched"]),
                claimed=bool(trials.case.patches_for(probe.defect)),
                quick=trials.quick,
            ),
        )
        for probe in trials.case.probes
    )


def _runs_of(trials: _Trials, probe: Probe, wheel: str) -> list[Run]:
    """The runs that are kept, and as many more as are wanted; few where nothing is claimed."""
    few = trials.quick or not trials.case.patches_for(probe.defect)
    on_baseline, on_patched = control.runs_wanted(probe, quick=few)
    wanted = on_baseline if wheel == "baseline" else on_patched
    one = partial(
        run_program,
        probe,
        trials.environments[wheel],
        trials.scratch,
        services=services_of(probe, trials.services),
    )
    return _kept_or_run(trials, _subject(trials, probe, wheel), wanted, one)


def _stress(trials: _Trials, stress: Stress) -> form.Stress:
    """A stress program on both wheels; on the baseline only to see what it does, so shortly."""
    work = stress.quick_seconds if trials.quick else stress.full_seconds

    def tally(wheel: str, seconds: float) -> form.Tally:
        subject = _subject(trials, stress, wheel, work=f"{seconds:g}")
        one = partial(
            run_stress,
            stress,
            trials.environments[wheel],
            trials.scratch,
            work=seconds,
            services=services_of(stress, trials.services),
        )
        return control.tally(_kept_or_run(trials, subject, 1, one))

    return form.Stress(
        name=stress.name,
        title=stress.title,
        program_sha256=files.sha256(stress.path),
        work=work,
        baseline=tally("baseline", stress.quick_seconds),
        patched=tally("patched", work),
    )


def _suites(
    workspace: Workspace, trials: Sequence[_Trials], board: Board
) -> dict[str, tuple[Comparison, ...]]:
    """Upstream's suites, in one thread and then in several; by the slug of the case."""
    wanted = [
        (one, parallel)
        for one in trials
        if one.case.recipe.suite
        for parallel in ((False, True) if one.case.recipe.suite.parallel else (False,))
    ]

    def run(item: tuple[_Trials, bool]) -> Comparison:
        one, parallel = item
        name = "upstream's tests in threads" if parallel else "upstream's tests"
        with board.stage(one.case.title, name):
            return _suite(workspace, one, parallel=parallel)

    found: dict[str, tuple[Comparison, ...]] = {}
    with ThreadPoolExecutor(_SUITES_AT_ONCE) as pool:
        for (one, _), finding in zip(wanted, pool.map(run, wanted), strict=True):
            found[one.case.slug] = (*found.get(one.case.slug, ()), finding)
    return found


def _suite(workspace: Workspace, trials: _Trials, *, parallel: bool) -> Comparison:
    """One pass of a case's suite on both wheels; what is kept is not run again."""
    case, interpreter = trials.case, trials.environments["patched"].interpreter
    part = chosen_pass(case.recipe, case.release, parallel=parallel)
    subject = Subject(
        kind=f"{case.recipe.name}-suite",
        facts={
            "baseline": case.baseline.sha256,
            "patched": case.patched.sha256,
            "suite": suite_digest(case.recipe, case.release, parallel=parallel),
            "explained": repr((part.failing, part.expects_defect)),
            "interpreter": interpreter.build,
        },
    )
    kept = None if trials.afresh else trials.kept.read(subject, COMPARISON)
    if kept:
        return kept
    wheels = Wheels(baseline=case.baseline.path, patched=case.patched.path, interpreter=interpreter)
    comparison = prove_suite(workspace, case.recipe, case.release, wheels, parallel=parallel)
    trials.kept.write(subject, COMPARISON, comparison)
    return comparison


def _figures(trials: _Trials) -> Iterator[form.Figure]:
    """What `nox -s bench-...` measured with the same bytes on the same processor, if it was run."""
    for program in trials.case.programs.benchmarks:
        subject = scaling.subject(program, trials.environments, facts.look().processor)
        yield from trials.kept.read(subject, scaling.FIGURES) or ()


def _subject(trials: _Trials, program: Program, wheel: str, **more: str) -> Subject:
    environment = trials.environments[wheel]
    return Subject(
        kind=f"{program.project}-{program.name}",
        facts={
            "wheel": environment.wheel_sha256,
            "program": files.sha256(program.path),
            "interpreter": environment.interpreter.build,
            "harness": harness_digest(),
            **more,
        },
    )


def _kept_or_run(trials: _Trials, subject: Subject, wanted: int, one: partial[Run]) -> list[Run]:
    """Runs of a subject: those that are kept, then new ones, each kept as soon as it has ended.

    A run that could not run says nothing about the wheel, and is not kept.
    """
    kept = [] if trials.afresh else trials.kept.read(subject, _RUNS) or []
    fresh: list[Run] = []
    while len(kept) + len(fresh) < wanted:
        fresh.append(one())
        counted = [run for run in (*kept, *fresh) if run.outcome is not Outcome.NOT_RUN]
        trials.kept.write(subject, _RUNS, [_shortened(run) for run in counted])
    return kept + fresh


def _shortened(run: Run) -> Run:
    return run if run.outcome is not Outcome.PASS else replace(run, said="")
