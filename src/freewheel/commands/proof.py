"""The commands of the proof: what is said of it on a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

import click

from freewheel.base import console, process
from freewheel.base.errors import ProofError, UnprovenError
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build import pipeline
from freewheel.build.check import KnownWheel
from freewheel.build.job import Job
from freewheel.commands import selection
from freewheel.commands.outcomes import show_outcomes
from freewheel.machine.tsan import why_not_here
from freewheel.proof import cases, form, proving, report, soaking
from freewheel.proof.cases import Case
from freewheel.proof.form import Figure, Ratio, Tally
from freewheel.proof.programs import load_programs
from freewheel.proof.proving import Proof
from freewheel.proof.races import sanitizer
from freewheel.proof.races.reports import Origin
from freewheel.proof.races.sanitizer import require_clean
from freewheel.proof.speed import measuring
from freewheel.proof.trials import Look


@click.command(
    short_help="Show that every patch is needed and works; certify.",
    epilog="Example: freewheel prove greenlet --quick",
)
@selection.options()
@click.option("--quick", is_flag=True, help="Fewer runs, and not upstream's own tests.")
@click.option("--again", is_flag=True, help="Look again at what failed, and keep the rest.")
@click.option("--afresh", is_flag=True, help="Forget the results that are kept.")
@click.option("--races", is_flag=True, help="Look for data races first, where this machine can.")
def prove(
    choice: selection.Choice,
    *,
    quick: bool,
    again: bool,
    afresh: bool,
    races: bool,
) -> int:
    """Prove the wheels of PROJECTS (all recipes when none is named)."""
    process.end_by_sigterm()
    look: Look = "afresh" if afresh else "again" if again else "kept"
    started = time.monotonic()
    workspace = find_workspace()
    with console.Board() as board:
        chosen = built_cases(workspace, choice, board)
        if races:
            _look_for_races(workspace, chosen, board, afresh=afresh)
        proofs = proving.prove(workspace, chosen, board, quick=quick, look=look)
    for proof in proofs:
        _show_proof(workspace, proof)
    page = report.write(workspace, selection.chosen_recipes(workspace, ()))
    console.say(f"report: {page.relative_to(workspace.root)}")
    console.say(f"{console.duration(time.monotonic() - started)} in all")
    problems = [f"{proof.case.title}: {line}" for proof in proofs for line in proof.problems]
    if problems:
        raise UnprovenError(
            "not every wheel passed the proof",
            problems=problems,
            hint="what was found is kept. To look again at what failed: the same command with "
            "`--again`; to drop all that is kept of these wheels: `--afresh`. docs/proof.md "
            "explains what each verdict asks for; a wheel without a certificate is not published",
        )
    return 0


def _look_for_races(
    workspace: Workspace, chosen: Sequence[Case], board: console.Board, *, afresh: bool
) -> None:
    """Run ThreadSanitizer where it was not run on the same yet; the proof takes up what it found.

    On a machine where it cannot run, the certificates have nothing of it, and a warning says so.
    """
    if reason := why_not_here():
        console.warn(f"data races are not looked for with ThreadSanitizer: {reason}")
        return
    for case in chosen:
        known = sanitizer.known_races(
            workspace, case.release, case.series, case.programs, case.python
        )
        if afresh or known is None:
            sanitizer.look_for_races(workspace, case.job, board, seconds=None)


def built_cases(workspace: Workspace, choice: selection.Choice, board: console.Board) -> list[Case]:
    """The chosen releases with both of their wheels, built where they are not fresh."""
    wanted = [
        _provable(selection.plan(workspace, choice, baseline=baseline))
        for baseline in (False, True)
    ]
    cases.check_probes(workspace, [(job.recipe, job.release) for job in wanted[0]])
    outcomes = _built(pipeline.build(workspace, [*wanted[0], *wanted[1]], board))
    half = len(outcomes) // 2
    return [
        cases.load_case(workspace, one.job, (one.wheel, other.wheel))
        for one, other in zip(outcomes[:half], outcomes[half:], strict=True)
    ]


def _built(outcomes: Sequence[pipeline.Outcome]) -> Sequence[pipeline.Outcome]:
    """The same, if all wheels were built; raises ProofError, having said why, if not."""
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        show_outcomes(failed)
        raise ProofError(
            f"{len(failed)} of {len(outcomes)} wheels could not be built",
            hint="fix what is reported above, then try again",
        )
    return outcomes


def _provable(jobs: Sequence[Job]) -> list[Job]:
    """The provable jobs; warns about the others. Raises ProofError if none is left."""
    left: list[Job] = []
    told: list[str] = []
    for job in jobs:
        reason = job.recipe.targets.why_unproven(job.target, job.release.version)
        if reason:
            told.append(f"{job.title} on {job.target}: {reason}")
        else:
            left.append(job)
    if jobs and not left:
        raise ProofError(
            "the proof does not run on this target",
            problems=told,
            hint="prove the wheels on a machine of another target; `unproven` in the recipe says "
            "on which it does not run, and why",
        )
    for line in told:
        console.warn(f"left out: {line}")
    return left


@click.command(
    short_help="Look for data races with ThreadSanitizer.",
    epilog="Example: freewheel tsan httptools --baseline",
)
@selection.options()
@click.option("--baseline", is_flag=True, help="Without patches: what the release has.")
@click.option("--seconds", type=float, help="How long each stress program works.")
def tsan(
    choice: selection.Choice,
    *,
    baseline: bool,
    seconds: float | None,
) -> None:
    """Run the probes and stress programs of PROJECTS under ThreadSanitizer."""
    process.end_by_sigterm()
    workspace = find_workspace()
    jobs = selection.plan(workspace, choice, baseline=baseline)
    with console.Board() as board:
        results = [sanitizer.look_for_races(workspace, job, board, seconds=seconds) for job in jobs]
    rows = [
        (
            result.project,
            result.version,
            str(len(result.runs)),
            str(len(result.of(Origin.PROJECT))),
            str(len(result.of(Origin.CALLED))),
            str(len(result.of(Origin.ELSEWHERE))),
        )
        for result in results
    ]
    columns = ("project", "version", "programs", "races of its own", "called by it", "elsewhere")
    console.table(columns, rows)
    require_clean(results)


@click.command(
    short_help="Measure what patches cost and gain.",
    epilog="Example: freewheel bench asyncpg --rounds 3",
)
@selection.options()
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="How long each measurement works.",
)
def bench(
    choice: selection.Choice,
    *,
    rounds: int,
    seconds: float,
) -> None:
    """Measure what the patches of PROJECTS cost and gain, in threads and in processes."""
    process.end_by_sigterm()
    workspace = find_workspace()
    with console.Board() as board:
        chosen = built_cases(workspace, choice, board)
        measured = measuring.measure(workspace, chosen, board, rounds=rounds, seconds=seconds)
    _show_measured(measured)


def _show_measured(measured: Sequence[tuple[Case, list[Figure]]]) -> None:
    columns = ("case", "workers", "1 thread", "threads", "threads to processes", "without patches")
    for case, figures in measured:
        console.say(f"{case.title}: rates by the baseline's; threads by as many processes")
        rows = [
            (
                figure.case,
                str(figure.workers),
                ratio_text(figure.one),
                ratio_text(figure.several),
                ratio_text(figure.patched_scaling),
                ratio_text(figure.baseline_scaling),
            )
            for figure in figures
        ]
        console.table(columns, rows)
        if failed := sum(figure.failed for figure in figures):
            console.note(f"without patches, {failed} measurements failed, and were taken again")


def ratio_text(ratio: Ratio) -> str:
    """A ratio's median, and its range."""
    return f"{ratio.median:.2f} ({ratio.lowest:.2f} to {ratio.highest:.2f})"


@click.command(
    short_help="Let stress programs work on the wheels for an hour.",
    epilog="Example: freewheel soak greenlet --seconds 600",
)
@selection.options()
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=3600.0,
    show_default=True,
    help="How long each stress program works.",
)
def soak(
    choice: selection.Choice,
    *,
    seconds: float,
) -> None:
    """Let the stress programs of PROJECTS work on the patched wheels for a long time."""
    process.end_by_sigterm()
    workspace = find_workspace()
    jobs = selection.plan(workspace, choice, baseline=False)
    for job in jobs:  # a mistake in a program is reported before anything is built
        load_programs(workspace.probes, job.recipe.name)
    with console.Board() as board:
        outcomes = _built(pipeline.build(workspace, jobs, board))
        wheels = [
            (one.job.python, one.wheel) for one in outcomes if isinstance(one.wheel, KnownWheel)
        ]
        found = soaking.soak(workspace, wheels, board, seconds=seconds)
    for soaked in found:
        console.say(f"{soaked.title}, {console.duration(soaked.work)} of work")
        console.say(soaked.run.said)
    problems = [soaked.problem for soaked in found if soaked.problem]
    if problems:
        raise UnprovenError(
            "not every stress program ended as it should",
            problems=problems,
            hint="read what it printed; docs/probes.md explains each ending",
        )


@click.command(
    name="certificate-schema",
    short_help="Print the JSON Schema of certificates.",
    epilog="Example: freewheel certificate-schema > schema.json",
)
def certificate_schema() -> None:
    """Print the JSON Schema of certificates."""
    console.say(json.dumps(form.schema(), indent=1, sort_keys=True))


def _show_proof(workspace: Workspace, proof: Proof) -> None:
    console.say(proof.case.title)
    rows = [
        (
            probe.defect,
            _told(found.baseline),
            _told(found.patched),
            f"{found.chance:.1e}",
            f"{found.bound:.1%}",
            f"{found.verdict}{', flaky' if found.patched.again and found.patched.failures else ''}",
        )
        for probe, found in proof.findings
    ]
    rows += [
        (found.name, _told(found.baseline), _told(found.patched), "", "", "")
        for found in proof.stress
    ]
    columns = ("defect", "baseline", "patched", "by chance", "at most", "verdict")
    console.table(columns, rows)
    for probe, found in proof.findings:
        if found.patched.failures and found.patched.said:
            title = f"{probe.defect}: what the first failing run on the patched wheel printed"
            console.replay(title, f"{found.patched.said}\n{found.patched.stacks}")
    for suite in proof.suites:
        console.say(
            f"upstream's tests, {suite.threads} at once: baseline {_counted(suite.baseline)}; "
            f"patched {_counted(suite.patched)}"
        )
        unexplained = sum(not test.reason for test in suite.failing_on_both)
        console.say(
            f"  {len(suite.newly_failing)} newly failing, {len(suite.newly_passing)} newly "
            f"passing, {len(suite.failing_on_both)} failing on both ({unexplained} unexplained), "
            f"{len(suite.flaky)} flaky"
        )
        for pattern in suite.unneeded:
            console.warn(f"{proof.case.recipe.path.name} explains {pattern}, which does not fail")
    if proof.certificate:
        console.say(f"certificate: {proof.certificate.relative_to(workspace.root)}")
    console.say()


def _told(tally: Tally) -> str:
    return _counted(tally.endings)


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in numbers.items())
