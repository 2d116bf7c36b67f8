"""Stage *verify*: coded checks on a finished wheel; what passes all of them leaves quarantine.

The static checks read the archive; the dynamic ones install it into a fresh cp314t environment and
import it, on this machine or, where that cannot load it, in the image. All failures are gathered.
VerifiedWheel is made here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed, VerifyError
from freewheel.build.static_checks import (
    CHECKS,
    Expected,
    Failure,
    extension_modules,
    static_failures,
)
from freewheel.build.wheel import Container, Wheel
from freewheel.machine.interpreter import Interpreter, python_of
from freewheel.recipe.recipe import Recipe

_IMPORTING = Path(__file__).with_name("importing.py")
_PATIENCE = 120.0  # seconds
_NOT_INSTALLED = 121  # the exit code that tells this from what importing does


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedWheel:
    """A wheel that passed every check, identified by its digest; ``size`` is in bytes."""

    path: Path
    project: str
    version: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineWheel:
    """An unpatched wheel, built for comparison; it is not verified, and nothing publishes it.

    Its archive is sound. ``failures`` are the checks that it failed when it was imported, which
    may be the very defects that the patches mend.
    """

    path: Path
    project: str
    version: str
    sha256: str
    size: int
    failures: tuple[str, ...]


def check_wheel(
    wheel: Wheel, recipe: Recipe, *, place: Interpreter | Container, scratch: Path
) -> VerifiedWheel:
    """Run all checks; raises VerifyError that lists every failure with its code.

    ``place`` is where the wheel is imported. ``scratch`` is an empty directory for the environment
    that it is installed into.
    """
    failures = _static(wheel, recipe)
    failures += dynamic_failures(wheel, recipe, place, scratch)
    if failures:
        raise _refusal(wheel, failures)
    return _verified(wheel.path, recipe.name, wheel.version)


def check_baseline(
    wheel: Wheel, recipe: Recipe, *, place: Interpreter | Container, scratch: Path
) -> BaselineWheel:
    """Run the same checks on a baseline; only a fault of the archive raises VerifyError."""
    failures = _static(wheel, recipe)
    if failures:
        raise _refusal(wheel, failures)
    return BaselineWheel(
        path=wheel.path,
        project=recipe.name,
        version=wheel.version,
        sha256=files.sha256(wheel.path),
        size=wheel.path.stat().st_size,
        failures=tuple(map(str, dynamic_failures(wheel, recipe, place, scratch))),
    )


def _static(wheel: Wheel, recipe: Recipe) -> list[Failure]:
    expected = Expected(
        project=recipe.name,
        version=wheel.version,
        target=wheel.target,
        import_name=recipe.import_name,
        pure=recipe.build.pure,
        grafts=recipe.build.graft_names,
    )
    return list(static_failures(wheel.path, expected))


def _refusal(wheel: Wheel, failures: Sequence[Failure]) -> VerifyError:
    return VerifyError(
        f"{wheel.path.name} failed {len({failure.code for failure in failures})} "
        f"of {len(CHECKS)} checks",
        problems=[str(failure) for failure in failures],
        hint=f"the wheel stays in quarantine at {wheel.path}; mend the cause, not the check",
    )


def recall(path: Path, *, project: str, version: str, sha256: str) -> VerifiedWheel | None:
    """A wheel that an earlier run verified, if its bytes are still those; None if they are not."""
    if not path.is_file() or files.sha256(path) != sha256:
        return None
    return _verified(path, project, version)


def recall_baseline(
    path: Path, *, project: str, version: str, sha256: str, failures: Sequence[str]
) -> BaselineWheel | None:
    """A baseline that an earlier run made, if its bytes are still those; None if they are not."""
    if not path.is_file() or files.sha256(path) != sha256:
        return None
    return BaselineWheel(
        path=path,
        project=project,
        version=version,
        sha256=sha256,
        size=path.stat().st_size,
        failures=tuple(failures),
    )


def _verified(path: Path, project: str, version: str) -> VerifiedWheel:
    return VerifiedWheel(
        path=path,
        project=project,
        version=version,
        sha256=files.sha256(path),
        size=path.stat().st_size,
    )


# ------------------------------------------------------------------------------ dynamic checks


def dynamic_failures(
    wheel: Wheel, recipe: Recipe, place: Interpreter | Container, scratch: Path
) -> Iterator[Failure]:
    """Install the wheel into a fresh environment and import all of it."""
    words = [recipe.name, recipe.import_name, *extension_modules(wheel.path)]
    try:
        if isinstance(place, Container):
            done = _import_in_image(wheel.path, words, place)
        else:
            done = _import_here(wheel.path, words, place, scratch)
    except CommandFailed as error:
        yield Failure(code="FW201", detail=error.output.strip() or str(error))
        return
    if done.returncode != 0:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        yield Failure(code="FW202", detail=f"importing ended with {ended}: {done.stderr[-2000:]}")
        return
    report = json.loads(done.stdout)
    for module, problem in report["failures"].items():
        yield Failure(code="FW202", detail=f"{module}: {problem}")
    if report["gil_turned_on_by"]:
        yield Failure(code="FW203", detail=f"{report['gil_turned_on_by']} turned it on")
    # Not every package has a __version__; where there is one, it must be right.
    if report["module_version"] not in recipe.build.module_versions(
        wheel.release.version, wheel.version
    ):
        yield Failure(code="FW204", detail=f"__version__ is {report['module_version']}")
    if report["metadata_version"] != wheel.version:
        yield Failure(code="FW204", detail=f"installed as {report['metadata_version']}")


def _import_here(
    wheel: Path, words: Sequence[str], interpreter: Interpreter, scratch: Path
) -> process.Finished:
    """Raises CommandFailed where the wheel does not install."""
    environment = scratch / "environment"
    python = python_of(environment)
    uv = find_uv_bin()
    process.run([uv, "venv", "--quiet", "--no-project", "-p", interpreter.path, environment])
    process.run([uv, "pip", "install", "--quiet", "--python", python, wheel])
    return process.run(
        [python, "-I", "-W", "error", _IMPORTING, *words],
        cwd=scratch,
        # A variable that forces the GIL on or off would hide what the modules do.
        env={"PYTHON_GIL": None},
        timeout=_PATIENCE,
        check=False,
    )


def _import_in_image(wheel: Path, words: Sequence[str], container: Container) -> process.Finished:
    """As above, in a container without a network; the wheel's own requirements are not there."""
    mounted = ((wheel, f"/wheel/{wheel.name}"), (_IMPORTING, "/importing.py"))
    abi = wheel.name.split("-")[-2]
    python = f"/opt/python/{abi.removesuffix('t')}-{abi}/bin/python"
    install = f"{python} -m venv /env && /env/bin/pip install --quiet --no-index --no-deps"
    script = f'{install} "$0" || exit {_NOT_INSTALLED}; exec /env/bin/python -I -W error "$@"'
    done = container.engine.call(
        *("run", "--rm", "--network=none", *container.engine.create_args),
        *(f"--volume={source}:{target}:ro" for source, target in mounted),
        *("--workdir=/tmp", "--entrypoint=sh", container.image.reference),
        *("-c", script, mounted[0][1], mounted[1][1], *words),
        check=False,
        timeout=_PATIENCE,
    )
    if done.returncode == _NOT_INSTALLED:
        raise CommandFailed(done.argv, done.returncode, done.stdout + done.stderr)
    return done
