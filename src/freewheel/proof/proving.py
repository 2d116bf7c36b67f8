"""The proof of a release: composes probes, stress and upstream's suite, and hands out certificates.

Takes wheels that are built, gives a Proof of each release: a certificate, or all the reasons why
there is none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from packaging.version import Version

from freewheel import files, git, index
from freewheel.console import Board
from freewheel.errors import CertificateError, ProbeError
from freewheel.machine import facts
from freewheel.machine.interpreter import find_interpreter
from freewheel.machine.postgres import running_postgres
from freewheel.patches import Patch, read_series
from freewheel.proof import certificate, control
from freewheel.proof.issuing import Evidence, StressFinding, SuiteFinding, issue
from freewheel.proof.kept import Kept, Subject, harness_digest
from freewheel.proof.programs import Outcome, Probe, Program, Programs, Stress, load_programs
from freewheel.proof.sanitizer import SanitizerResult, sanitize
from freewheel.proof.suite_results import Comparison
from freewheel.proof.suites import Wheels, chosen_pass, prove_suite, suite_digest
from freewheel.proof.trial import (
    POSTGRES_DSN,
    Environment,
    Run,
    make_environment,
    run_program,
    run_stress,
)
from freewheel.recipe import Recipe, Release
from freewheel.verify import BaselineWheel, VerifiedWheel
from freewheel.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A release that is put to the proof: its two wheels and what there is to run on them."""

    recipe: Recipe
    release: Release
    patched: VerifiedWheel
    baseline: BaselineWheel
    programs: Programs
    series: tuple[Patch, ...]

    @property
    def title(self) -> str:
        return f"{self.recipe.name} {self.patched.version}"

    @property
    def slug(self) -> str:
        return f"{self.recipe.name}-{self.patched.version}"

    def patches_for(self, defect: str) -> list[str]:
        """The names of the patches that claim to mend a defect."""
        return [patch.name for patch in self.series if defect in patch.defects]

    @property
    def probes(self) -> tuple[Probe, ...]:
        """The probes that concern this release, patched or not."""
        return tuple(p for p in self.programs.probes if Version(self.release.version) in p.releases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What came of a case. There is a certificate exactly if there are no problems."""

    case: Case
    findings: tuple[tuple[Probe, control.Finding], ...]
    stress: tuple[StressFinding, ...]
    suites: tuple[SuiteFinding, ...]
    problems: tuple[str, ...]
    certificate: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What all runs of a case share."""

    case: Case
    environments: dict[str, Environment]  # by "baseline" and "patched"
    services: dict[str, str]
    scratch: Path
    kept: Kept
    afresh: bool
    quick: bool


# ---------------------------------------------------------------------------- what is to be proven


def load_case(
    workspace: Workspace,
    recipe: Recipe,
    release: Release,
    wheels: Sequence[VerifiedWheel | BaselineWheel | None],
) -> Case:
    """The case of a release, given its two wheels in any order."""
    (patched,) = (wheel for wheel in wheels if isinstance(wheel, VerifiedWheel))
    (baseline,) = (wheel for wheel in wheels if isinstance(wheel, BaselineWheel))
    return Case(
        recipe=recipe,
        release=release,
        patched=patched,
        baseline=baseline,
        programs=load_programs(workspace.probes, recipe.name),
        series=read_series(release),
    )


def check_probes(workspace: Workspace, chosen: Sequence[tuple[Recipe, Release]]) -> None:
    """No patch without a probe: before anything is built. Raises ProbeError with every gap."""
    problems: list[str] = []
    for recipe, release in chosen:
        programs = load_programs(workspace.probes, recipe.name)
        for patch in read_series(release):
            for defect in patch.defects:
                probe = programs.probe(defect)
                where = f"{recipe.name} {release.version}: {patch.name}"
                if probe is None:
                    problems.append(f"{where} mends {defect}, for which there is no probe")
                elif Version(release.version) not in probe.releases:
                    problems.append(
                        f"{where} mends {defect}, which by its probe only {probe.releases} have"
                    )
    if problems:
        raise ProbeError(
            "no patch without a probe that fails without it",
            problems=problems,
            hint="write probes/<project>/<defect>.py; docs/probes.md tells how",
        )


# ------------------------------------------------------------------------------------ the proof


def prove(
    workspace: Workspace,
    cases: Sequence[Case],
    board: Board,
    *,
    quick: bool,
    afresh: bool,
) -> list[Proof]:
    """Put each case to the proof, one after the other, and write the certificates.

    ``quick`` runs each probe a few times and leaves upstream's suite out. ``afresh`` forgets the
    results that are kept for the same bytes.
    """
    interpreter = find_interpreter(workspace)
    with (
        files.locked(workspace.locks / "proof.lock", what="a proof"),
        _services(cases) as services,
    ):
        proofs = []
        for case in cases:
            scratch = files.empty_directory(
                workspace.work / f"proof-{case.title}".replace(" ", "-")
            )
            bench = _Bench(
                case=case,
                environments={
                    "baseline": make_environment(
                        scratch / "baseline", case.baseline.path, interpreter
                    ),
                    "patched": make_environment(
                        scratch / "patched", case.patched.path, interpreter
                    ),
                },
                services=services,
                scratch=scratch,
                kept=Kept(workspace.proof),
                afresh=afresh,
                quick=quick,
            )
            proofs.append(_prove(workspace, bench, board))
            shutil.rmtree(scratch)
        return proofs


@contextmanager
def _services(cases: Sequence[Case]) -> Iterator[dict[str, str]]:
    """Start what the programs of the cases need."""
    programs = [p for case in cases for p in (*case.probes, *case.programs.stress)]
    if any("postgresql" in program.needs for program in programs):
        with running_postgres() as dsn:
            yield {POSTGRES_DSN: dsn}
    else:
        yield {}


def _prove(workspace: Workspace, bench: _Bench, board: Board) -> Proof:
    case, started = bench.case, datetime.now(UTC)
    with board.stage(case.title, "probes"):
        findings = _negative_control(bench)
    with board.stage(case.title, "stress"):
        stress = tuple(_stress(bench, program) for program in case.programs.stress)
    suites: tuple[SuiteFinding, ...] = ()
    if not bench.quick and case.recipe.suite:
        with board.stage(case.title, "upstream's tests"):
            suites = tuple(_suites(workspace, bench))
    problems = list(_problems(findings, stress, suites))
    path = None
    if problems:
        _withdraw(workspace, case)
    else:
        evidence = Evidence(
            release=case.release,
            series=case.series,
            patched=case.patched,
            baseline=case.baseline,
            findings=findings,
            stress=stress,
            suites=suites,
            sanitized=_sanitized(bench),
            interpreter=bench.environments["patched"].interpreter,
            machine=facts.look(),
            started=started,
            finished=datetime.now(UTC),
            commit=git.clean_commit(workspace.root),
            quick=bench.quick,
        )
        path = _certify(case, issue(evidence))
        index.attach(workspace.simple, case.recipe.name, case.patched.path, certificate.SUFFIX)
    return Proof(
        case=case,
        findings=findings,
        stress=stress,
        suites=suites,
        problems=tuple(problems),
        certificate=path,
    )


def _certify(case: Case, issued: certificate.Certificate) -> Path:
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
    stress: Sequence[StressFinding],
    suites: Sequence[SuiteFinding],
) -> Iterator[str]:
    for _, finding in findings:
        if finding.is_problem:
            yield f"{finding.defect}: {finding.verdict}: {finding.explanation}"
    for found in stress:
        if found.patched.failures or found.patched.not_run:
            ended = ", ".join(found.patched.endings)
            yield f"{found.stress.name}: the patched wheel ends with {ended}: {found.patched.said}"
    for suite in suites:
        yield from (f"upstream's suite: {error}" for error in suite.comparison.errors)


def look_for_races(
    workspace: Workspace,
    recipe: Recipe,
    release: Release,
    board: Board,
    *,
    baseline: bool,
    seconds: float | None,
) -> SanitizerResult:
    """Run a release's programs under ThreadSanitizer; kept for the certificate if it is patched.

    ``seconds`` is how long stress programs work, None for as long as they call quick.
    """
    programs = load_programs(workspace.probes, recipe.name)
    with files.locked(workspace.locks / "proof.lock", what="a proof"):
        found = sanitize(
            workspace,
            recipe,
            release,
            programs,
            board,
            baseline=baseline,
            stress_seconds=seconds,
        )
    if not baseline:
        subject = sanitized_subject(release, read_series(release), programs)
        Kept(workspace.proof).write(subject, found.to_json())
    return found


# ------------------------------------------------------------------------------------ its parts


def _negative_control(bench: _Bench) -> tuple[tuple[Probe, control.Finding], ...]:
    """Every probe that concerns the release, on both wheels: side by side where they may be."""
    trials = [(probe, wheel) for probe in bench.case.probes for wheel in bench.environments]
    runs: dict[tuple[str, str], list[Run]] = {}

    def run(trial: tuple[Probe, str]) -> None:
        probe, wheel = trial
        runs[probe.defect, wheel] = _runs_of(bench, probe, wheel)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(run, [trial for trial in trials if not trial[0].alone]))
    for trial in trials:
        if trial[0].alone:
            run(trial)
    return tuple(
        (
            probe,
            control.judge(
                probe,
                control.tally(runs[probe.defect, "baseline"]),
                control.tally(runs[probe.defect, "patched"]),
                claimed=bool(bench.case.patches_for(probe.defect)),
                quick=bench.quick,
            ),
        )
        for probe in bench.case.probes
    )


def _runs_of(bench: _Bench, probe: Probe, wheel: str) -> list[Run]:
    """The runs that are kept, and as many more as are wanted; few where nothing is claimed."""
    few = bench.quick or not bench.case.patches_for(probe.defect)
    on_baseline, on_patched = control.runs_wanted(probe, quick=few)
    wanted = on_baseline if wheel == "baseline" else on_patched
    one = partial(
        run_program,
        probe,
        bench.environments[wheel],
        bench.scratch,
        services=_services_for(bench, probe),
    )
    return _kept_or_run(bench, _subject(bench, probe, wheel), wanted, one)


def _stress(bench: _Bench, stress: Stress) -> StressFinding:
    """A stress program on both wheels; on the baseline only to see what it does, so shortly."""
    work = stress.quick_seconds if bench.quick else stress.full_seconds

    def tally(wheel: str, seconds: float) -> control.Tally:
        subject = _subject(bench, stress, wheel, work=f"{seconds:g}")
        one = partial(
            run_stress,
            stress,
            bench.environments[wheel],
            bench.scratch,
            work=seconds,
            services=_services_for(bench, stress),
        )
        return control.tally(_kept_or_run(bench, subject, 1, one))

    return StressFinding(
        stress=stress,
        work=work,
        baseline=tally("baseline", stress.quick_seconds),
        patched=tally("patched", work),
    )


def _suites(workspace: Workspace, bench: _Bench) -> Iterator[SuiteFinding]:
    """Upstream's suite, in one thread and then in several; what is kept is not run again."""
    recipe, release = bench.case.recipe, bench.case.release
    interpreter = bench.environments["patched"].interpreter
    wheels = Wheels(
        baseline=bench.case.baseline.path, patched=bench.case.patched.path, interpreter=interpreter
    )
    for parallel in (False, True):
        if parallel and not (recipe.suite and recipe.suite.parallel):
            continue
        part = chosen_pass(recipe, release, parallel=parallel)
        subject = Subject(
            kind=f"{recipe.name}-suite",
            facts={
                "baseline": bench.case.baseline.sha256,
                "patched": bench.case.patched.sha256,
                "suite": suite_digest(recipe, release, parallel=parallel),
                "explained": repr((part.failing, part.outdated)),
                "interpreter": interpreter.build,
            },
        )
        kept = None if bench.afresh else bench.kept.read(subject)
        if kept:
            comparison = Comparison.from_json(kept)
        else:
            comparison = prove_suite(workspace, recipe, release, wheels, parallel=parallel)
            bench.kept.write(subject, comparison.to_json())
        yield SuiteFinding(threads=part.threads, comparison=comparison)


def sanitized_subject(release: Release, series: Sequence[Patch], programs: Programs) -> Subject:
    """What ThreadSanitizer's result about a release depends on, but for the compiler."""
    return Subject(
        kind=f"{release.project}-tsan",
        facts={
            "source": release.sha256,
            **{f"patch {patch.name}": patch.sha256 for patch in series},
            **{p.name: files.sha256(p.path) for p in (*programs.probes, *programs.stress)},
        },
    )


def _sanitized(bench: _Bench) -> SanitizerResult | None:
    """What `nox -s tsan` found of the same source, patches and programs, if it was run."""
    case = bench.case
    kept = bench.kept.read(sanitized_subject(case.release, case.series, case.programs))
    return SanitizerResult.from_json(kept) if kept else None


def _services_for(bench: _Bench, program: Program) -> dict[str, str]:
    return bench.services if program.needs else {}


def _subject(bench: _Bench, program: Program, wheel: str, **more: str) -> Subject:
    environment = bench.environments[wheel]
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


def _kept_or_run(bench: _Bench, subject: Subject, wanted: int, one: partial[Run]) -> list[Run]:
    """Runs of a subject: those that are kept, then new ones, each kept as soon as it has ended.

    A run that could not run says nothing about the wheel, and is not kept.
    """
    kept = [] if bench.afresh else [_to_run(item) for item in bench.kept.read(subject) or ()]
    fresh: list[Run] = []
    while len(kept) + len(fresh) < wanted:
        fresh.append(one())
        counted = [run for run in (*kept, *fresh) if run.outcome is not Outcome.NOT_RUN]
        bench.kept.write(subject, [asdict(_shortened(run)) for run in counted])
    return kept + fresh


def _to_run(item: dict[str, object]) -> Run:
    return Run(**{**item, "outcome": Outcome(str(item["outcome"]))})  # type: ignore[arg-type]


def _shortened(run: Run) -> Run:
    return run if run.outcome is not Outcome.PASS else replace(run, said="")
