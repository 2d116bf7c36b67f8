"""Run a project's probes and stress programs under ThreadSanitizer, and say which races it saw.

A probe shows a defect where it can; the sanitizer shows a race wherever two accesses were not
ordered, whether or not anything went wrong this time. It says nothing of code that did not run.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.version import Version
from pydantic import TypeAdapter

from freewheel.base import files
from freewheel.base.console import Board
from freewheel.base.errors import UnprovenError
from freewheel.base.workspace import Workspace
from freewheel.build.job import Job
from freewheel.build.patches import Patch, read_series
from freewheel.machine.tsan import SanitizedInterpreter, find_sanitized
from freewheel.proof.compiling import CompiledWheel
from freewheel.proof.programs import (
    NOT_RUN,
    Outcome,
    Probe,
    Program,
    Programs,
    Stress,
    load_programs,
)
from freewheel.proof.races.instrumented import TSAN_PINS, make_instrumented, with_cython_place
from freewheel.proof.races.reports import (
    FRAME_FORMAT,
    Log,
    Origin,
    Race,
    Report,
    gather,
    parse_log,
)
from freewheel.proof.races.suppressions import merge_suppressions
from freewheel.proof.result_cache import ResultCache, Subject
from freewheel.proof.running import Environment, Run, make_environment, run_program, run_stress
from freewheel.proof.services import running_services
from freewheel.recipe.pythons import Python
from freewheel.recipe.recipe import Release

SUPPRESSIONS = TSAN_PINS / "ours.supp"
_SLOWNESS = 10  # how many times longer a program may take than without the sanitizer
_RAW = "raw"  # below the logs: what programs write to
# Outcomes that say nothing good even of a slow program. That it was too slow, or took much memory,
# which exceptions, wrong answers and leaks may mean here, is the sanitizer's doing.
_BAD_ENDS = (Outcome.CRASH, Outcome.HANG, Outcome.NOT_RUN)
_OPTIONS = {
    # Reports go to files; a program's exit code stays its own, so that its outcome is known. The
    # sanitizer's own failures would exit with that code too, so they abort instead.
    "exitcode": "0",
    "abort_on_error": "1",
    "halt_on_error": "0",
    # Crashes end the process by their signal, as they do without the sanitizer.
    "handle_segv": "0",
    "handle_sigbus": "0",
    "handle_sigfpe": "0",
    "handle_sigill": "0",
    # In MiB of resident memory, most of it the sanitizer's: what takes its place where a limit on
    # address space cannot be, for a program that allocates without end.
    "hard_rss_limit_mb": "8192",
    # As much memory of earlier accesses as there is, so that both stacks can be shown.
    "history_size": "7",
    # Locks taken in opposite orders can deadlock: worth as much as a race, and cheap to see.
    "detect_deadlocks": "1",
    "second_deadlock_stack": "1",
    # Programs may leave threads behind on purpose, and may fork and then start threads.
    "report_thread_leaks": "0",
    "die_after_fork": "0",
    "print_suppressions": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SanitizedRun:
    """One program's run: how it ended, after how many seconds, and how many reports it gave.

    A probe has ``declined`` where it found that a condition of its own does not hold, such as one
    that counts page faults, of which the sanitizer has its own.
    """

    program: str
    outcome: Outcome
    signal: str
    declined: bool
    seconds: float
    reports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SanitizerResult:
    """What the programs of a project ran into under ThreadSanitizer.

    ``suppressed`` counts how often each suppression matched, CPython's and ours; ``broken`` is what
    the sanitizer said of its own failures.
    """

    project: str
    version: str
    baseline: bool
    python: str
    clang: str
    runs: tuple[SanitizedRun, ...]
    races: tuple[Race, ...]
    suppressed: tuple[tuple[str, int], ...]
    broken: tuple[str, ...]

    def of(self, *origins: Origin) -> tuple[Race, ...]:
        """The races of those origins."""
        return tuple(race for race in self.races if race.origin in origins)

    @property
    def problems(self) -> tuple[str, ...]:
        """What a wheel must not have: races of its own, and programs that were not seen whole."""
        return (
            *(describe(race) for race in self.of(Origin.PROJECT, Origin.CALLED)),
            *(
                f"{run.program}: {run.outcome} {run.signal}".rstrip()
                for run in self.runs
                if run.outcome in _BAD_ENDS and not run.declined
            ),
            *(f"the sanitizer itself: {line}" for line in self.broken),
            *(("no program was run",) if all(run.declined for run in self.runs) else ()),
        )


RESULT = TypeAdapter(SanitizerResult)  # as it is kept


def describe(race: Race) -> str:
    """A race for a person: what met, where, and how the program got there."""
    lines = [
        f"{race.report.kind} ({race.origin}), seen {race.seen} times by {', '.join(race.programs)}"
    ]
    for stack in race.report.stacks:
        lines.append(f"    {stack.what or 'here'}:")
        lines += [f"      {frame}" for frame in stack.frames] or ["      (no longer known)"]
    if race.report.memory:
        lines.append(f"    memory: {race.report.memory}")
    return "\n".join(lines)


def require_clean(results: Sequence[SanitizerResult]) -> None:
    """Raise UnprovenError with the problems of all results."""
    problems = [
        f"{result.project} {result.version}: {problem}"
        for result in results
        for problem in result.problems
    ]
    if problems:
        raise UnprovenError(
            "ThreadSanitizer was not satisfied",
            problems=problems,
            hint="docs/tsan.md says what counts as a race of the project, and what can be done",
        )


# -------------------------------------------------------------------------------------- the runs


def sanitize(
    workspace: Workspace,
    job: Job,
    programs: Programs,
    board: Board,
    *,
    stress_seconds: float | None = None,
) -> SanitizerResult:
    """Build what is needed, and run each program that concerns the release, one after the other.

    Stress programs work for ``stress_seconds``, or for what they call quick. Raises ProofError.
    """
    chosen = concerned(programs, job.release)
    board.expect(2 + len(chosen))
    with board.stage(job.title, "CPython with ThreadSanitizer"):
        sanitized = find_sanitized(workspace, job.python)
    with board.stage(job.title, "compile with ThreadSanitizer"):
        wheel = make_instrumented(workspace, job, sanitized)
    with tempfile.TemporaryDirectory(prefix="freewheel-tsan-") as name:
        scratch = Path(name)
        made = {"env": make_environment(scratch / "env", wheel.path, sanitized.interpreter)}
        logs = files.empty_directory(workspace.logs / "tsan" / job.slug)
        merge_suppressions(sanitized.suppressions, SUPPRESSIONS, logs / "suppressions.txt")
        # Reports name lines of the sources, which the symbolizer looks up.
        seen = (*sanitized.clang.places, wheel.tree)
        seen = (*seen, logs / "suppressions.txt")
        raw = files.empty_directory(logs / _RAW)
        with running_services(chosen, made, scratch, readable=seen, writable=[raw]) as (
            placed,
            services,
        ):
            runner = _Runner(
                environment=placed["env"],
                sanitized=sanitized,
                services=services,
                scratch=scratch,
                logs=logs,
                stress_seconds=stress_seconds,
            )
            ended: list[tuple[Program, Run]] = []
            for program in chosen:
                with board.stage(job.title, f"{program.name} under ThreadSanitizer"):
                    ended.append((program, runner.run(program)))
            return _result(ended, runner, wheel, job)


def concerned(programs: Programs, release: Release) -> tuple[Program, ...]:
    """The probes of defects that the release has, and all stress programs."""
    version = Version(release.version)
    probes = [probe for probe in programs.probes if version in probe.releases]
    return (*probes, *programs.stress)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runner:
    """Runs programs in one environment; each leaves its logs under its own name."""

    environment: Environment
    sanitized: SanitizedInterpreter
    services: Mapping[str, str]
    scratch: Path
    logs: Path
    stress_seconds: float | None

    def run(self, program: Program) -> Run:
        directory = files.empty_directory(self._raw(program))
        variables = {"TSAN_OPTIONS": self._options(directory / "log")}
        common: dict[str, Any] = {"services": self.services, "variables": variables}
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="run-") as name:
            if isinstance(program, Stress):
                work = self.stress_seconds or program.quick_seconds
                patient = replace(program, seconds=program.seconds * _SLOWNESS)
                run = run_stress(
                    patient, self.environment, Path(name), work=work, limited=False, **common
                )
            else:
                more = program.seconds * (_SLOWNESS - 1)
                run = run_program(
                    program, self.environment, Path(name), seconds=more, limited=False, **common
                )
        # Not where the program can write, which could lay a link there.
        (self.logs / f"{program.name}.txt").write_text(run.said, encoding="utf-8")
        return run

    def read(self, program: Program) -> Iterator[Log]:
        """The logs of the program's process and of its children."""
        for path in sorted(self._raw(program).glob("log.*")):
            yield parse_log(files.read_foreign(path).decode(errors="replace"))

    def _raw(self, program: Program) -> Path:
        return self.logs / _RAW / program.name

    def _options(self, log: Path) -> str:
        options = {
            **_OPTIONS,
            "log_path": str(log),
            "suppressions": str(self.logs / "suppressions.txt"),
            "external_symbolizer_path": str(self.sanitized.clang.symbolizer),
            "stack_trace_format": FRAME_FORMAT,
        }
        return ":".join(f"{name}='{value}'" for name, value in options.items())


def _result(
    ended: Sequence[tuple[Program, Run]],
    runner: _Runner,
    wheel: CompiledWheel,
    job: Job,
) -> SanitizerResult:
    runs: list[SanitizedRun] = []
    reports: list[tuple[str, Report]] = []
    suppressed: Counter[str] = Counter()
    broken: list[str] = []
    read: dict[str, list[str]] = {}
    for program, run in ended:
        logs = list(runner.read(program))
        found = [report for log in logs for report in log.reports]
        reports += [(program.name, _placed(report, wheel, read)) for report in found]
        for log in logs:
            suppressed.update(dict(log.matched))
            broken += [f"{program.name}: {line}" for line in log.broken]
        runs.append(
            SanitizedRun(
                program=program.name,
                outcome=run.outcome,
                signal=run.signal,
                declined=isinstance(program, Probe) and run.returncode == NOT_RUN,
                seconds=round(run.seconds, 1),
                reports=len(found),
            )
        )
    return SanitizerResult(
        project=job.recipe.name,
        version=wheel.version,
        baseline=job.baseline,
        python=runner.sanitized.interpreter.version,
        clang=runner.sanitized.clang.version,
        runs=tuple(runs),
        races=gather(reports, runner.environment.python.parents[1]),
        suppressed=tuple(sorted(suppressed.items())),
        broken=tuple(broken),
    )


def _placed(report: Report, wheel: CompiledWheel, read: dict[str, list[str]]) -> Report:
    stacks = [
        replace(
            stack,
            frames=tuple(with_cython_place(frame, wheel.tree, read) for frame in stack.frames),
        )
        for stack in report.stacks
    ]
    return replace(report, stacks=tuple(stacks))


def look_for_races(
    workspace: Workspace, job: Job, board: Board, *, seconds: float | None
) -> SanitizerResult:
    """Run a job's programs under ThreadSanitizer; kept for the certificate if it is patched.

    ``seconds`` is how long stress programs work, None for as long as they call quick.
    """
    programs = load_programs(workspace.probes, job.recipe.name)
    with files.locked(workspace.locks / "proof.lock", what="a proof"):
        found = sanitize(workspace, job, programs, board, stress_seconds=seconds)
    if not job.baseline:
        about = subject(job.release, read_series(job.release), programs, job.python)
        ResultCache(workspace.proof).write(about, RESULT, found)
    return found


def known_races(
    workspace: Workspace,
    release: Release,
    series: Sequence[Patch],
    programs: Programs,
    python: Python,
) -> SanitizerResult | None:
    """What was found of the same source, patches and programs; None if nobody has looked yet."""
    about = subject(release, series, programs, python)
    return ResultCache(workspace.proof).read(about, RESULT)


def subject(
    release: Release, series: Sequence[Patch], programs: Programs, python: Python
) -> Subject:
    """What the result depends on, except the compiler and the interpreter's bugfix release."""
    return Subject(
        kind=f"{release.project}-tsan",
        facts={
            "source": release.sha256,
            "interpreter": python.tag,
            "suppressions": files.sha256(SUPPRESSIONS),
            **{f"patch {patch.name}": patch.sha256 for patch in series},
            **{p.name: p.sha256 for p in (*programs.probes, *programs.stress)},
        },
    )
