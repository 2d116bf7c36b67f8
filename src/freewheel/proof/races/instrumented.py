"""A project's wheel compiled with ThreadSanitizer: never given out, only run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from freewheel.base import files
from freewheel.base.errors import ProofError
from freewheel.base.workspace import PINS, Workspace
from freewheel.base.zips import open_zip
from freewheel.build import patches
from freewheel.build.job import Job
from freewheel.machine.tsan import QUIET, SanitizedInterpreter
from freewheel.proof.compiling import Compilation, CompiledWheel
from freewheel.proof.races.reports import Frame
from freewheel.recipe.recipe import Recipe

TSAN_PINS = PINS / "tsan"
# -O1 keeps accesses that more optimisation would merge, and so hide; -DNDEBUG is CPython's own.
_FLAGS = "-fsanitize=thread -g -O1 -fno-omit-frame-pointer -DNDEBUG"
_PLACE = re.compile(r'^\s*/\* "(?P<file>[^"]+\.p(?:yx|xd|xi|y))":(?P<line>\d+)$')


def make_instrumented(
    workspace: Workspace,
    job: Job,
    sanitized: SanitizedInterpreter,
) -> CompiledWheel:
    """The wheel of a job, patched or as a baseline, out of the cache or built into it.

    Where ``pins/tsan/`` has a patch for the project, it goes on top: what the sanitizer must
    know. Raises ProofError, and what the stages raise that make the sdist.
    """
    build = Compilation(
        workspace=workspace,
        recipe=job.recipe,
        release=job.release,
        target=job.target,
        baseline=job.baseline,
        series=(
            *(() if job.baseline else patches.read_series(job.release)),
            *_annotations(job.recipe),
        ),
        interpreter=sanitized.interpreter,
        identity={"interpreter": sanitized.key, "flags": _FLAGS},
        variables=lambda tree: _variables(sanitized, tree),
        check=_check_instrumented,
        how="with ThreadSanitizer",
        prefix="tsan",
        tools=sanitized.clang.places,
    )
    return build.make(workspace.cache / "tsan")


def _annotations(recipe: Recipe) -> tuple[patches.Patch, ...]:
    path = TSAN_PINS / f"{recipe.name}.patch"
    if not path.exists():
        return ()
    return (patches.Patch(path=path, sha256=files.sha256(path), fields={}),)


def _variables(sanitized: SanitizedInterpreter, tree: Path) -> dict[str, str | None]:
    clang = sanitized.clang
    home = sanitized.interpreter.path.parents[1]
    flags = f"{_FLAGS} -ffile-prefix-map={tree}=. -ffile-prefix-map={home}=CPython"
    return {
        **QUIET,
        **clang.variables,
        "CFLAGS": flags,
        "CXXFLAGS": flags,
        "LDFLAGS": "-fsanitize=thread",
        "LDSHARED": f"{clang.path} -shared",
        "LDCXXSHARED": f"{clang.plus_plus} -shared",
    }


def _check_instrumented(wheel: Path) -> None:
    """A build backend that goes its own way with flags would give a wheel without any race."""
    with open_zip(wheel) as archive:
        modules = [name for name in archive.namelist() if name.endswith(".so")]
        plain = [name for name in modules if b"__tsan_func_entry" not in archive.read(name)]
    if plain or not modules:
        raise ProofError(
            f"{wheel.name} was not compiled with ThreadSanitizer",
            problems=plain or ["it has no extension module"],
            hint="its build backend ignores CC and CFLAGS: see which variables it reads",
        )


# ----------------------------------------------------------------------------- back to the source


def with_cython_place(frame: Frame, tree: Path, cache: dict[str, list[str]]) -> Frame:
    """The frame with the place in the Cython source that its line of C was made from, if any.

    Cython writes that place into a comment above the C of each statement. ``cache`` holds the
    lines of the files that were read.
    """
    path = tree / frame.file
    if path.suffix not in (".c", ".cpp") or not frame.line or not path.is_file():
        return frame
    if frame.file not in cache:
        cache[frame.file] = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return replace(frame, cython=cython_place(cache[frame.file], frame.line))


def cython_place(lines: list[str], line: int) -> str:
    """``file.pyx:LINE`` of the statement that C line ``line`` (from 1) belongs to, or ""."""
    for text in reversed(lines[: line - 1]):
        if found := _PLACE.match(text):
            return f"{found['file']}:{found['line']}"
        if text.startswith("}"):  # the end of the function before
            break
    return ""
