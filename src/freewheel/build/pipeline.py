"""The pipeline: composes the stages, for several releases at once, and holds no logic of theirs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from freewheel.base import console, files, git, trouble
from freewheel.base.console import Board
from freewheel.base.errors import BuildError, BusyError, FreewheelError
from freewheel.base.workspace import Workspace
from freewheel.build import (
    annotate,
    buildinfo,
    check,
    index,
    libraries,
    patches,
    sdist,
    source,
    static_checks,
    wheel,
)
from freewheel.build import known_good as known
from freewheel.build.builder import Builder, layered, ready_builder, stages, with_layers
from freewheel.build.job import Job
from freewheel.build.needed import beside, in_waves, wheels_for, with_needed
from freewheel.build.workshop import OnThisMachine, Workshop, in_sandbox
from freewheel.machine.image import acceptable_identities
from freewheel.machine.requirements import build_lock, fetch_requirements, write_lock
from freewheel.recipe.pythons import note_of
from freewheel.recipe.targets import in_container

_STAGES = 6  # of each job: fetch, patch, sdist, wheel, annotate, check


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a job: its wheel, or the error that ended it.

    ``known_good`` is what the lock of known-good wheels says of it, None of a baseline;
    ``seconds`` is the time that the job itself was worked on. ``changed`` names the inputs that
    made a build necessary; it is empty for a fresh wheel and for a first build.
    """

    job: Job
    wheel: check.KnownWheel | check.BaselineWheel | None = None
    fresh: bool = False
    known_good: known.Judgement | None = None
    changed: tuple[str, ...] = ()
    seconds: float = 0.0
    error: FreewheelError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A job whose tree is patched."""

    job: Job
    patched: patches.PatchedTree
    inputs: dict[str, str]
    scratch: Path
    log: Path
    seconds: float


def build(workspace: Workspace, jobs: Sequence[Job], board: Board) -> list[Outcome]:
    """Bring each job's wheel into ``wheels/``, doing only what its inputs ask for.

    What a job needs is built before it. One job's failure does not stop the others; it is in the
    job's outcome.
    """
    outcomes: dict[str, Outcome] = {}
    for wave in in_waves(with_needed(workspace, jobs)):
        outcomes |= _build_wave(workspace, wave, board)
    return [outcomes[job.slug] for job in jobs]


def _build_wave(workspace: Workspace, jobs: Sequence[Job], board: Board) -> dict[str, Outcome]:
    """Jobs that do not need each other."""
    outcomes = {job.slug: _attempt(job, partial(_look, workspace, job)) for job in jobs}
    stale = [job for job in jobs if not outcomes[job.slug].fresh and not outcomes[job.slug].error]
    if stale:
        with _alone(workspace):
            for outcome in _build_stale(workspace, stale, board):
                changed = outcomes[outcome.job.slug].changed
                outcomes[outcome.job.slug] = replace(outcome, changed=changed)
    return outcomes


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """Hold the lock of builds; two at once would share the scratch space, and the processors."""
    lock = workspace.locks / "build.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(files.locked(lock, what="a build", patience=0))
        except BusyError:
            console.note("another build is running; waiting for its end")
            stack.enter_context(files.locked(lock, what="a build"))
        yield


def _build_stale(workspace: Workspace, jobs: Sequence[Job], board: Board) -> list[Outcome]:
    """First all patches, so that one that does not apply is known before an image is made."""
    board.expect(stages(jobs) + _STAGES * len(jobs))
    prepared: list[_Prepared] = []

    def prepare(job: Job) -> Outcome:
        def work() -> Outcome:
            prepared.append(_prepare(workspace, job, board))
            return Outcome(job=job)

        return _attempt(job, work)

    def finish(ready: _Prepared) -> Outcome:
        builder = builders[ready.job.target]
        return _attempt(ready.job, partial(_finish, workspace, ready, builder, board))

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        outcomes = [outcome for outcome in pool.map(prepare, jobs) if outcome.error]
        if not prepared:
            return outcomes
        targets = dict.fromkeys(ready.job.target for ready in prepared)
        builders = {target: ready_builder(workspace, target, board) for target in targets}
        outcomes += pool.map(finish, prepared)
    return outcomes


def _attempt(job: Job, work: Callable[[], Outcome]) -> Outcome:
    """Run one job's work; whatever ends it becomes its outcome, and the other jobs go on."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  a full disk ends one job, not the run
        return Outcome(job=job, error=trouble.explained(error))


def _look(workspace: Workspace, job: Job) -> Outcome:
    """Whether the wheel is there already, made of the same inputs."""
    directory = workspace.baseline if job.baseline else workspace.wheels
    record = buildinfo.find_record(
        directory, project=job.recipe.name, version=job.version, target=job.target
    )
    if record is None:
        return Outcome(job=job)
    changed = buildinfo.changed(record.inputs, _inputs_of(workspace, job), images=_images(job))
    if changed:
        return Outcome(job=job, changed=tuple(changed))
    found = _recall(job, record)
    if found is None:
        return Outcome(job=job, changed=("the wheel itself",))
    if isinstance(found, check.BaselineWheel):
        return Outcome(job=job, wheel=found, fresh=True)
    index.add(workspace.simple, found)
    index.attach(workspace.simple, record.project, record.wheel, buildinfo.SUFFIX)
    known_good = _judge(workspace, record)
    return Outcome(job=job, wheel=found, known_good=known_good, fresh=True)


def _images(job: Job) -> list[str]:
    """The identities of the images that the wheel may have been built in."""
    return [layered(base, job) for base in acceptable_identities(job.target)]


def _recall(job: Job, record: buildinfo.Record) -> check.RecordedWheel | check.BaselineWheel | None:
    names = {"project": record.project, "version": record.version, "sha256": record.sha256}
    if job.baseline:
        failures = record.details.get("failed checks", ())
        return check.recall_baseline(record.wheel, **names, failures=failures)
    return check.recall(record.wheel, **names)


def _inputs_of(workspace: Workspace, job: Job) -> dict[str, str]:
    series = () if job.baseline else patches.read_series(job.release)
    inputs = buildinfo.gather(
        job.recipe, job.release, series, version=job.version, target=job.target
    )
    return inputs | {wheel.input: wheel.sha256 for wheel in wheels_for(workspace, job)}


def _prepare(workspace: Workspace, job: Job, board: Board) -> _Prepared:
    """fetch, patch."""
    started = time.monotonic()
    scratch = files.empty_directory(workspace.work / job.slug)
    log = workspace.logs / f"{job.slug}.log"
    log.unlink(missing_ok=True)
    with board.stage(job.title, "fetch"):
        archive = source.fetch(job.release, workspace.sources)
    with board.stage(job.title, "patch"):
        tree = source.unpack(archive, files.empty_directory(scratch / "tree"))
        series = () if job.baseline else patches.read_series(job.release)
        patched = patches.apply_series(tree, job.release, series)
    return _Prepared(
        job=job,
        patched=patched,
        inputs=_inputs_of(workspace, job),
        scratch=scratch,
        log=log,
        seconds=time.monotonic() - started,
    )


@contextmanager
def _workshop(workspace: Workspace, ready: _Prepared, builder: Builder) -> Iterator[Workshop]:
    """Where the job's foreign code runs: one container for all its steps, if builds have one."""
    if builder.container:
        with in_sandbox(
            builder.container.engine,
            builder.container.image.reference,
            scratch=ready.scratch,
            target=ready.job.target,
            requirements=_requirements(workspace, ready),
        ) as workshop:
            yield workshop
    elif builder.interpreter:
        wheelhouse = fetch_requirements(_lock(ready.job), workspace.requirements)
        yield OnThisMachine(interpreter=builder.interpreter, requirements=wheelhouse)


def _requirements(workspace: Workspace, ready: _Prepared) -> Path:
    """The directory of build requirements for a container; for a native build, their lock."""
    job = ready.job
    if not in_container(job.target):
        if job.recipe.build.needs:
            raise BuildError(
                f"{job.title}: build.needs needs a container",
                hint=f"exclude {job.target} in {job.recipe.path.name}",
            )
        return write_lock(_lock(job), workspace.requirements)
    wheelhouse = fetch_requirements(_lock(job), workspace.requirements, target=job.target)
    return beside(wheelhouse, wheels_for(workspace, job), ready.scratch / "requirements")


def _lock(job: Job) -> str:
    return build_lock(job.recipe.build.requires)


def _finish(workspace: Workspace, ready: _Prepared, builder: Builder, board: Board) -> Outcome:
    """sdist, build, annotate, check, and the way out of quarantine."""
    job = ready.job
    started = time.monotonic()
    builder = with_layers(workspace, job, builder, board)
    with _workshop(workspace, ready, builder) as workshop:
        checked = _make(workspace, ready, builder, workshop, board)
        python = workshop.python_version()
    record = _record(
        ready, builder, checked, commit=git.clean_commit(workspace.root), python=python
    )
    known_good = None if job.baseline else _judge(workspace, record)
    placed = hand_out(workspace, checked, record)
    shutil.rmtree(ready.scratch)
    seconds = ready.seconds + time.monotonic() - started
    return Outcome(job=job, wheel=placed, known_good=known_good, seconds=seconds)


def _make(
    workspace: Workspace, ready: _Prepared, builder: Builder, workshop: Workshop, board: Board
) -> check.VerifiedWheel | check.BaselineWheel:
    """A wheel that passed its checks, still in quarantine."""
    job = ready.job
    with board.stage(job.title, "sdist"):
        made = sdist.make_sdist(
            ready.patched,
            job.recipe,
            files.empty_directory(ready.scratch / "sdist"),
            baseline=job.baseline,
            workshop=workshop,
            log=ready.log,
        )
    with board.stage(job.title, "wheel"):
        built = wheel.build_wheel(
            made,
            job.recipe.build,
            job.target,
            files.empty_directory(ready.scratch / "wheel"),
            container=builder.container,
            requirements=_requirements(workspace, ready),
            log=ready.log,
        )
    with board.stage(job.title, "annotate"):
        of_recipe = libraries.owners(workspace, job.recipe.build.libraries)
        annotated = annotate.annotate(
            built,
            job.recipe,
            ready.patched.series,
            files.empty_directory(ready.scratch / "annotated"),
            image=builder.image,
            requirements="".join([_lock(job), *(w.pin for w in wheels_for(workspace, job))]),
            grafts=builder.grafts(built, job.recipe.build.grafts, of_recipe),
            licences=libraries.licences(of_recipe, job.recipe.build.libraries),
            publisher=buildinfo.PUBLISHER,
        )
    with board.stage(job.title, "check"):
        scratch = files.empty_directory(ready.scratch / "check")
        put_through = check.check_baseline if job.baseline else check.check_wheel
        return put_through(annotated, job.recipe, place=workshop, scratch=scratch)


def _judge(workspace: Workspace, record: buildinfo.Record) -> known.Judgement:
    """What the lock says of these bytes; it raises for others of the same inputs."""
    candidates = [
        workspace.wheels / record.wheel.name,
        workspace.simple / record.project / record.wheel.name,
    ]
    return known.judge(known.read(workspace.known_good), record, candidates=candidates)


def hand_out(
    workspace: Workspace,
    wheel: check.VerifiedWheel | check.BaselineWheel,
    record: buildinfo.Record,
) -> check.VerifiedWheel | check.BaselineWheel:
    """The way out of quarantine, together with the record; where both lie then.

    The index decides first: what it refuses does not replace the wheel in ``wheels/`` either.
    """
    baseline = isinstance(wheel, check.BaselineWheel)
    directory = workspace.baseline if baseline else workspace.wheels
    target = directory / wheel.path.name
    with files.writing_to(directory):
        if isinstance(wheel, check.VerifiedWheel):
            index.add(workspace.simple, wheel)
        files.copy(wheel.path, target)
        placed = wheel.moved_to(target)
        buildinfo.write_record(replace(record, wheel=target))
        if not baseline:
            index.attach(workspace.simple, record.project, target, buildinfo.SUFFIX)
    return placed


def _record(
    ready: _Prepared,
    builder: Builder,
    wheel: check.VerifiedWheel | check.BaselineWheel,
    *,
    commit: str,
    python: str,
) -> buildinfo.Record:
    failures = wheel.failures if isinstance(wheel, check.BaselineWheel) else ()
    note = note_of(python)
    return buildinfo.Record(
        wheel=wheel.path,
        project=wheel.project,
        version=wheel.version,
        sha256=wheel.sha256,
        size=wheel.size,
        inputs=ready.inputs
        | {"image": builder.image.identity, "image manifest": builder.image.manifest},
        details={
            "checks": static_checks.CHECKS,
            "commit": commit,
            "grafts": ready.job.recipe.build.graft_names,
            "import name": ready.job.recipe.import_name,
            "pure": ready.job.recipe.build.pure,
            "failed checks": failures,
            "image": builder.image.origin,
            "interpreter": python,
            **({"note": note} if note else {}),
        },
    )
