"""Stage *build*: cibuildwheel makes the wheel from the sdist, in a container without a network."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from freewheel import files, process
from freewheel.errors import BuildError, CommandFailed
from freewheel.machine.engine import Engine
from freewheel.machine.image import BuilderImage
from freewheel.recipe import Recipe, Release
from freewheel.sdist import Sdist

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


def host_target(recipe: Recipe) -> str:
    """The recipe's target that this machine builds. Raises BuildError where it lists none."""
    machine = platform.machine()
    for target in recipe.targets:
        if sys.platform == "linux" and target.endswith(f"-manylinux_{machine}"):
            return target
    raise BuildError(
        f"{recipe.name} lists no target that this machine ({sys.platform} on {machine}) builds",
        problems=[f"build.targets: {', '.join(recipe.targets)}"],
        hint="build on Linux, or add the target to the recipe",
    )


def build_wheel(
    sdist: Sdist,
    target: str,
    directory: Path,
    *,
    engine: Engine,
    image: BuilderImage,
    requirements: Path,
    log: Path,
) -> Wheel:
    """Build ``sdist`` for ``target`` (a cibuildwheel build identifier) into ``directory``.

    ``requirements`` is mounted read-only and is all that the build may install. Raises BuildError
    with the end of cibuildwheel's output.
    """
    config = directory / "cibuildwheel.toml"
    config.write_text(
        cibuildwheel_config(sdist.release, target, engine, image, requirements), encoding="utf-8"
    )
    raw = files.empty_directory(directory / "raw")
    # cibuildwheel is run as a program: its FatalError is no Exception, and would end this process.
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "cibuildwheel",
        "--only",
        target,
        "--config-file",
        config,
    ]
    try:
        process.run(
            [*command, "--output-dir", raw, sdist.path],
            env={**_clean_environment(), **engine.environment, **_epoch(sdist.release)},
            log=log,
        )
    except CommandFailed as error:
        raise BuildError(
            f"{sdist.release.project} {sdist.version}: cibuildwheel failed",
            problems=[f"the whole log: {log}"],
            hint="mend the cause, then run the same command again",
            output=error.output,
        ) from error
    path = _only_wheel(raw, log)
    return Wheel(path=path, release=sdist.release, version=sdist.version, target=target)


def cibuildwheel_config(
    release: Release, target: str, engine: Engine, image: BuilderImage, requirements: Path
) -> str:
    """The whole configuration of one build, as TOML; what the project's own says does not apply."""
    machine = target.rpartition("manylinux_")[2]
    create_args = (
        *engine.create_args,
        "--network=none",
        f"--volume={requirements}:{_REQUIREMENTS}:ro",
    )
    # A JSON string is a TOML basic string.
    name = json.dumps(engine.name)
    arguments = ", ".join(json.dumps(argument) for argument in create_args)
    no_mount = "disable-host-mount = true"
    lines = [
        "[tool.cibuildwheel]",
        'build-frontend = "build"',
        "build-verbosity = 1",
        f"manylinux-{machine}-image = {json.dumps(image.reference)}",
        f"container-engine = {{ name = {name}, create-args = [{arguments}], {no_mount} }}",
        "",
        "[tool.cibuildwheel.environment]",
        *(f"{name} = {json.dumps(value)}" for name, value in build_environment(release).items()),
    ]
    return "\n".join(lines) + "\n"


def build_environment(release: Release) -> Mapping[str, str]:
    """The variables of the build itself; each takes away something that could vary."""
    return {
        "SOURCE_DATE_EPOCH": str(release.source_date_epoch),
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        # CPPFLAGS, not CFLAGS: setuptools lets CFLAGS replace CPython's own -O3 -DNDEBUG.
        "CPPFLAGS": f"-ffile-prefix-map={_PROJECT}=.",
        # Nothing may be grafted into these wheels; without a patcher, auditwheel fails if it would.
        "AUDITWHEEL_PATCHER": "none",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": _REQUIREMENTS,
    }


def _clean_environment() -> dict[str, str | None]:
    """The user's own CIBW_ variables would win over the configuration file: take them away."""
    dropped = [name for name in os.environ if name.startswith("CIBW_")]
    return dict.fromkeys([*dropped, "PYTHONPATH"])


def _epoch(release: Release) -> dict[str, str]:
    return {"SOURCE_DATE_EPOCH": str(release.source_date_epoch)}


def _only_wheel(directory: Path, log: Path) -> Path:
    found = sorted(directory.glob("*.whl"))
    if len(found) != 1:
        raise BuildError(
            f"one wheel was due, cibuildwheel left {', '.join(p.name for p in found) or 'none'}",
            hint=f"read {log}",
        )
    return found[0]
