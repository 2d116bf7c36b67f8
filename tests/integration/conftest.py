"""Real builds, kept between runs: a second run of the tests finds its wheels fresh."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from uv import find_uv_bin

from freewheel.base.errors import PackageIndexError
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build import buildinfo
from freewheel.machine.interpreter import Interpreter, find_interpreter
from freewheel.machine.postgres import running_postgres
from freewheel.recipe.recipe import choose_recipe, load_recipes

ROOT = Path(__file__).parents[2]


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

    def patched(self, project: str, release: str) -> buildinfo.Record:
        """The record of a release's patched wheel, whatever its revision is now."""
        recipes = load_recipes(self.workspace.recipes, self.workspace.patches)
        found = choose_recipe(recipes, project).release(release)
        return self.record(project, found.local_version)


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
def cache() -> Path:
    return find_workspace(ROOT).cache


@pytest.fixture(scope="session")
def built(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Every release of every recipe, patched and as a baseline."""
    data = tmp_path_factory.mktemp("data")
    checkout = make_checkout(cache / "tests", cache=cache, data=data, copy=False)
    command = checkout.command("build", "--all-releases")
    done = subprocess.run(
        command, cwd=checkout.workspace.root, env=checkout.environment, check=False
    )
    if done.returncode == PackageIndexError.exit_code:
        # Patches were changed since the last run of the tests, and nothing here is published.
        shutil.rmtree(checkout.workspace.wheels)
        checkout.freewheel("build", "--all-releases")
    else:
        assert done.returncode == 0
    checkout.freewheel("build", "--all-releases", "--baseline")
    return checkout


@pytest.fixture(scope="session")
def tried(built: Checkout) -> Checkout:
    """The same, every release put to a quick proof; runs for the same bytes are kept."""
    built.freewheel("prove", "--all-releases", "--quick")
    return built


@pytest.fixture(scope="session")
def proven(tried: Checkout) -> Checkout:
    """A checkout with the newest httptools alone, put to the full proof.

    The other projects' full proofs take longer than tests should; `nox -s prove` runs them.
    """
    workspace = tried.workspace
    root = workspace.root.with_name("proven")
    checkout = make_checkout(root, cache=workspace.cache, data=workspace.data, copy=False)
    if checkout.workspace.wheels.exists():
        shutil.rmtree(checkout.workspace.wheels)
    copy_wheels(tried, checkout, "httptools-0.9.0*")
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
