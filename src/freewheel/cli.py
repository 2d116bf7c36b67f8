"""The command line: reads the words, calls the pipeline, says what came of it, and exits."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from freewheel import (
    __version__,
    audit,
    console,
    consume,
    inputs,
    known,
    locks,
    pipeline,
    provenance,
    rebuild,
    reproduce,
    server,
)
from freewheel import publish as publishing
from freewheel.destination import resolve_destination
from freewheel.doctor import examine
from freewheel.errors import FreewheelError, ProofError, UnprovenError
from freewheel.proof import certificate
from freewheel.proof.programs import load_programs
from freewheel.recipe import Recipe, Release, choose_recipe, load_recipes
from freewheel.verify import VerifiedWheel
from freewheel.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    from freewheel.proof.control import Tally
    from freewheel.proof.proving import Proof


def main() -> NoReturn:
    """Run the command line; the exit code is 0, the error's own, or 130 when interrupted."""
    try:
        code = commands.main(standalone_mode=False)
    except FreewheelError as error:
        _show(error)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        console.fail("interrupted; nothing half-written was left in wheels/")
        code = 130
    sys.exit(code or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands() -> None:
    """Build, verify and publish patched wheels for free-threaded CPython."""


@commands.command()
@click.argument("projects", nargs=-1)
@click.option("--release", "versions", multiple=True, metavar="X", help="A release; repeatable.")
@click.option("--all-releases", is_flag=True, help="Every release that the recipe carries.")
@click.option("--baseline", is_flag=True, help="Without patches, into wheels/baseline/.")
def build(
    projects: tuple[str, ...],
    versions: tuple[str, ...],
    *,
    all_releases: bool,
    baseline: bool,
) -> int:
    """Build the wheels of PROJECTS (all recipes when none is named)."""
    started = time.monotonic()
    workspace = find_workspace()
    jobs = _plan(workspace, projects, versions, all_releases=all_releases, baseline=baseline)
    with console.Board() as board:
        outcomes = pipeline.build(workspace, jobs, board)
    for outcome in outcomes:
        if outcome.changed:
            console.note(f"{outcome.job.title}: built anew, changed: {', '.join(outcome.changed)}")
    _show_outcomes(outcomes)
    unknown = [o.job.title for o in outcomes if o.wheel and not o.known_good and not baseline]
    if unknown:
        console.note(f"not among the known-good wheels: {', '.join(unknown)} (nox -s lock-wheels)")
    console.say(f"{console.duration(time.monotonic() - started)} in all")
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed:
        return failed[0].exit_code
    if not baseline:
        _show_install_lines(workspace, outcomes)
    return 0


@commands.command(name="reproduce")
@click.argument("projects", nargs=-1)
@click.option("--release", "versions", multiple=True, metavar="X", help="A release; repeatable.")
@click.option("--all-releases", is_flag=True, help="Every release that the recipe carries.")
def reproduce_wheels(
    projects: tuple[str, ...], versions: tuple[str, ...], *, all_releases: bool
) -> int:
    """Build the wheels of PROJECTS (all recipes when none is named) twice, and compare."""
    started = time.monotonic()
    workspace = find_workspace()
    jobs = _plan(workspace, projects, versions, all_releases=all_releases, baseline=False)
    with console.Board() as board:
        reproductions = reproduce.reproduce(workspace, jobs, board)
    _show_reproductions(reproductions)
    console.say(f"{console.duration(time.monotonic() - started)} in all")
    return max(each.error.exit_code if each.error else 0 for each in reproductions)


def _show_reproductions(reproductions: Sequence[reproduce.Reproduction]) -> None:
    for variation in reproductions[0].variations:
        console.say(str(variation))
    console.say()
    for each in reproductions:
        if each.error:
            _show(each.error)
    rows = [
        (
            each.job.recipe.name,
            each.job.version,
            " ".join(dict.fromkeys(build.sha256 for build in each.builds)),
            " and ".join(f"{build.seconds:.0f}" for build in each.builds),
            each.verdict,
        )
        for each in reproductions
    ]
    console.table(("project", "version", "SHA-256", "seconds", "verdict"), rows)


def _plan(
    workspace: Workspace,
    projects: Sequence[str],
    versions: Sequence[str],
    *,
    all_releases: bool,
    baseline: bool,
) -> list[pipeline.Job]:
    if versions and all_releases:
        raise click.UsageError("--release and --all-releases exclude each other")
    if versions and len(projects) != 1:
        raise click.UsageError("--release needs exactly one project")
    choose = _chooser(versions, all_releases=all_releases)
    return pipeline.plan(_chosen(workspace, projects), choose, baseline=baseline)


def _chosen(workspace: Workspace, projects: Sequence[str]) -> list[Recipe]:
    """The recipes of those projects; all of them when none is named."""
    recipes = load_recipes(workspace.recipes, workspace.patches)
    return [choose_recipe(recipes, name) for name in projects] or list(recipes)


def _chooser(
    versions: Sequence[str], *, all_releases: bool
) -> Callable[[Recipe], Sequence[Release]]:
    if all_releases:
        return lambda recipe: recipe.releases
    if versions:
        return lambda recipe: [recipe.release(version) for version in versions]
    return lambda recipe: [recipe.default_release]


def _show_outcomes(outcomes: Sequence[pipeline.Outcome]) -> None:
    for outcome in outcomes:
        if outcome.error:
            _show(outcome.error)
            console.say(f"try again: {_again(outcome.job)}")
    rows = [
        (
            outcome.job.recipe.name,
            outcome.wheel.version,
            outcome.wheel.path.name,
            f"{outcome.wheel.size / 1024:.0f} KiB",
            "fresh" if outcome.fresh else f"{outcome.seconds:.0f}",
            outcome.wheel.sha256,
        )
        for outcome in outcomes
        if outcome.wheel
    ]
    if rows:
        console.table(("project", "version", "wheel", "size", "seconds", "SHA-256"), rows)


def _again(job: pipeline.Job) -> str:
    baseline = " --baseline" if job.baseline else ""
    return f"nox -s build-{job.recipe.name} -- --release {job.release.version}{baseline}"


def _show_install_lines(workspace: Workspace, outcomes: Sequence[pipeline.Outcome]) -> None:
    built = [outcome.wheel for outcome in outcomes if isinstance(outcome.wheel, VerifiedWheel)]
    consume.write_requirements(workspace.wheels / "requirements.txt", built)
    lines = consume.install_lines(built, workspace.simple.as_uri() + "/")
    console.say()
    console.say("Install what is in wheels/requirements.txt into a cp314t environment with either")
    console.say(f"  {lines.pip}")
    console.say(f"  {lines.uv}")


@commands.command()
@click.option("--port", type=int, help="Port on loopback; the one used last, 3141 at first.")
def serve(port: int | None) -> None:
    """Run the private index as a server on this machine, until interrupted."""
    server.serve(find_workspace(), port=port)


@commands.command()
@click.argument("projects", nargs=-1)
@click.option("--release", "versions", multiple=True, metavar="X", help="A release; repeatable.")
@click.option("--all-releases", is_flag=True, help="Every release that the recipe carries.")
@click.option("--quick", is_flag=True, help="Fewer runs, and not upstream's own tests.")
@click.option("--afresh", is_flag=True, help="Forget the results that are kept.")
def prove(
    projects: tuple[str, ...],
    versions: tuple[str, ...],
    *,
    all_releases: bool,
    quick: bool,
    afresh: bool,
) -> int:
    """Put the wheels of PROJECTS (all recipes when none is named) to the proof."""
    # Imported here: a build with nothing to do need not wait for what only the proof needs.
    from freewheel.proof import proving, report  # noqa: PLC0415

    started = time.monotonic()
    workspace = find_workspace()
    wanted = [
        _plan(workspace, projects, versions, all_releases=all_releases, baseline=baseline)
        for baseline in (False, True)
    ]
    proving.check_probes(workspace, [(job.recipe, job.release) for job in wanted[0]])
    with console.Board() as board:
        outcomes = pipeline.build(workspace, [*wanted[0], *wanted[1]], board)
        failed = [outcome for outcome in outcomes if outcome.error]
        if failed:
            _show_outcomes(failed)
            raise ProofError(
                f"{len(failed)} of {len(outcomes)} wheels could not be built",
                hint="mend what is said above, then prove again",
            )
        half = len(outcomes) // 2
        cases = [
            proving.load_case(workspace, one.job.recipe, one.job.release, (one.wheel, other.wheel))
            for one, other in zip(outcomes[:half], outcomes[half:], strict=True)
        ]
        proofs = proving.prove(workspace, cases, board, quick=quick, afresh=afresh)
    for proof in proofs:
        _show_proof(workspace, proof)
    console.say(f"report: {report.write(workspace).relative_to(workspace.root)}")
    console.say(f"{console.duration(time.monotonic() - started)} in all")
    problems = [f"{proof.case.title}: {line}" for proof in proofs for line in proof.problems]
    if problems:
        raise UnprovenError(
            "not every wheel stood the proof",
            problems=problems,
            hint="a wheel without a certificate is not published; docs/proof.md tells what each "
            "verdict asks for",
        )
    return 0


@commands.command()
@click.argument("projects", nargs=-1)
@click.option("--release", "versions", multiple=True, metavar="X", help="A release; repeatable.")
@click.option("--all-releases", is_flag=True, help="Every release that the recipe carries.")
@click.option("--baseline", is_flag=True, help="Without patches: what the release has.")
@click.option("--seconds", type=float, help="How long each stress program works.")
def tsan(
    projects: tuple[str, ...],
    versions: tuple[str, ...],
    *,
    all_releases: bool,
    baseline: bool,
    seconds: float | None,
) -> None:
    """Run the probes and stress programs of PROJECTS under ThreadSanitizer."""
    # Imported here, as in `prove`.
    from freewheel.proof import proving  # noqa: PLC0415
    from freewheel.proof.races import Origin  # noqa: PLC0415
    from freewheel.proof.sanitizer import require_clean  # noqa: PLC0415

    workspace = find_workspace()
    jobs = _plan(workspace, projects, versions, all_releases=all_releases, baseline=baseline)
    with console.Board() as board:
        results = [
            proving.look_for_races(
                workspace, job.recipe, job.release, board, baseline=baseline, seconds=seconds
            )
            for job in jobs
        ]
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


@commands.command(name="certificate-schema")
def certificate_schema() -> None:
    """Print the JSON Schema of certificates."""
    console.say(json.dumps(certificate.schema(), indent=1, sort_keys=True))


def _show_proof(workspace: Workspace, proof: Proof) -> None:
    console.say(proof.case.title)
    rows = [
        (
            probe.defect,
            _told(found.baseline),
            _told(found.patched),
            f"{found.chance:.1e}",
            f"{found.bound:.1%}",
            str(found.verdict),
        )
        for probe, found in proof.findings
    ]
    rows += [
        (found.stress.name, _told(found.baseline), _told(found.patched), "", "", "")
        for found in proof.stress
    ]
    columns = ("defect", "baseline", "patched", "by chance", "at most", "verdict")
    console.table(columns, rows)
    for suite in proof.suites:
        made = suite.comparison
        console.say(
            f"upstream's tests, {suite.threads} at once: baseline {_counted(made.baseline)}; "
            f"patched {_counted(made.patched)}"
        )
        console.say(
            f"  {len(made.newly_failing)} newly failing, {len(made.newly_passing)} newly passing, "
            f"{len(made.failing_on_both)} failing on both ({len(made.unexplained)} unexplained), "
            f"{len(made.flaky)} flaky"
        )
    if proof.certificate:
        console.say(f"certificate: {proof.certificate.relative_to(workspace.root)}")
    console.say()


def _told(tally: Tally) -> str:
    return _counted(tally.endings)


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in numbers.items())


@commands.command()
@click.argument("projects", nargs=-1)
def publish(projects: tuple[str, ...]) -> None:
    """Upload the certified wheels of PROJECTS (all in wheels/ by default) and compare them."""
    workspace = find_workspace()
    verified = pipeline.verified_wheels(workspace, _chosen(workspace, projects))
    for wheel in verified:
        audit.audit(wheel.path)
    wheels = certificate.all_certified(
        (wheel, load_programs(workspace.probes, wheel.project)) for wheel in verified
    )
    destination = resolve_destination(workspace)
    published = publishing.publish(wheels, destination)
    rows = [
        (item.wheel.path.name, "uploaded" if item.uploaded else "was there", item.wheel.sha256)
        for item in published
    ]
    console.table(("wheel", "state", "SHA-256, read back"), rows)
    console.say()
    console.say("Install them, pinned and with hashes, with either")
    lines = consume.install_lines(wheels, destination.simple_url)
    console.say(f"  {lines.pip}")
    console.say(f"  {lines.uv}")


@commands.command()
@click.argument("wheels", nargs=-1, required=True, type=click.Path(path_type=Path))
def verify(wheels: tuple[Path, ...]) -> None:
    """Check WHEELS again, with the buildinfo and the attestation beside each."""
    for path in wheels:
        found = audit.audit(path)
        signed = f"signed by {', '.join(found.signers)}" if found.signers else "not signed"
        proven = f"{found.certified.kind} certificate" if found.certified else "no certificate"
        console.say(f"{path.name}: good, {signed}, {proven}")


@commands.command()
@click.argument("projects", nargs=-1)
def attest(projects: tuple[str, ...]) -> None:
    """Sign in-toto provenance for the wheels of PROJECTS (all when none is named)."""
    for record in _verified_records(find_workspace(), projects):
        console.say(f"{provenance.attest(record)}")


@commands.command(name="rebuild")
@click.argument("wheel")
def rebuild_wheel(wheel: str) -> None:
    """Build WHEEL, a path or a URL, again from what it records, and compare."""
    workspace = find_workspace()
    recipes = load_recipes(workspace.recipes, workspace.patches)
    made = rebuild.rebuild(workspace, recipes, wheel)
    console.say(f"{made.name}: identical, {made.sha256}")


@commands.command(name="lock-wheels")
@click.argument("projects", nargs=-1)
def lock_wheels(projects: tuple[str, ...]) -> None:
    """Take the wheels of PROJECTS (all when none is named) into the lock of known-good wheels."""
    workspace = find_workspace()
    changed = known.accept(workspace.known_good, _verified_records(workspace, projects))
    for entry in changed:
        console.say(f"{entry.wheel}: {entry.sha256}")
    console.say(f"{len(changed)} entries of {workspace.known_good.name} are new")


def _verified_records(workspace: Workspace, projects: Sequence[str]) -> list[inputs.Record]:
    """The records of the wheels in wheels/, all of which still have the bytes they name."""
    chosen = _chosen(workspace, projects)
    verified = {wheel.path for wheel in pipeline.verified_wheels(workspace, chosen)}
    records = inputs.read_records(workspace.wheels)
    return [record for record in records if record.wheel in verified]


@commands.command(name="update-pins")
@click.option("--keep", is_flag=True, help="Keep the versions that still fit.")
def update_pins(*, keep: bool) -> None:
    """Resolve every lock in src/freewheel/pins/ again, and say what changed."""
    changes = locks.update(find_workspace(), upgrade=not keep)
    rows = [(c.lock, c.package, c.before or "-", c.after or "-") for c in changes]
    if rows:
        console.table(("lock", "package", "was", "is"), rows)
    console.say(f"{len(rows)} changes")


@commands.command()
@click.argument("wheel", type=click.Path(path_type=Path))
def explain(wheel: Path) -> None:
    """Say what WHEEL is made of: upstream's release, the patches and why, the pins, the digest."""
    # Imported here: it brings in what reads SBOMs, which the other commands need not wait for.
    from freewheel import explain as explaining  # noqa: PLC0415

    for line in explaining.explain(wheel, root=explaining.find_checkout()):
        console.say(line)


@commands.command()
def doctor() -> int:
    """Say what was found on this machine, what would be chosen and why, and what is missing."""
    findings = examine(find_workspace())
    for finding in findings:
        console.say(f"{finding.state:8} {finding.topic}: {finding.detail}")
        if finding.reason:
            console.say(f"{'':8}   {finding.reason}")
        if finding.remedy:
            console.say(f"{'':8}   Next: {finding.remedy}")
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def _show(error: FreewheelError) -> None:
    if error.output.strip():
        console.replay("what the command printed", error.output.rstrip())
    console.fail(str(error))
