"""The proof of a release: composes probes, stress and upstream's suite, and hands out certificates.

Takes wheels that are built, gives a Proof of each release: a certificate, or all the reasons why
there is none.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from freewheel.base import files, git
from freewheel.base.console import Board
from freewheel.base.errors import CertificateError
from freewheel.base.workspace import Workspace
from freewheel.build import index
from freewheel.machine import facts
from freewheel.machine.interpreter import find_interpreter
from freewheel.proof import certificate, control, form, judgement
from freewheel.proof.cases import Case, environments_of
from freewheel.proof.evidence import Expected, expected_of
from freewheel.proof.make_certificate import Evidence, issue
from freewheel.proof.programs import Probe
from freewheel.proof.races.sanitizer import SanitizerResult, known_races
from freewheel.proof.result_cache import ResultCache, Subject
from freewheel.proof.services import running_services
from freewheel.proof.speed import scaling
from freewheel.proof.suite.results import COMPARISON, Comparison
from freewheel.proof.suite.running import Wheels, chosen_pass, prove_suite, suite_digest
from freewheel.proof.trials import STAGES, Look, Trials, Tried, try_programs

# Each on both wheels. Much of their time they wait, for a server or for a second to pass.
_SUITES_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What came of a case. There is a certificate exactly if there are no problems."""

    case: Case
    findings: tuple[tuple[Probe, control.Finding], ...]
    stress: tuple[form.Stress, ...]
    suites: tuple[Comparison, ...]
    problems: tuple[str, ...]
    certificate: Path | None


# ------------------------------------------------------------------------------------ the proof


def prove(
    workspace: Workspace,
    cases: Sequence[Case],
    board: Board,
    *,
    quick: bool,
    look: Look,
) -> list[Proof]:
    """Put each case to the proof, and write the certificates.

    Programs run case by case, and upstream's suites after them, so that nothing disturbs what
    depends on time. ``quick`` runs each probe a few times and leaves upstream's suite out; what it
    finds is kept apart, so that no full proof rests on it. ``look`` says what counts of the results
    that are kept for the same bytes.
    """
    interpreters = {case.python: find_interpreter(workspace, case.python) for case in cases}
    kept = ResultCache(workspace.quick_proof if quick else workspace.proof)
    board.expect(STAGES * len(cases))
    with files.locked(workspace.locks / "proof.lock", what="a proof"):
        trials, tried = [], []
        for case in cases:
            scratch = files.empty_directory(workspace.work / f"proof-{case.slug}")
            made = environments_of(case, scratch, interpreters[case.python])
            programs = (*case.probes, *case.programs.stress)
            with running_services(programs, made, scratch) as (environments, services):
                one = Trials(
                    case=case,
                    environments=environments,
                    services=services,
                    scratch=scratch,
                    kept=kept,
                    look=look,
                    quick=quick,
                    started=datetime.now(UTC),
                )
                trials.append(one)
                tried.append(try_programs(one, board))
        suites = _suites(workspace, [] if quick else trials, board)
        proofs = [
            _conclude(workspace, one, found, suites.get(one.case.slug, ()))
            for one, found in zip(trials, tried, strict=True)
        ]
        for one in trials:
            shutil.rmtree(one.scratch)
    return proofs


def _conclude(
    workspace: Workspace, trials: Trials, tried: Tried, suites: tuple[Comparison, ...]
) -> Proof:
    """Give the case its certificate, or all the reasons why there is none."""
    case = trials.case
    sanitized = known_races(workspace, case.release, case.series, case.programs, case.python)
    judged, others = judgement.judged(tried.findings), list(_others(tried, suites, sanitized))
    problems = [f"{one.id}: {one.verdict}: {one.explanation}" for one in judged if one.blocks]
    problems += others
    issued = None if problems else issue(_evidence(workspace, trials, tried, suites, sanitized))
    if issued:
        # The same judgement as wherever it will be read; what it refuses is a fault of the proof.
        others = problems = certificate.problems_of(case.patched.path, issued, _expected(case))
    judgement.keep(
        workspace,
        case.patched.sha256,
        judgement.Judgement(
            kind="quick" if trials.quick else "full",
            finished=datetime.now(UTC),
            defects=judged,
            others=tuple(others),
        ),
    )
    path = None
    if issued and not problems:
        path = _certify(case, issued)
        index.attach(workspace.simple, case.recipe.name, case.patched.path, certificate.SUFFIX)
    else:
        _withdraw(workspace, case)
    return Proof(
        case=case,
        findings=tried.findings,
        stress=tried.stress,
        suites=suites,
        problems=tuple(problems),
        certificate=path,
    )


def _evidence(
    workspace: Workspace,
    trials: Trials,
    tried: Tried,
    suites: tuple[Comparison, ...],
    sanitized: SanitizerResult | None,
) -> Evidence:
    case = trials.case
    return Evidence(
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


def _certify(case: Case, issued: form.Certificate) -> Path:
    """Lay the certificate beside the wheel, unless a full one that still holds is there."""
    path = certificate.path_of(case.patched.path)
    if files.sha256(case.patched.path) != case.patched.sha256:
        raise CertificateError(
            f"{case.patched.path.name} was replaced while it was put to the proof",
            hint="prove it again: `nox -s prove`",
        )
    if issued.kind == "quick" and path.exists():
        try:
            certificate.certified(case.patched, _expected(case))
        except CertificateError:
            pass
        else:
            return path
    return certificate.write(case.patched.path, issued)


def _expected(case: Case) -> Expected:
    return expected_of(case.recipe, case.release, case.series, case.programs, case.python)


def _withdraw(workspace: Workspace, case: Case) -> None:
    """Take the certificate away, from beside the wheel and from the static index."""
    certificate.withdraw(case.patched.path)
    name = case.patched.path.name
    index.detach(workspace.simple, case.recipe.name, name, certificate.SUFFIX)


def _others(
    tried: Tried, suites: Sequence[Comparison], sanitized: SanitizerResult | None
) -> Iterator[str]:
    """The problems that no single defect has."""
    for found in tried.stress:
        if found.patched.not_run or not control.stood(found.patched, control.STRESS_AGAIN):
            ended = ", ".join(found.patched.endings)
            yield f"{found.name}: the patched wheel ends with {ended}: {found.patched.said}"
    for suite in suites:
        yield from (f"upstream's suite: {error}" for error in suite.errors)
    if sanitized:
        yield from (f"ThreadSanitizer: {problem}" for problem in sanitized.problems)


# ------------------------------------------------------------------------------ upstream's suites


def _suites(
    workspace: Workspace, trials: Sequence[Trials], board: Board
) -> dict[str, tuple[Comparison, ...]]:
    """Upstream's suites, in one thread and then in several; by the slug of the case."""
    wanted = [
        (one, parallel)
        for one in trials
        if one.case.recipe.suite
        for parallel in ((False, True) if one.case.recipe.suite.parallel else (False,))
    ]

    board.expect(len(wanted))

    def run(item: tuple[Trials, bool]) -> Comparison:
        one, parallel = item
        name = "upstream's tests in threads" if parallel else "upstream's tests"
        with board.stage(one.case.title, name):
            return _suite(workspace, one, parallel=parallel)

    found: dict[str, tuple[Comparison, ...]] = {}
    with ThreadPoolExecutor(_SUITES_AT_ONCE) as pool:
        for (one, _), finding in zip(wanted, pool.map(run, wanted), strict=True):
            found[one.case.slug] = (*found.get(one.case.slug, ()), finding)
    return found


def _suite(workspace: Workspace, trials: Trials, *, parallel: bool) -> Comparison:
    """One pass of a case's suite on both wheels; what is kept is not run again."""
    case, interpreter = trials.case, trials.environments["patched"].interpreter
    part = chosen_pass(case.recipe, case.release, interpreter, parallel=parallel)
    subject = Subject(
        kind=f"{case.recipe.name}-suite",
        facts={
            "baseline": case.baseline.sha256,
            "patched": case.patched.sha256,
            "suite": suite_digest(case.recipe, case.release, interpreter, parallel=parallel),
            "explained": repr((part.failing, part.expects_defect)),
            "interpreter": interpreter.build,
        },
    )
    kept = None if trials.look == "afresh" else trials.kept.read(subject, COMPARISON)
    if kept and not (kept.errors and trials.look == "again"):
        return kept
    wheels = Wheels(baseline=case.baseline.path, patched=case.patched.path, interpreter=interpreter)
    comparison = prove_suite(workspace, case.recipe, case.release, wheels, parallel=parallel)
    trials.kept.write(subject, COMPARISON, comparison)
    return comparison


def _figures(trials: Trials) -> Iterator[form.Figure]:
    """What `nox -s bench-...` measured with the same bytes on the same processor, if it was run."""
    for program in trials.case.programs.benchmarks:
        subject = scaling.subject(program, trials.environments, facts.look().processor)
        yield from trials.kept.read(subject, scaling.FIGURES) or ()
