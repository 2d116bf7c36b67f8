"""A project's wheel compiled with ThreadSanitizer: never given out, only run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from uv import find_uv_bin

from freewheel import files, inputs, patches, process, sdist, source
from freewheel.errors import CommandFailed, ProofError
from freewheel.machine.tsan import QUIET, SanitizedInterpreter
from freewheel.proof.races import Frame
from freewheel.recipe import Recipe, Release
from freewheel.requirements import fetch_requirements
from freewheel.wheel import host_target
from freewheel.workspace import Workspace

PINS = Path(__file__).parents[1] / "pins" / "tsan"
# -O1 keeps accesses that more optimisation would merge, and so hide; -DNDEBUG is CPython's own.
_FLAGS = "-fsanitize=thread -g -O1 -fno-omit-frame-pointer -DNDEBUG"
_BUILD_TIMEOUT = 1800.0  # seconds
_PLACE = re.compile(r'^\s*/\* "(?P<file>[^"]+\.p(?:yx|xd|xi|y))":(?P<line>\d+)$')


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentedWheel:
    """A wheel for the sanitized interpreter, and the tree that it was compiled in."""

    path: Path
    tree: Path
    version: str


def make_instrumented(
    workspace: Workspace,
    recipe: Recipe,
    release: Release,
    sanitized: SanitizedInterpreter,
    *,
    baseline: bool,
) -> InstrumentedWheel:
    """The wheel of a release, patched or as a baseline, out of the cache or built into it.

    Where ``pins/tsan/`` has a patch for the project, it goes on top: what the sanitizer must be
    told. Raises ProofError, and what the stages raise that make the sdist.
    """
    version = release.version if baseline else release.local_version
    build = _Build(
        workspace=workspace,
        recipe=recipe,
        release=release,
        baseline=baseline,
        series=(*(() if baseline else patches.read_series(release)), *_annotations(recipe)),
        sanitized=sanitized,
        log=workspace.logs / f"tsan-{recipe.name}-{version}.log",
    )
    home = workspace.cache / "tsan" / f"{recipe.name}-{version}-{build.key(version)[:16]}"
    with files.locked(workspace.locks / f"{home.name}.lock", what=f"building {home.name}"):
        if not home.exists():
            partial = files.empty_directory(home.with_name(home.name + files.PARTIAL))
            build.log.unlink(missing_ok=True)
            build.compile(build.make_sdist(partial / "sdist"), partial)
            partial.rename(home)
    (path,) = home.glob("*.whl")
    return InstrumentedWheel(path=path, tree=home / "tree", version=version)


def _annotations(recipe: Recipe) -> tuple[patches.Patch, ...]:
    path = PINS / f"{recipe.name}.patch"
    if not path.exists():
        return ()
    return (patches.Patch(path=path, sha256=files.sha256(path), fields={}),)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """One wheel to be made, and all that it is made of."""

    workspace: Workspace
    recipe: Recipe
    release: Release
    baseline: bool
    series: tuple[patches.Patch, ...]
    sanitized: SanitizedInterpreter
    log: Path

    def key(self, version: str) -> str:
        """The digest of all that the wheel depends on."""
        target = host_target(self.recipe, self.release)
        content = {
            **inputs.gather(self.recipe, self.release, self.series, version=version, target=target),
            "interpreter": self.sanitized.key,
            "flags": _FLAGS,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def make_sdist(self, scratch: Path) -> Path:
        """As the pipeline makes it."""
        archive = source.fetch(self.release, self.workspace.sources)
        tree = source.unpack(archive, files.empty_directory(scratch / "tree"))
        made = sdist.make_sdist(
            patches.apply_series(tree, self.release, self.series),
            self.recipe,
            files.empty_directory(scratch / "made"),
            baseline=self.baseline,
            requirements=self._wheelhouse(None),
            log=self.log,
        )
        return made.path

    def compile(self, archive: Path, directory: Path) -> None:
        """Leave the wheel and ``tree`` in ``directory``, and nothing else."""
        with tarfile.open(archive) as tar:
            tar.extractall(directory / "unpacked", filter="data")
        (unpacked,) = (directory / "unpacked").iterdir()
        tree = unpacked.rename(directory / "tree")
        wheelhouse = self._wheelhouse(host_target(self.recipe, self.release))
        offline = ("--no-config", "--offline", "--no-index", "--find-links", wheelhouse)
        python = self.sanitized.interpreter.path
        words: list[str | Path] = ["--python", python, "--out-dir", directory / "out", tree]
        try:
            process.run(
                [find_uv_bin(), "build", "--wheel", *offline, *words],
                env=self._environment(tree),
                log=self.log,
                timeout=_BUILD_TIMEOUT,
            )
        except CommandFailed as error:
            raise ProofError(
                f"{archive.name} could not be compiled with ThreadSanitizer",
                problems=[f"the whole log: {self.log}"],
                hint="mend the cause, then run the same command again",
                output=error.output,
            ) from error
        (wheel,) = (directory / "out").glob("*.whl")
        _check_instrumented(wheel)
        wheel.rename(directory / wheel.name)
        for name in ("out", "sdist", "unpacked"):
            shutil.rmtree(directory / name)

    def _wheelhouse(self, target: str | None) -> Path:
        lock = inputs.BUILD_REQUIREMENTS
        return fetch_requirements(lock, self.workspace.requirements, target=target)

    def _environment(self, tree: Path) -> dict[str, str | None]:
        clang = self.sanitized.clang
        home = self.sanitized.interpreter.path.parents[1]
        flags = f"{_FLAGS} -ffile-prefix-map={tree}=. -ffile-prefix-map={home}=CPython"
        return {
            **dict.fromkeys(name for name in os.environ if name.startswith("UV_")),
            **QUIET,
            **clang.variables,
            "CFLAGS": flags,
            "CXXFLAGS": flags,
            "LDFLAGS": "-fsanitize=thread",
            "LDSHARED": f"{clang.path} -shared",
            "LDCXXSHARED": f"{clang.plus_plus} -shared",
            "PYTHONPATH": None,
            "PYTHONHASHSEED": "0",
        }


def _check_instrumented(wheel: Path) -> None:
    """A build backend that goes its own way with flags would give a wheel without any race."""
    with zipfile.ZipFile(wheel) as archive:
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
