"""Real builds, at the first use of each wheel; a second run of the tests finds them fresh."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from uv import find_uv_bin

from freewheel.base.workspace import SHARED, Workspace, find_workspace, share_cache
from freewheel.build import buildinfo
from freewheel.machine.interpreter import Interpreter, find_interpreter
from freewheel.machine.postgres import running_postgres
from freewheel.recipe.recipe import Release, choose_recipe, load_recipes

ROOT = Path(__file__).parents[2]
# A project that links to the probes of another one is the same under a second name.
RECIPES = tuple(
    recipe
    for recipe in load_recipes(ROOT / "recipes", ROOT / "patches")
    if not (ROOT / "probes" / recipe.name).is_symlink()
)
NEWEST = [pytest.param(recipe.default_release, id=recipe.name) for recipe in RECIPES]


@dataclass(frozen=True)
class Checkout:
    """A checkout with the repository's recipes and patches, and ``wheels/`` of its own."""

    workspace: Workspace

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "freewheel", *words]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "FREEWHEEL_CACHE": str(self.workspace.cache),
            "FREEWHEEL_DATA": str(self.workspace.data),
        }

    def freewheel(self, *words: str, code: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run the command line; what it printed. Fails the test on another exit code."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.workspace.root,
            env={**self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def record(self, project: str, version: str, *, baseline: bool = False) -> buildinfo.Record:
        directory = self.workspace.baseline if baseline else self.workspace.wheels
        for record in buildinfo.read_records(directory):
            if (record.project, record.version) == (project, version):
                return record
        raise AssertionError(f"no wheel of {project} {version} in {directory}")

    def release(self, project: str, version: str = "") -> Release:
        """A release of this checkout's recipe, by default the newest."""
        recipes = load_recipes(self.workspace.recipes, self.workspace.patches)
        recipe = choose_recipe(recipes, project)
        return recipe.release(version) if version else recipe.default_release

    def patched(self, project: str, version: str = "") -> buildinfo.Record:
        """The record of a release's patched wheel, whatever its revision is now."""
        return self.record(project, self.release(project, version).local_version)

    def baseline(self, project: str, version: str = "") -> buildinfo.Record:
        """The record of a release's wheel without patches."""
        return self.record(project, self.release(project, version).version, baseline=True)


@dataclass(frozen=True)
class Builder(Checkout):
    """A checkout that builds a wheel when a test first asks for it."""

    asked: set[tuple[str, ...]] = field(default_factory=set)

    def patched(self, project: str, version: str = "") -> buildinfo.Record:
        self._build(project, version)
        return super().patched(project, version)

    def baseline(self, project: str, version: str = "") -> buildinfo.Record:
        self._build(project, version, "--baseline")
        return super().baseline(project, version)

    def _build(self, project: str, version: str, *options: str) -> None:
        words = (project, "--release", self.release(project, version).version, *options)
        if words not in self.asked:
            self.freewheel("build", *words)
            self.asked.add(words)


def make_checkout(root: Path, *, cache: Path, data: Path, copy: bool) -> Checkout:
    """The repository's recipes, patches and probes in ``root``: copies to change, or links."""
    root.mkdir(parents=True, exist_ok=True)
    for name in ("recipes", "patches", "probes"):
        if copy:
            shutil.copytree(ROOT / name, root / name)
        else:
            # The cache may have served another checkout before.
            (root / name).unlink(missing_ok=True)
            (root / name).symlink_to(ROOT / name)
    return Checkout(workspace=Workspace(root=root, cache=cache, data=data))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the tests' own: nothing that is faked or fails here reaches the user's results.

    What was fetched and checked by digest is the user's, and stays for the next run.
    """
    users = find_workspace(ROOT).cache
    for name in SHARED:
        (users / name).mkdir(parents=True, exist_ok=True)
    mine = tmp_path_factory.mktemp("cache")
    share_cache(users, mine)
    return mine


@pytest.fixture(scope="session")
def built(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """A checkout in which each wheel is built when a test first asks for it.

    Its wheels are kept between runs. Its index is not: patches may have been changed since, and
    nothing of it is published.
    """
    root = find_workspace(ROOT).cache / "tests"
    made = make_checkout(root, cache=cache, data=tmp_path_factory.mktemp("data"), copy=False)
    shutil.rmtree(made.workspace.simple, ignore_errors=True)
    return Builder(workspace=made.workspace)


@pytest.fixture(scope="session")
def proven(built: Builder, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with the newest httptools alone, put to the full proof.

    The other projects' full proofs take longer than tests should; `nox -s prove` runs them.
    """
    workspace = built.workspace
    root = tmp_path_factory.mktemp("proven")
    checkout = make_checkout(root, cache=workspace.cache, data=workspace.data, copy=False)
    built.patched("httptools")
    built.baseline("httptools")
    copy_wheels(built, checkout, f"httptools-{built.release('httptools').version}*")
    checkout.freewheel("prove", "httptools")
    return checkout


def copy_wheels(source: Checkout, target: Checkout, pattern: str) -> None:
    """Copy the wheels, patched and baseline, that the pattern names, with what lies beside them."""
    for name in ("wheels", "baseline"):
        there: Path = getattr(target.workspace, name)
        there.mkdir(parents=True, exist_ok=True)
        for path in getattr(source.workspace, name).glob(pattern):
            shutil.copyfile(path, there / path.name)


@pytest.fixture(scope="session")
def interpreter(built: Checkout) -> Interpreter:
    return find_interpreter(built.workspace)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with running_postgres() as dsn:
        yield dsn


@dataclass(frozen=True)
class Environment:
    """A fresh cp314t virtual environment."""

    python: Path

    def uv(self, *words: str | Path) -> None:
        subprocess.run([find_uv_bin(), *words], check=True, env=clean_environment())

    def install(self, *wheels: Path) -> None:
        self.uv("pip", "install", "--quiet", "--no-deps", "--python", self.python, *wheels)

    def run(
        self, *words: str | Path, env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, *words],
            env={**clean_environment(), **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def make_environment(
    directory: Path, interpreter: Interpreter, seed: Sequence[str] = ()
) -> Environment:
    """A virtual environment; with ``--seed`` it has pip."""
    subprocess.run(
        [find_uv_bin(), "venv", "--quiet", *seed, "--python", interpreter.path, directory],
        check=True,
        env=clean_environment(),
    )
    return Environment(python=directory / "bin" / "python")


def clean_environment() -> dict[str, str]:
    """The environment without what would hide a fault, or point to nox's own environment."""
    unwanted = ("PYTHON_GIL", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in unwanted}
