"""The local builder image: made on this machine, of its distribution's packages and CPython.

It serves where no container registry can be reached. It is identified by what went into it, and
kept in the engine's own storage.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path

from freewheel.base import console, files, process
from freewheel.base.errors import CommandFailed, FetchError, MachineError
from freewheel.base.workspace import Workspace
from freewheel.machine import debian
from freewheel.machine.cpython import archive_of, obtain_cpython, pinned_cpythons
from freewheel.machine.engine import Engine
from freewheel.machine.requirements import fetch_requirements
from freewheel.recipe.platforms import find_platform
from freewheel.recipe.pythons import Python, python_of

_TOOLS = {"mmdebstrap": "mmdebstrap", "xz-utils": "xz"}  # package: its program
PACKAGES = (  # what CPython and the wheels are compiled with
    "build-essential",
    "libbz2-dev",
    "libffi-dev",
    "liblzma-dev",
    "libsqlite3-dev",
    "libssl-dev",
    "libzstd-dev",
    "pkg-config",
    "uuid-dev",
    "zlib1g-dev",
)
_REPOSITORY = "localhost/freewheel-builder"
_MANIFEST_LABEL = "freewheel.manifest"
_BUILD_TIMEOUT = 3600.0  # seconds; CPython takes about 4 minutes on 2 cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """All that decides what a local image is, except the patch level of the suite's packages."""

    containerfile: str
    requirements: str
    packages: tuple[str, ...]
    suite: str
    machine: str
    cpython_version: str
    cpython_sha256: str

    @property
    def digest(self) -> str:
        fields = [
            *(self.containerfile, self.requirements, ",".join(self.packages), self.suite),
            *(self.machine, self.cpython_version, self.cpython_sha256),
        ]
        return _sha256(json.dumps(fields))

    @property
    def identity(self) -> str:
        return f"local:{self.digest}"

    @property
    def reference(self) -> str:
        return f"{_REPOSITORY}:{self.digest[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalImage:
    """A local image that is present in the engine.

    ``manifest`` is the digest of the list of exactly what it was made of, which the image has as
    /freewheel-manifest.txt.
    """

    specification: Specification
    manifest: str


# -------------------------------------------------------------------------------- specifications


def specifications(target: str) -> tuple[Specification, ...]:
    """The local images that would do for ``target``, newest CPython first; empty if none can be.

    An image has one interpreter: who builds for one does not compile another.
    """
    python = python_of(target)
    here = debian.distribution()
    platform = find_platform(target)
    if not (platform and platform.policy and platform.is_own and here.has_apt):
        return ()
    return tuple(
        Specification(
            containerfile=_containerfile(python),
            requirements=_pin("requirements.txt").read_text(encoding="utf-8"),
            packages=PACKAGES,
            suite=f"{here.family} {here.suite}",
            machine=platform.machine,
            cpython_version=cpython.version,
            cpython_sha256=cpython.sha256,
        )
        for cpython in pinned_cpythons(python)
    )


def _containerfile(python: Python) -> str:
    text = _pin("Containerfile").read_text(encoding="utf-8")
    return text.replace("@PREFIX@", python.prefix).replace("@PROGRAM@", python.program)


def _pin(name: str) -> Path:
    return Path(str(resources("freewheel") / "pins" / "image" / name))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------------------------- finding it


def find(engine: Engine, target: str) -> LocalImage | None:
    """The newest local image for ``target`` that is present."""
    for specification in specifications(target):
        if found := _find(engine, specification):
            return found
    return None


def _find(engine: Engine, specification: Specification) -> LocalImage | None:
    form = '{{index .Config.Labels "' + _MANIFEST_LABEL + '"}}'
    manifest = engine.ask_image(specification.reference, form)
    return LocalImage(specification=specification, manifest=manifest) if manifest else None


# ----------------------------------------------------------------------------------- making it


def make(
    workspace: Workspace, engine: Engine, target: str, problems: Sequence[str] = ()
) -> LocalImage:
    """Make the local image for ``target``, unless another process has made it meanwhile.

    A run that was killed at any point is taken up by the next: what is finished is kept, the
    layers by the engine and the context in the cache, and the image gets its name last. Raises
    MachineError; ``problems`` are what was tried before.
    """
    _require_debian_root(target, problems)
    with files.locked(workspace.locks / "image.lock", what="making the builder image"):
        if found := find(engine, target):
            return found
        console.note(
            "making a builder image of this machine's own packages and CPython "
            f"{python_of(target).version} without the GIL; once, about 6 minutes on 2 cores"
        )
        try:
            missing = [name for name, program in _TOOLS.items() if not shutil.which(program)]
            if missing:
                debian.install(missing, why="the builder image starts from this system's packages")
            specification = _with_archive(workspace, target)
            return _build(workspace, engine, specification, target)
        except (debian.AptError, CommandFailed, FetchError) as error:
            raise MachineError(
                "the local builder image could not be made",
                problems=[*problems, error.summary, *error.problems],
                hint=error.hint or f"read {_log(workspace)}, then run the same command again",
                output=error.output,
            ) from error


def _require_debian_root(target: str, problems: Sequence[str]) -> None:
    if not specifications(target):
        why = f"a local one is made only on Debian or Ubuntu, for the machine's own kind: {target}"
    elif not debian.can_install():
        why = "a local one is made only by root"
    else:
        return
    raise MachineError(
        f"no builder image for {target}",
        problems=[*problems, why],
        hint="let the engine reach the registry of the official image, or name an image that is "
        "there with FREEWHEEL_IMAGE, or run the same command as root",
    )


def _log(workspace: Workspace) -> Path:
    return workspace.logs / "image.log"


def _with_archive(workspace: Workspace, target: str) -> Specification:
    """The specification of the newest available CPython; its archive is in the cache then."""
    cpython = obtain_cpython(workspace, python_of(target))
    return next(s for s in specifications(target) if s.cpython_sha256 == cpython.sha256)


def _build(
    workspace: Workspace, engine: Engine, specification: Specification, target: str
) -> LocalImage:
    context = workspace.cache / "image" / specification.digest[:16]
    log = _log(workspace)
    log.unlink(missing_ok=True)
    manifest = _assemble(workspace, specification, target, context)
    console.note(f"building CPython {specification.cpython_version}; the log is {log}")
    done = process.run(
        [
            *_after_orphans(workspace),
            *(engine.name, "build", "--network=none", *_build_options(engine)),
            f"--build-arg=CPYTHON_SHA256={specification.cpython_sha256}",
            f"--build-arg=REQUIREMENTS_SHA256={_sha256(specification.requirements)}",
            f"--label={_MANIFEST_LABEL}={manifest}",
            *("--file", context / "Containerfile"),
            *("--tag", specification.reference, context),
        ],
        env=engine.environment,
        log=log,
        timeout=_BUILD_TIMEOUT,
    )
    console.note(f"the builder image is ready after {console.duration(done.seconds)}")
    made = _find(engine, specification)
    if made is None:
        raise MachineError(
            f"{engine.name} built an image, but does not have it", hint=f"read {log}"
        )
    # With it go the contexts of specifications that were given up half-way.
    shutil.rmtree(context.parent, ignore_errors=True)
    return made


def _after_orphans(workspace: Workspace) -> list[str]:
    """What goes before the engine's build, so that it waits for the one of a run that was killed.

    The engine outlives a killed run and finishes; what it made is then found in its layers. flock
    holds the lock as long as the engine runs, whoever started it.
    """
    if not shutil.which("flock"):
        return []
    workspace.locks.mkdir(parents=True, exist_ok=True)
    return ["flock", "--close", str(workspace.locks / "image-build.lock")]


def _build_options(engine: Engine) -> list[str]:
    """Podman keeps layers only when asked to, from which an interrupted build goes on."""
    return ["--layers", "--force-rm"] if engine.name == "podman" else []


def _assemble(
    workspace: Workspace, specification: Specification, target: str, context: Path
) -> str:
    """Bring everything that the image is made of into ``context``; the manifest's digest.

    Each part appears whole or not at all, and one that is there from an interrupted run is kept.
    """
    base = context / "base.tar"
    if not base.exists():
        console.note("making the base file system; about 30 s")
        debian.make_base(specification.packages, base, log=_log(workspace))
    cpython = next(
        cpython
        for cpython in pinned_cpythons(python_of(target))
        if cpython.sha256 == specification.cpython_sha256
    )
    files.copy(archive_of(workspace, cpython), context / "cpython.tar.xz")
    files.write_text(context / "Containerfile", specification.containerfile)
    files.write_text(context / "requirements.txt", specification.requirements)
    wheels = fetch_requirements(specification.requirements, workspace.requirements, target=target)
    for wheel in wheels.iterdir():
        files.copy(wheel, context / "wheels" / wheel.name)
    manifest = "".join(
        f"{line}\n"
        for line in (
            f"specification={specification.digest}",
            f"cpython={specification.cpython_version} sha256:{specification.cpython_sha256}",
            *(f"{wheel.name} sha256:{files.sha256(wheel)}" for wheel in sorted(wheels.iterdir())),
            *debian.installed_packages(base),
        )
    )
    files.write_text(context / "manifest.txt", manifest)
    return _sha256(manifest)
