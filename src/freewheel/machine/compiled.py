"""A CPython that is compiled on this machine from the pinned source, and kept in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import console, files, process
from freewheel.base.errors import CommandFailed, ProofError
from freewheel.base.tars import unpack_tar
from freewheel.base.workspace import Workspace
from freewheel.machine import debian, interpreter
from freewheel.machine.cpython import CPython, archive_of, obtain_cpython
from freewheel.machine.host import processors
from freewheel.machine.interpreter import Interpreter
from freewheel.machine.local_image import PACKAGES
from freewheel.recipe.pythons import Python

_BUILD_TIMEOUT = 3600.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """How one kind of CPython is built; ``name`` says it in a message, after "CPython".

    ``options`` are those of configure, ``minutes`` what it takes on 2 cores. ``kept`` are files of
    the source tree that lie beside the installed one, and ``log`` names the file below logs/.
    """

    name: str
    options: tuple[str, ...]
    free_threaded: bool
    minutes: int
    log: str
    kept: tuple[str, ...] = ()


def obtain_source(workspace: Workspace, python: Python) -> CPython:
    """The release of that version to build, its source in the cache. Raises ProofError."""
    try:
        return obtain_cpython(workspace, python)
    except debian.AptError as error:
        raise ProofError(error.summary, problems=error.problems, hint=error.hint) from error


def compiled(
    workspace: Workspace,
    cpython: CPython,
    variant: Variant,
    home: Path,
    *,
    variables: Mapping[str, str | None],
) -> Interpreter:
    """The interpreter in ``home``, which is built there if it is absent.

    ``variables`` choose the compiler; "{tree}" in one is where the source is. What CPython is
    compiled with is installed, if this is root's Debian. Raises ProofError.
    """
    if not home.exists():
        _build(workspace, cpython, variant, home, variables)
    python = cpython.python(free_threaded=variant.free_threaded)
    return _checked(variant, python, home, workspace.logs / variant.log)


def _build(
    workspace: Workspace,
    cpython: CPython,
    variant: Variant,
    home: Path,
    variables: Mapping[str, str | None],
) -> None:
    """Build and install into ``home``, whole or not at all."""
    _install_headers()
    log = workspace.logs / variant.log
    log.unlink(missing_ok=True)
    console.note(
        f"building CPython {cpython.version} {variant.name}; once, about {variant.minutes} minutes "
        f"on 2 cores; the log is {log}"
    )
    partial = files.empty_directory(home.with_name(home.name + files.PARTIAL))
    unpack_tar(archive_of(workspace, cpython), partial / "source")
    (tree,) = (partial / "source").iterdir()
    commands: list[list[str | Path]] = [
        ["./configure", "--quiet", f"--prefix={home}", *variant.options],
        ["make", "--silent", f"--jobs={len(processors())}"],
        # Without compiling the whole library ahead: an instrumented interpreter is slow at it.
        ["make", "--silent", "install", f"DESTDIR={partial / 'root'}", "COMPILEALL_OPTS=-l"],
    ]
    environment = {
        name: value and value.replace("{tree}", str(tree)) for name, value in variables.items()
    }
    try:
        for command in commands:
            process.run(command, cwd=tree, env=environment, log=log, timeout=_BUILD_TIMEOUT)
    except CommandFailed as error:
        raise ProofError(
            f"CPython could not be built {variant.name}",
            problems=[error.summary],
            hint=f"read {log}; its headers are in: {debian.install_command(PACKAGES)}",
            output=error.output,
        ) from error
    made = partial / "root" / home.relative_to(home.anchor)
    for name in variant.kept:
        files.copy(tree / name, made / Path(name).name)
    made.rename(home)
    shutil.rmtree(partial)


def _install_headers() -> None:
    """Whatever CPython's modules are compiled against; without them the check says what lacks."""
    if not debian.can_install():
        return
    if missing := debian.missing(PACKAGES):
        try:
            debian.install(missing, why="CPython is compiled with them")
        except debian.AptError as error:
            raise ProofError(error.summary, problems=error.problems, hint=error.hint) from error


def _checked(variant: Variant, python: Python, home: Path, log: Path) -> Interpreter:
    """Refuse an interpreter that lacks a module, and take it away, so that it is built again."""
    problems: list[str] = []
    found = interpreter.check(
        home / "bin" / python.program, python, f"built {variant.name}", problems
    )
    if found is None:
        shutil.rmtree(home)
        raise ProofError(
            f"the CPython that was built {variant.name} will not do",
            problems=problems,
            hint=f"its modules need headers: {debian.install_command(PACKAGES)}; the log is {log}",
        )
    return found
