"""The gate *reproduce*: two independent builds of a wheel must give the same bytes.

Each build is a child process of the ordinary command line, in a checkout and with a cache of its
own. They share nothing but fetched inputs whose digests are checked, and differ in all that
``variation.py`` can vary on this machine.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import differences, files, process
from freewheel.base.console import Board
from freewheel.base.errors import CommandFailed, ReproduceError
from freewheel.base.members import ArchiveError
from freewheel.base.workspace import PACKAGE, Workspace, share_cache
from freewheel.build import source
from freewheel.build.job import Job
from freewheel.machine import requirements
from freewheel.machine.engine import find_engine
from freewheel.machine.host import processors
from freewheel.machine.image import find_or_make_image
from freewheel.machine.interpreter import find_interpreter
from freewheel.machine.requirements import fetch_requirements
from freewheel.trust.variation import FIRST, SECOND, Pair, Side, Variation, varied

# What the two builds share: inputs that are fetched by digest, and what no byte comes from.
# Where the clock is the same, the builds start this many seconds apart: zip keeps even seconds.
_APART = 3.0
_DIFFOSCOPE_TIMEOUT = 600.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A wheel that one side made. ``seconds`` is its build's whole time, from the command on."""

    path: Path
    sha256: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What became of a job: two builds with the same bytes, or the error that says why not.

    ``builds`` are those that ended well, the first side's before the second's. Where there is an
    error, their wheels are kept at the paths given; otherwise they are gone. ``variations`` are
    the same for all jobs of a run.
    """

    job: Job
    builds: tuple[Build, ...]
    variations: tuple[Variation, ...]
    error: ReproduceError | None = None

    @property
    def verdict(self) -> str:
        if not self.error:
            return "identical"
        return "different" if len(self.builds) == 2 else "failed"  # noqa: PLR2004  one a side


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gate:
    """What all builds of a run share."""

    workspace: Workspace
    command: tuple[str, ...]
    engine: str
    interpreters: str
    pair: Pair
    board: Board


def reproduce(
    workspace: Workspace,
    jobs: Sequence[Job],
    board: Board,
    *,
    command: Sequence[str] = (sys.executable, "-m", "freewheel"),
) -> tuple[Reproduction, ...]:
    """Build each job twice, side by side where there are processors, and compare.

    ``command`` is what takes the words of the command line; another one is for tests of the gate.
    One job's failure does not stop the others; it is in the job's reproduction. Raises what the
    fetching of the shared inputs raises.
    """
    with files.locked(workspace.locks / "reproduce.lock", what="a reproduction", patience=0):
        board.expect(1 + 2 * len(jobs))
        with board.stage("both builds", "inputs"):
            _fetch_inputs(workspace, jobs)
            engine = find_engine(workspace, may_install=True)
            # What is varied is tried in one of them; they differ in their interpreter alone.
            images = {job.target: find_or_make_image(workspace, engine, job.target) for job in jobs}
            pythons = dict.fromkeys(job.python for job in jobs)
            paths = [str(find_interpreter(workspace, python).path) for python in pythons]
        with varied(engine, next(iter(images.values()))) as pair:
            gate = _Gate(
                workspace=workspace,
                command=tuple(command),
                engine=engine.name,
                interpreters=os.pathsep.join(paths),
                pair=pair,
                board=board,
            )
            return _run(gate, jobs)


def _run(gate: _Gate, jobs: Sequence[Job]) -> tuple[Reproduction, ...]:
    """All builds, as many at once as there are processors; a job's two are started together."""
    sides = (gate.pair.first, gate.pair.second)
    with ThreadPoolExecutor(max_workers=len(processors())) as pool:
        try:
            running = [[pool.submit(_build, gate, job, side) for side in sides] for job in jobs]
            return tuple(
                _judge(gate, job, [build.result() for build in builds])
                for job, builds in zip(jobs, running, strict=True)
            )
        finally:
            # Who interrupts the first build does not want to wait for the last.
            pool.shutdown(cancel_futures=True)


def _fetch_inputs(workspace: Workspace, jobs: Sequence[Job]) -> None:
    """Fetch before the builds start, so that they need neither the network nor its settings."""
    for job in jobs:
        source.fetch(job.release, workspace.sources)
        lock = requirements.build_lock(job.recipe.build.requires)
        fetch_requirements(lock, workspace.requirements)
        fetch_requirements(lock, workspace.requirements, target=job.target)


# ------------------------------------------------------------------------------------- building


def _build(gate: _Gate, job: Job, side: Side) -> Build | CommandFailed:
    """Run one side's build of a job to its end; what it printed is in the kept ``<side>.log``."""
    kept = _kept(gate.workspace, job)
    log = kept / f"{side.name}.log"
    shutil.rmtree(kept / side.name, ignore_errors=True)
    log.unlink(missing_ok=True)
    if side.name == SECOND and not gate.pair.clock_varies:
        time.sleep(_APART)
    root = side.scratch / job.slug
    _make_checkout(gate.workspace, root)
    words = ["build", job.recipe.name, "--release", job.release.version, "--target", job.target]
    with gate.board.stage(job.title, f"{side.name} build"):
        try:
            done = process.run(
                [*side.launcher, *gate.command, *words, *(["--baseline"] if job.baseline else [])],
                cwd=root,
                env={**side.environment, **_environment(gate, root)},
                log=log,
            )
        except CommandFailed as error:
            if (root / "cache" / "logs").is_dir():
                shutil.copytree(root / "cache" / "logs", kept / side.name / "logs")
            return error
    directory = root / "wheels" / "baseline" if job.baseline else root / "wheels"
    (wheel,) = directory.glob("*.whl")
    return Build(path=wheel, sha256=files.sha256(wheel), seconds=done.seconds)


def _make_checkout(workspace: Workspace, root: Path) -> None:
    """A checkout at another path: recipes, patches and the program are copies."""
    for name in ("recipes", "patches"):
        shutil.copytree(workspace.root / name, root / name)
    unwanted = shutil.ignore_patterns("__pycache__", f"*{files.PARTIAL}")
    shutil.copytree(PACKAGE, root / "src" / "freewheel", ignore=unwanted)
    share_cache(workspace.cache, root / "cache")


def _environment(gate: _Gate, root: Path) -> dict[str, str]:
    return {
        "PYTHONPATH": str(root / "src"),
        "FREEWHEEL_CACHE": str(root / "cache"),
        "FREEWHEEL_DATA": str(root / "data"),
        "FREEWHEEL_ENGINE": gate.engine,
        "FREEWHEEL_PYTHON": gate.interpreters,
    }


def _kept(workspace: Workspace, job: Job) -> Path:
    return workspace.cache / "reproductions" / job.slug


# -------------------------------------------------------------------------------------- judging


def _judge(gate: _Gate, job: Job, ended: Sequence[Build | CommandFailed]) -> Reproduction:
    """Equal bytes, or the error; what a person should look at is kept."""
    kept = _kept(gate.workspace, job)
    sides = dict(zip((FIRST, SECOND), ended, strict=True))
    builds = {name: end for name, end in sides.items() if isinstance(end, Build)}
    failed = {name: end for name, end in sides.items() if isinstance(end, CommandFailed)}
    error = None
    if failed or len({(build.path.name, build.sha256) for build in builds.values()}) > 1:
        builds = {name: _keep(build, kept / name) for name, build in builds.items()}
        error = _failure(job, failed, kept) if failed else _difference(job, builds, kept)
    return Reproduction(
        job=job, builds=tuple(builds.values()), variations=gate.pair.variations, error=error
    )


def _keep(build: Build, directory: Path) -> Build:
    target = directory / build.path.name
    files.copy(build.path, target)
    return Build(path=target, sha256=build.sha256, seconds=build.seconds)


def _failure(job: Job, failed: dict[str, CommandFailed], kept: Path) -> ReproduceError:
    names = " and ".join(failed)
    return ReproduceError(
        f"{job.title}: the {names} build failed",
        problems=[f"{name}: {kept / name}.log" for name in failed],
        hint="build it by itself; if that succeeds, what is varied reaches the build",
        output="\n".join(error.output for error in failed.values()),
    )


def _difference(job: Job, builds: dict[str, Build], kept: Path) -> ReproduceError:
    first, second = (builds[name].path for name in (FIRST, SECOND))
    return ReproduceError(
        f"{job.title} does not reproduce",
        problems=[
            *explain(first, second),
            *(f"{name}: {build.path}" for name, build in builds.items()),
            *_diffoscope(first, second, kept / "diffoscope.txt"),
        ],
        hint="remove the cause that is named first; docs/reproducibility.md has the remedies",
    )


def explain(first: Path, second: Path) -> list[str]:
    """Why two wheels that should be one differ: a line for each member and cause."""
    named = [f"file name: {first.name}, now {second.name}"] if first.name != second.name else []
    try:
        lines = differences.causes(differences.compare(first, second))
    except ArchiveError as error:
        return [*named, f"one of the two cannot be read: {error.summary}"]
    return named + lines or ["the archives are packed apart; members and attributes are the same"]


def _diffoscope(first: Path, second: Path, report: Path) -> list[str]:
    """Where diffoscope is installed, its report; it exits with 1 where it finds a difference."""
    report.unlink(missing_ok=True)
    if not shutil.which("diffoscope"):
        return []
    try:
        process.run(
            ["diffoscope", "--text", report, first, second],
            check=False,
            timeout=_DIFFOSCOPE_TIMEOUT,
        )
    except CommandFailed as error:
        return [f"diffoscope: {error.summary}"]
    return [f"diffoscope: {report}"] if report.is_file() else ["diffoscope wrote no report"]
