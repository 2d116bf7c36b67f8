"""A project's wheel compiled on this machine for an interpreter of its own: never given out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed, ProofError
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo, patches, sdist, source
from freewheel.build.workshop import workshop_for
from freewheel.machine import requirements
from freewheel.machine.interpreter import Interpreter, files_of
from freewheel.machine.jail import running_jail
from freewheel.machine.requirements import fetch_requirements
from freewheel.recipe.pythons import python_of
from freewheel.recipe.recipe import Recipe, Release

_BUILD_TIMEOUT = 1800.0  # seconds
_MAX_WHEEL = 256 << 20  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledWheel:
    """A wheel, and the tree that it was compiled in."""

    path: Path
    tree: Path
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """One wheel to be made, and all that it is made of.

    ``series`` are the patches, none for a baseline but those that are needed to compile it.
    ``identity`` names what else the wheel depends on, ``variables`` are those of the compiler, a
    function of the tree, ``tools`` what it needs of this machine beside the system's own programs.
    ``check`` raises what is wrong with the wheel. ``how`` and ``prefix`` stand in messages and in
    the log's name.
    """

    workspace: Workspace
    recipe: Recipe
    release: Release
    target: str
    baseline: bool
    series: tuple[patches.Patch, ...]
    interpreter: Interpreter
    identity: Mapping[str, str]
    variables: Callable[[Path], Mapping[str, str | None]]
    check: Callable[[Path], None]
    how: str
    prefix: str
    tools: tuple[Path, ...] = ()

    @property
    def version(self) -> str:
        return self.release.version if self.baseline else self.release.local_version

    @property
    def log(self) -> Path:
        name = f"{self.prefix}-{self.recipe.name}-{self.version}-{python_of(self.target)}.log"
        return self.workspace.logs / name

    def make(self, directory: Path) -> CompiledWheel:
        """The wheel, kept in ``directory`` under the digest of its inputs, or compiled into it.

        Raises ProofError, and what the stages raise that make the sdist.
        """
        home = directory / f"{self.recipe.name}-{self.version}-{self._key()[:16]}"
        lock = self.workspace.locks / f"{home.name}.lock"
        with files.locked(lock, what=f"building {home.name}"):
            if not home.exists():
                partial = files.empty_directory(home.with_name(home.name + files.PARTIAL))
                self.log.unlink(missing_ok=True)
                self._compile(self._make_sdist(partial / "sdist"), partial)
                partial.rename(home)
        (path,) = home.glob("*.whl")
        return CompiledWheel(path=path, tree=home / "tree", version=self.version)

    def _key(self) -> str:
        """The digest of all that the wheel depends on."""
        version = self.version
        content = {
            **buildinfo.gather(
                self.recipe, self.release, self.series, version=version, target=self.target
            ),
            **self.identity,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _make_sdist(self, scratch: Path) -> Path:
        """As the pipeline makes it."""
        archive = source.fetch(self.release, self.workspace.sources)
        tree = source.unpack(archive, files.empty_directory(scratch / "tree"))
        patched = patches.apply_series(tree, self.release, self.series)
        lock = requirements.build_lock(self.recipe.build.requires)
        with workshop_for(
            self.workspace,
            lock,
            scratch=scratch,
            target=self.target,
            interpreter=self.interpreter,
        ) as workshop:
            made = sdist.make_sdist(
                patched,
                self.recipe,
                files.empty_directory(scratch / "made"),
                baseline=self.baseline,
                workshop=workshop,
                log=self.log,
            )
        return made.path

    def _compile(self, archive: Path, directory: Path) -> None:
        """Leave the wheel and ``tree`` in ``directory``, and nothing else."""
        made = source.SourceArchive(path=archive, release=self.release)
        unpacked = source.unpack(made, files.empty_directory(directory / "unpacked"))
        tree = unpacked.rename(directory / "tree")
        # The compiler of Cython sources, written in Python there, runs in any interpreter.
        wheelhouse = self._wheelhouse(self.target)
        offline = ("--no-config", "--offline", "--no-index", "--find-links", wheelhouse)
        words: list[str | Path] = [
            *("--python", self.interpreter.path),
            *(f"--config-setting={name}={value}" for name, value in self.recipe.build.settings()),
            *("--out-dir", directory / "out", tree),
        ]
        try:
            uv = Path(find_uv_bin())
            seen = (uv, wheelhouse, *self.tools, *files_of(self.interpreter.path))
            with running_jail(readable=seen, writable=[directory]) as jail:
                jail.run(
                    [uv, "build", "--wheel", *offline, *words],
                    cwd=directory,
                    env={
                        **process.confined(directory / "no-home"),
                        "PYTHONHASHSEED": "0",
                        **self.recipe.build.variables(self.release.version, self.version),
                        **self.variables(tree),
                    },
                    log=self.log,
                    timeout=_BUILD_TIMEOUT,
                )
        except CommandFailed as error:
            raise ProofError(
                f"{archive.name} could not be compiled {self.how}",
                problems=[f"the whole log: {self.log}"],
                hint="fix the cause, then run the same command again",
                output=error.output,
            ) from error
        (wheel,) = (directory / "out").glob("*.whl")
        files.write_bytes(wheel, files.read_foreign(wheel, _MAX_WHEEL))  # a plain file, or an error
        self.check(wheel)
        wheel.rename(directory / wheel.name)
        for name in ("out", "sdist", "unpacked"):
            shutil.rmtree(directory / name)

    def _wheelhouse(self, target: str | None) -> Path:
        lock = requirements.build_lock(self.recipe.build.requires)
        return fetch_requirements(lock, self.workspace.requirements, target=target)
