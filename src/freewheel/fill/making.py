"""Build one release from its sdist, as upstream published it: no patches, no network, no proof.

Everything of it that runs does so in containers: the hook that names build requirements and the
build of pure Python in a sandbox, all else under cibuildwheel.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from uv import find_uv_bin

from freewheel.audit.downloads import Downloads, Failure
from freewheel.base import archives, files, process
from freewheel.base.errors import BuildError, CommandFailed, FetchError
from freewheel.base.members import ArchiveError
from freewheel.base.tars import unpack_tar
from freewheel.base.workspace import Workspace
from freewheel.build import wheel as building
from freewheel.build.sdist import Sdist
from freewheel.build.wheel import Container
from freewheel.fill.causes import explain
from freewheel.fill.orders import Absent, Order
from freewheel.machine.engine import Engine
from freewheel.machine.interpreter import Interpreter
from freewheel.machine.requirements import fetch_requirements
from freewheel.machine.sandbox import Mount, Sandbox, running_sandbox
from freewheel.recipe.building import Build, Graft
from freewheel.recipe.pythons import python_of
from freewheel.recipe.recipe import Release
from freewheel.upkeep.sdist_facts import look_at

_PATIENCE = 1800.0  # seconds for one build
_HOOK_PATIENCE = 300.0
_PROCESSES = 256  # processes and threads of one build: one that forks without end ends soon
_JOB, _REQUIREMENTS = "/freewheel/job", "/freewheel/requirements"
_PROGRAM = "/freewheel/hook.py"
_OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": _REQUIREMENTS}
_KILLED = (-9, 125, 137)  # by somebody else, or the engine itself failed
_LABEL = "freewheel.fill"
_MARK = "FREEWHEEL-REQUIRES "
_FIRST = datetime(1980, 1, 1, tzinfo=UTC)  # that zip can hold
# Of a library that the repair copies into the wheel, the licence is in the SBOM's package alone.
ANY_GRAFT = Graft(name="any.so", licence="LicenseRef-of-the-distribution")

_HOOK = f"""\
import json, shutil, sys
from build import ProjectBuilder
from build.env import DefaultIsolatedEnv
shutil.copytree(sys.argv[1], "/tmp/tree", symlinks=True)
with DefaultIsolatedEnv() as env:
    builder = ProjectBuilder.from_isolated_env(env, "/tmp/tree")
    env.install(builder.build_system_requires)
    print("\\n{_MARK}" + json.dumps(sorted(builder.get_requires_for_build("wheel"))))
"""
_BUILD_PURE = """set -e
mkdir /making; cp -R --preserve=mode,timestamps "$1" /making/tree
"$2" -m build --wheel --outdir /making/out /making/tree"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """What all builds of one target share."""

    container: Container
    interpreter: Interpreter

    @property
    def engine(self) -> Engine:
        return self.container.engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A wheel as it was built, in the scratch directory; ``lock`` is of its requirements."""

    path: Path
    release: Release
    lock: str
    pure: bool
    seconds: float


def make(
    workspace: Workspace,
    order: Order,
    builder: Builder,
    downloads: Downloads,
    *,
    lock: str | None = None,
) -> Made:
    """Build the wheel; ``lock`` is that of an earlier build, which is used again.

    Raises NotBuilt with the cause and the remedy.
    """
    started = time.monotonic()
    scratch = files.empty_directory(workspace.work / f"fill-{order.slug}")
    log = workspace.logs / f"fill-{order.slug}.log"
    log.unlink(missing_ok=True)
    archive = downloads.fetched(order.filename, order.sha256, order.urls)
    if isinstance(archive, Failure):
        raise NotBuilt(order, archive.reason, archive.remedy, passing=True)
    tree = _unpacked(order, archive, scratch)
    release = Release(
        project=order.project,
        version=order.version,
        sha256=order.sha256,
        released=_moment(archive),
        revision=1,
        patches=(),
    )
    sdist = Sdist(path=archive, release=release, version=order.version)
    with _explained(order, log):
        if lock is None:
            lock = _requirements(workspace, order, builder, tree, log)
        wheelhouse = _wheelhouse(workspace, lock, order.target)
        facts = look_at(tree, order.project, order.version)
        job = _Job(
            order=order,
            builder=builder,
            sdist=sdist,
            wheelhouse=wheelhouse,
            scratch=scratch,
            log=log,
        )
        path = _build_pure(job, tree) if facts.pure else _build(job)
    return Made(
        path=path,
        release=release,
        lock=lock,
        pure=facts.pure,
        seconds=time.monotonic() - started,
    )


class NotBuilt(BuildError):  # noqa: N818  reads as what happened
    """A wheel that could not be built; ``passing`` says that another time it may be."""

    def __init__(self, order: Order, cause: str, remedy: str, *, passing: bool = False) -> None:
        super().__init__(f"{order.title}: {cause}", hint=remedy)
        self.absent = Absent(
            project=order.project, version=order.version, cause=cause, remedy=remedy
        )
        self.passing = passing


class Lacking(NotBuilt):
    """The same, where packages of the system that are known were lacking: ``order`` has them."""

    def __init__(self, order: Order, cause: str, remedy: str, wanted: Order) -> None:
        super().__init__(order, cause, remedy)
        self.order = wanted


@contextmanager
def _explained(order: Order, log: Path) -> Iterator[None]:
    """Turn what a build printed into a cause and a remedy."""
    try:
        yield
    except (CommandFailed, BuildError, FetchError) as error:
        if isinstance(error, NotBuilt):
            raise
        said = "\n".join([*error.problems, error.output or error.summary])
        if log.is_file():
            said = f"{said}\n{log.read_text(encoding='utf-8', errors='replace')}"
        found = explain(said, order.project, order.version)
        if found.packages and found.packages != order.packages:
            known = order.packages.model_dump()
            more = {
                manager: tuple(sorted({*known[manager], *names}))
                for manager, names in found.packages.model_dump().items()
            }
            wanted = replace(order, packages=type(order.packages)(**more))
            if wanted != order:
                raise Lacking(order, found.cause, found.remedy, wanted) from error
        passing = "no end after" in said or "No space left" in said
        if isinstance(error, CommandFailed) and error.returncode in _KILLED:
            passing = True
        raise NotBuilt(order, found.cause, found.remedy, passing=passing) from error


def _unpacked(order: Order, archive: Path, scratch: Path) -> Path:
    """The tree in the sdist; cibuildwheel unpacks it again, which is then known to be safe."""
    directory = files.empty_directory(scratch / "tree")
    try:
        unpack_tar(archive, directory)
    except ArchiveError as error:
        raise NotBuilt(
            order,
            f"its sdist cannot be unpacked safely: {error.summary}",
            "do not build it; report it to whoever published it",
        ) from error
    trees = list(directory.iterdir())
    if len(trees) != 1 or not trees[0].is_dir():
        raise NotBuilt(order, "its sdist is not one directory", "report it to its project")
    return trees[0]


def _moment(archive: Path) -> datetime:
    """The newest time in the sdist, which stands for the release's."""
    with tarfile.open(archive) as tar:
        newest = max((member.mtime for member in tar), default=0)
    return max(_FIRST, min(datetime.fromtimestamp(newest, UTC), datetime.now(UTC)))


# ------------------------------------------------------------------------------ the requirements


def _requirements(
    workspace: Workspace, order: Order, builder: Builder, tree: Path, log: Path
) -> str:
    """The lock of what the build asks for: in pyproject.toml, and by the backend's hook."""
    asked = _declared(order, tree)
    lock = _resolved(asked, builder)
    wheelhouse = _wheelhouse(workspace, lock, order.target)
    with _sandbox(builder, tree, wheelhouse) as sandbox:
        python = f"{python_of(order.target).prefix}/bin/python"
        done = sandbox.run(
            (python, _PROGRAM, _JOB), variables=_OFFLINE, timeout=_HOOK_PATIENCE, log=log
        )
    line = next(line for line in done.stdout.splitlines()[::-1] if line.startswith(_MARK))
    more = json.loads(line.removeprefix(_MARK))
    if not isinstance(more, list) or not all(isinstance(one, str) for one in more):
        raise NotBuilt(order, "its backend asks for no list of requirements", "report it")
    new = [one for one in more if one not in asked]
    return _resolved([*asked, *new], builder) if new else lock


def _declared(order: Order, tree: Path) -> list[str]:
    path = tree / "pyproject.toml"
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        # What a frontend takes where nothing is said (PEP 518).
        asked = settings.get("build-system", {}).get("requires", ["setuptools>=40.8.0", "wheel"])
        return [str(Requirement(one)) for one in asked]
    except (ValueError, InvalidRequirement, TypeError, AttributeError) as error:
        raise NotBuilt(
            order, f"its pyproject.toml cannot be read: {error}", "report it to its project"
        ) from error


def _resolved(asked: Sequence[str], builder: Builder) -> str:
    """A lock with hashes, of wheels alone. Raises CommandFailed with what uv says."""
    if not asked:
        return ""
    return process.run(
        [
            *(find_uv_bin(), "pip", "compile", "--quiet", "--no-header", "--no-annotate"),
            *("--generate-hashes", "--no-emit-index-url", "--only-binary", ":all:"),
            *("--python", builder.interpreter.path, "-"),
        ],
        stdin="\n".join(asked),
        timeout=_HOOK_PATIENCE,
    ).stdout


def _wheelhouse(workspace: Workspace, lock: str, target: str) -> Path:
    if lock:
        return fetch_requirements(lock, workspace.requirements, target=target)
    nothing = workspace.requirements / "nothing"
    nothing.mkdir(parents=True, exist_ok=True)
    return nothing


# ------------------------------------------------------------------------------------- the build


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A build whose requirements are there."""

    order: Order
    builder: Builder
    sdist: Sdist
    wheelhouse: Path
    scratch: Path
    log: Path


@contextmanager
def _sandbox(builder: Builder, tree: Path, wheelhouse: Path) -> Iterator[Sandbox]:
    hook = tree.parent.parent / "hook.py"  # the directory of the job
    files.write_text(hook, _HOOK)
    mounts = (
        Mount(source=tree, target=_JOB),
        Mount(source=wheelhouse, target=_REQUIREMENTS),
        Mount(source=hook, target=_PROGRAM),
    )
    image = builder.container.image.reference
    with running_sandbox(builder.engine, image, mounts, processes=_PROCESSES) as sandbox:
        yield sandbox


def _environment(release: Release) -> Mapping[str, str]:
    return {**building.build_environment(release), **_OFFLINE}


def _build_pure(job: _Job, tree: Path) -> Path:
    """Build what has no extension modules: cibuildwheel refuses wheels for any platform."""
    python = f"{python_of(job.order.target).prefix}/bin/python"
    with _sandbox(job.builder, tree, job.wheelhouse) as sandbox:
        sandbox.run(
            ("sh", "-c", _BUILD_PURE, "sh", _JOB, python),
            variables=_environment(job.sdist.release),
            timeout=_PATIENCE,
            log=job.log,
        )
        listed = sandbox.run(("ls", "/making/out"), timeout=_HOOK_PATIENCE).stdout.split()
        if len(listed) != 1 or not listed[0].endswith(".whl") or "/" in listed[0]:
            raise BuildError(f"one wheel was due, its backend left {' '.join(listed) or 'none'}")
        path = files.empty_directory(job.scratch / "raw") / listed[0]
        sandbox.take(f"/making/out/{listed[0]}", path)
    return path


def _build(job: _Job) -> Path:
    """Build with cibuildwheel, within limits; a container that is left over is taken away."""
    label = f"{_LABEL}={job.order.slug}"
    limits = (f"--pids-limit={_PROCESSES}", f"--label={label}")
    engine = job.builder.engine
    limited = replace(engine, create_args=(*engine.create_args, *limits))
    build = Build(version=(), requires=(), grafts=(ANY_GRAFT,) if job.order.packages else ())
    container = replace(job.builder.container, engine=limited)
    config = job.scratch / "cibuildwheel.toml"
    files.write_text(
        config,
        building.cibuildwheel_config(job.sdist, build, job.order.target, container, job.wheelhouse),
    )
    raw = files.empty_directory(job.scratch / "raw")
    try:
        building.run_cibuildwheel(
            *(config, job.sdist.path, job.order.target, raw),
            release=job.sdist.release,
            engine=engine,
            log=job.log,
            timeout=_PATIENCE,
        )
    finally:
        left = engine.call("ps", "--all", "--quiet", "--filter", f"label={label}", check=False)
        for identifier in left.stdout.split():
            engine.call("rm", "--force", identifier, check=False)
    return building.only_wheel(raw, job.log)


def repacked(made: Made, added: Mapping[str, bytes], directory: Path) -> Path:
    """The wheel with further members, packed so that equal contents give equal bytes."""
    path = files.empty_directory(directory) / made.path.name
    archives.repack_wheel(made.path, path, epoch=made.release.source_date_epoch, added=added)
    return path


def forget(workspace: Workspace, order: Order) -> None:
    """Take away the scratch directory of a build that has ended."""
    shutil.rmtree(workspace.work / f"fill-{order.slug}", ignore_errors=True)
