"""Stage *build*: cibuildwheel makes the wheel from the sdist; for Linux in a container, offline."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import files, process
from freewheel.base.errors import BuildError, CommandFailed
from freewheel.build import source
from freewheel.build.sdist import Sdist
from freewheel.machine.compiler_cache import CompilerCache
from freewheel.machine.engine import Engine
from freewheel.machine.image import BuilderImage
from freewheel.recipe.building import Build
from freewheel.recipe.platforms import platform_of
from freewheel.recipe.pythons import DEFAULT, Python, python_of
from freewheel.recipe.recipe import Recipe, Release
from freewheel.recipe.targets import built_here, own_target

# Where the build requirements are seen inside the container.
_REQUIREMENTS = "/freewheel/requirements"
# cibuildwheel copies the sdist's tree there; the name must not reach debug information.
_PROJECT = "/project"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel in quarantine: as it was built, then annotated, not yet verified."""

    path: Path
    release: Release
    version: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Where wheels for Linux are built: an image, and the engine that has it."""

    engine: Engine
    image: BuilderImage
    compilers: CompilerCache | None = None


def host_target(recipe: Recipe, release: Release, wanted: str | Python = DEFAULT) -> str:
    """The target of the release that this machine builds: its own, or the one that is ``wanted``.

    The machine has one of its own for each interpreter. Raises BuildError where the recipe excludes
    the target, or this machine cannot build it.
    """
    served = recipe.targets.of_release(release.version)
    if isinstance(wanted, Python):
        what, asked = f"for {wanted} that this machine runs", own_target(wanted)
    else:
        what, asked = f"{wanted} that this machine builds", wanted
    if asked in served and built_here(asked):
        return asked
    excluded = recipe.targets.why_excluded(asked, release.version)
    raise BuildError(
        f"{recipe.name} {release.version} has no target {what}",
        problems=[*([excluded] if excluded else []), f"build.targets: {', '.join(served)}"],
        hint="build on another machine, or add the target to the recipe",
    )


def build_wheel(
    sdist: Sdist,
    build: Build,
    target: str,
    directory: Path,
    *,
    container: Container | None,
    requirements: Path,
    log: Path,
) -> Wheel:
    """Build ``sdist`` for ``target`` (a cibuildwheel build identifier) into ``directory``.

    ``build`` is what the recipe says of it.

    In a ``container``, ``requirements`` is a directory that is mounted read-only and is all that
    the build may install. Without one, on macOS and Windows, it is the lock of the build
    requirements, and pip fetches them by hash. Raises BuildError with the end of cibuildwheel's
    output.
    """
    raw = files.empty_directory(directory / "raw")
    try:
        if build.pure:
            _build_pure(
                *(sdist, build, target, raw),
                container=_for_pure(sdist, container),
                requirements=requirements,
                log=log,
            )
        else:
            _build_compiled(
                *(sdist, build, target, directory),
                container=container,
                requirements=requirements,
                log=log,
            )
    except CommandFailed as error:
        raise BuildError(
            f"{sdist.release.project} {sdist.version}: "
            f"{'the build backend' if build.pure else 'cibuildwheel'} failed",
            problems=[f"the whole log: {log}"],
            hint=_remedy(error.output),
            output=error.output,
        ) from error
    path = only_wheel(raw, log)
    return Wheel(path=path, release=sdist.release, version=sdist.version, target=target)


def _remedy(output: str) -> str:
    if "does not look like a platform wheel" not in output:
        return "correct the cause, then run the same command again"
    return (
        "the build made no extension module, perhaps because it found no library or header that "
        "one needs: look for it in the log, and name it in build.system-packages or "
        "build.libraries; a project that has none is build.pure"
    )


def run_cibuildwheel(
    config: Path,
    project: Path,
    target: str,
    raw: Path,
    *,
    release: Release,
    engine: Engine | None,
    log: Path,
    timeout: float | None = None,
) -> None:
    """Run it with that configuration alone; the wheel comes into ``raw``.

    ``project`` is an sdist or, without an engine, a tree. Raises CommandFailed, also when it has
    not ended after ``timeout`` seconds.
    """
    # As a program: its FatalError is no Exception, and would end this process.
    command: list[str | Path] = [sys.executable, "-m", "cibuildwheel", "--only", target]
    process.run(
        [*command, "--config-file", config, "--output-dir", raw, project],
        cwd=None if engine else project,
        env={
            **_clean_environment(),
            **(engine.environment if engine else {}),
            **_epoch(release),
        },
        log=log,
        timeout=timeout,
    )


def _build_compiled(
    sdist: Sdist,
    build: Build,
    target: str,
    directory: Path,
    *,
    container: Container | None,
    requirements: Path,
    log: Path,
) -> None:
    config = directory / "cibuildwheel.toml"
    project: Path = sdist.path
    if container:
        text = cibuildwheel_config(sdist, build, target, container, requirements)
    else:
        # Unpacked here: cibuildwheel would choose a random name, which could reach the wheel.
        archive = source.SourceArchive(path=sdist.path, release=sdist.release)
        project = source.unpack(archive, files.empty_directory(directory / "project"))
        text = native_config(sdist, build, target, requirements, project=project)
    config.write_text(text, encoding="utf-8")
    run_cibuildwheel(
        *(config, project, target, directory / "raw"),
        release=sdist.release,
        engine=container.engine if container else None,
        log=log,
    )


# ---------------------------------------------------------------- a wheel without extension modules

_UNPACK_AND_BUILD = """\
mkdir /project /out
tar --extract --file /sdist.tar.gz --strip-components=1 --directory /project
exec "$@" --outdir /out /project
"""


def _for_pure(sdist: Sdist, container: Container | None) -> Container:
    if container is None:
        raise BuildError(
            f"{sdist.release.project} {sdist.version}: a pure wheel is built in a container alone",
            hint="in build.targets, name a manylinux target",
        )
    return container


def _build_pure(
    sdist: Sdist,
    build: Build,
    target: str,
    raw: Path,
    *,
    container: Container,
    requirements: Path,
    log: Path,
) -> None:
    """Build by ``build`` itself: cibuildwheel refuses wheels that are for any platform."""
    engine = container.engine
    told = _container_environment(sdist, build)
    settings = (f"--config-setting={name}={value}" for name, value in build.settings())
    container_id = engine.call(
        *("create", *engine.foreign_args),
        *(f"--env={name}={value}" for name, value in told.items()),
        f"--volume={sdist.path}:/sdist.tar.gz:ro",
        f"--volume={requirements}:{_REQUIREMENTS}:ro",
        *("--entrypoint=sh", container.image.reference, "-euc", _UNPACK_AND_BUILD, "sh"),
        *(
            f"{python_of(target).prefix}/bin/python",
            "-m",
            "build",
            "--wheel",
            *settings,
        ),
    ).stdout.split()[-1]
    try:
        engine.call("start", "--attach", container_id, log=log)
        engine.call("cp", f"{container_id}:/out/.", raw)
    finally:
        engine.call("rm", "--force", container_id, check=False)


# ----------------------------------------------------------------------------- the configurations


def cibuildwheel_config(
    sdist: Sdist, build: Build, target: str, container: Container, requirements: Path
) -> str:
    """The whole configuration of a build in a container; what the project's own says is void."""
    libc, _, machine = target.partition("-")[2].partition("_")
    engine = container.engine
    create_args = (
        *engine.foreign_args,
        f"--volume={requirements}:{_REQUIREMENTS}:ro",
        *(container.compilers.create_args if container.compilers else ()),
    )
    # A JSON string is a TOML basic string.
    name = json.dumps(engine.name)
    arguments = ", ".join(json.dumps(argument) for argument in create_args)
    no_mount = "disable-host-mount = true"
    return _toml(
        [
            'build-frontend = "build"',
            "build-verbosity = 1",
            f"{libc}-{machine}-image = {json.dumps(container.image.reference)}",
            f"container-engine = {{ name = {name}, create-args = [{arguments}], {no_mount} }}",
            *_settings(build),
        ],
        {
            **_container_environment(sdist, build),
            **(container.compilers.variables if container.compilers else {}),
        },
    )


def native_config(sdist: Sdist, build: Build, target: str, lock: Path, *, project: Path) -> str:
    """The whole configuration of a build on macOS or Windows, where there is no container.

    cibuildwheel brings its own CPython, at the version and digest that it pins, and tools of its
    own at pinned versions. The build requirements come by hash: with one hash in a list of
    constraints, pip wants one for everything. Nothing may be grafted, so nothing is repaired on
    Windows; delocate adds nothing by itself, and settles the tag on macOS.
    """
    arguments = json.dumps(["--dependency-constraints-txt", lock.as_posix()])
    lines = [
        f'build-frontend = {{ name = "build", args = {arguments} }}',
        "build-verbosity = 1",
        *_settings(build),
    ]
    platform = platform_of(target)
    if not platform.repairs:
        lines.append('repair-wheel-command = ""')
    place = project.as_posix()
    fixed = {name: v.replace("{project}", place) for name, v in platform.environment.items()}
    told = build.variables(sdist.release.version, sdist.version)
    return _toml(lines, {**told, **_everywhere(sdist.release), **fixed})


def _settings(build: Build) -> list[str]:
    """The recipe's options for the build backend, as a line."""
    if not build.config_settings:
        return []
    # Both a JSON string and a JSON list of strings are TOML.
    told = (f"{json.dumps(k)} = {json.dumps(v)}" for k, v in build.config_settings.items())
    return [f"config-settings = {{ {', '.join(told)} }}"]


def _toml(lines: Sequence[str], environment: Mapping[str, str]) -> str:
    every = [
        "[tool.cibuildwheel]",
        *lines,
        "",
        "[tool.cibuildwheel.environment]",
        *(f"{name} = {json.dumps(value)}" for name, value in environment.items()),
    ]
    return "\n".join(every) + "\n"


def _everywhere(release: Release) -> dict[str, str]:
    """Variables that take away what could vary on any system."""
    return {
        "SOURCE_DATE_EPOCH": str(release.source_date_epoch),
        "PYTHONHASHSEED": "0",
        "TZ": "UTC",
    }


def build_environment(release: Release) -> Mapping[str, str]:
    """The variables of a build in a container; each takes away something that could vary."""
    return {
        **_everywhere(release),
        "LC_ALL": "C.UTF-8",
        # CPPFLAGS, not CFLAGS: setuptools lets CFLAGS replace CPython's own -O3 -DNDEBUG.
        "CPPFLAGS": f"-ffile-prefix-map={_PROJECT}=.",
        # Without a patcher, auditwheel fails if it would graft something into the wheel.
        "AUDITWHEEL_PATCHER": "none",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": _REQUIREMENTS,
    }


def _container_environment(sdist: Sdist, build: Build) -> Mapping[str, str]:
    told = {
        **build.variables(sdist.release.version, sdist.version),
        **build_environment(sdist.release),
    }
    if build.grafts:
        del told["AUDITWHEEL_PATCHER"]
    return told


def _clean_environment() -> dict[str, str | None]:
    """The user's own CIBW_ variables would win over the configuration file: take them away."""
    dropped = [name for name in os.environ if name.startswith("CIBW_")]
    return dict.fromkeys([*dropped, "PYTHONPATH"])


def _epoch(release: Release) -> dict[str, str]:
    return {"SOURCE_DATE_EPOCH": str(release.source_date_epoch)}


def only_wheel(directory: Path, log: Path) -> Path:
    """The wheel in a directory that a build wrote to. Raises BuildError for none or several."""
    found = sorted(directory.glob("*.whl"))
    if len(found) != 1:
        raise BuildError(
            f"one wheel was due, cibuildwheel left {', '.join(p.name for p in found) or 'none'}",
            hint=f"read {log}",
        )
    return found[0]
