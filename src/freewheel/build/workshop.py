"""Where an sdist is made and a wheel is imported: in a sandbox, or on a machine that has none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from packaging.utils import parse_sdist_filename, parse_wheel_filename
from uv import find_uv_bin

from freewheel.base import console, files, process
from freewheel.base.errors import CommandFailed, MachineError
from freewheel.base.wheel_archive import open_wheel
from freewheel.base.workspace import Workspace
from freewheel.machine.engine import Engine, find_engine
from freewheel.machine.image import find_or_make_image
from freewheel.machine.interpreter import Interpreter
from freewheel.machine.interpreter import python_of as python_in
from freewheel.machine.requirements import fetch_requirements
from freewheel.machine.sandbox import PATH, Mount, Sandbox, running_sandbox
from freewheel.recipe.pythons import python_of
from freewheel.recipe.targets import in_container

IMPORTING = Path(__file__).with_name("importing.py")
_REQUIREMENTS = "/freewheel/requirements"
_JOB = "/freewheel/job"
_BUILD_PATIENCE = 900.0  # seconds
_IMPORT_PATIENCE = 120.0
_NOT_INSTALLED = 121  # the exit code that tells this from what importing does
_TOOLS = "/freewheel/bin"
_OFFLINE = {
    "PATH": f"{_TOOLS}:{PATH}",
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": _REQUIREMENTS,
    "PIP_NO_COMPILE": "1",
    "UV_OFFLINE": "1",
    "UV_CACHE_DIR": "/tmp/uv",  # noqa: S108  in the container
    "UV_CONFIG_FILE": "/tmp/uv.toml",  # noqa: S108
    "UV_PYTHON_DOWNLOADS": "never",
}
# uv takes a fifth of pip's time; this machine's does not run in every image.
_CHOOSE = f"""set -e
printf '[pip]\\nno-index = true\\nfind-links = ["{_REQUIREMENTS}"]\\n' > "$UV_CONFIG_FILE"
uv --version >/dev/null 2>&1 && installer=uv || installer=pip
"""
# $1 is the tree, $2 the interpreter; the rest are words for the frontend.
_BUILD = f"""{_CHOOSE}
mkdir -p /making/out; cp -R --preserve=mode,timestamps "$1" /making/tree; cd /making
python=$2; shift 2
exec "$python" -m build --sdist --installer $installer --outdir /making/out "$@" /making/tree"""
# $1 is the interpreter, $2 the wheel, $3 a directory of what it needs; then what imports it.
_IMPORT = f"""{_CHOOSE}
rm -rf /env; "$1" -m venv --without-pip /env
for site in /env/lib/python*/site-packages; do echo "$3" > "$site/needed.pth"; done
if [ $installer = uv ]; then uv pip install --quiet --no-deps --python /env/bin/python "$2"
else "$1" -m pip --python /env/bin/python install --quiet --no-deps "$2"
fi || exit {_NOT_INSTALLED}
shift 3; exec /env/bin/python -I -W error "$@" """


class Workshop(Protocol):
    """A place where foreign code may run."""

    def build_sdist(
        self,
        tree: Path,
        directory: Path,
        settings: Sequence[str],
        variables: Mapping[str, str],
        log: Path,
    ) -> None:
        """Have the tree's build backend make an sdist into a directory. Raises CommandFailed."""
        ...

    def import_wheel(self, wheel: Path, words: Sequence[str], scratch: Path) -> process.Finished:
        """Install a wheel, and run importing.py with those words. Raises CommandFailed."""
        ...

    def python_version(self) -> str:
        """The version of the interpreter that a wheel is imported with: ``3.14.7``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InSandbox:
    """A container for the steps of one job; ``scratch`` is the job's directory, which it sees."""

    sandbox: Sandbox
    scratch: Path
    target: str

    def build_sdist(
        self,
        tree: Path,
        directory: Path,
        settings: Sequence[str],
        variables: Mapping[str, str],
        log: Path,
    ) -> None:
        """As of a Workshop."""
        python = f"{python_of(self.target).prefix}/bin/python"
        words = ("sh", "-c", _BUILD, "sh", self._seen(tree), python, *settings)
        self.sandbox.run(
            words, timeout=_BUILD_PATIENCE, variables={**_OFFLINE, **variables}, log=log
        )
        listed = self.sandbox.run(("ls", "/making/out"), timeout=_IMPORT_PATIENCE).stdout.split()
        for name in listed[:2]:  # more than one is an error, which the caller says
            parse_sdist_filename(name)
            self.sandbox.take(f"/making/out/{name}", directory / name)

    def import_wheel(self, wheel: Path, words: Sequence[str], scratch: Path) -> process.Finished:
        """As of a Workshop."""
        needed = files.empty_directory(scratch / "needed")
        _provide_needed(wheel, self.target, needed)
        python = f"{python_of(self.target).prefix}/bin/python"
        seen = [self._seen(wheel), self._seen(needed), "/importing.py"]
        done = self.sandbox.run(
            ("sh", "-c", _IMPORT, "sh", python, *seen, *words),
            variables=_OFFLINE,
            timeout=_IMPORT_PATIENCE,
            check=False,
        )
        if done.returncode == _NOT_INSTALLED:
            raise CommandFailed(done.argv, done.returncode, done.stdout + done.stderr)
        return done

    def python_version(self) -> str:
        """As of a Workshop."""
        program = "import platform; print(platform.python_version())"
        words = (f"{python_of(self.target).prefix}/bin/python", "-I", "-c", program)
        return self.sandbox.run(words, timeout=_IMPORT_PATIENCE).stdout.strip()

    def _seen(self, path: Path) -> str:
        return f"{_JOB}/{path.relative_to(self.scratch).as_posix()}"


def _provide_needed(wheel: Path, target: str, directory: Path) -> None:
    """Put what the wheel requires into a directory: wheels alone, so that nothing of them runs.

    Raises CommandFailed.
    """
    with open_wheel(wheel) as archive:
        listed = archive.headers("METADATA").get_all("Requires-Dist", [])
    needed = [str(line) for line in listed if "extra" not in str(line).partition(";")[2]]
    if not needed:
        return
    kind, _, machine = target.partition("-")[2].partition("_")
    libc = "musl" if kind == "musllinux" else "gnu"
    process.run(
        [
            *(find_uv_bin(), "pip", "install", "--quiet", "--target", directory),
            *("--only-binary", ":all:", "--python", sys.executable),
            *("--python-version", python_of(target).version),
            *("--python-platform", f"{machine}-unknown-linux-{libc}", *needed),
        ],
        timeout=_BUILD_PATIENCE,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OnThisMachine:
    """Without a container: foreign code gets a list of harmless variables, and an empty home."""

    interpreter: Interpreter
    requirements: Path

    def build_sdist(
        self,
        tree: Path,
        directory: Path,
        settings: Sequence[str],
        variables: Mapping[str, str],
        log: Path,
    ) -> None:
        """As of a Workshop."""
        home = files.empty_directory(directory.with_name("home"))
        uv_settings = directory.with_name("uv.toml")
        # A file, since uv has no variable for it: nothing may come from an index.
        uv_settings.write_text(
            f"[pip]\nno-index = true\nfind-links = [{json.dumps(str(self.requirements))}]\n",
            encoding="utf-8",
        )
        # What a backend asks for by the version of Python is for the wheel's, not for the one that
        # runs here: the lock decides. The build of the wheel holds all of it against the lock.
        overrides = directory.with_name("overrides.txt")
        found = (parse_wheel_filename(wheel.name) for wheel in self.requirements.glob("*.whl"))
        lines = sorted(f"{name}=={version}\n" for name, version, _, _ in found)
        overrides.write_text("".join(lines), encoding="utf-8")
        words: list[str | Path] = ["--outdir", directory, *settings, tree]
        process.run(
            [sys.executable, "-m", "build", "--sdist", "--installer", "uv", *words],
            env={
                **process.confined(home),
                "UV_CONFIG_FILE": str(uv_settings),
                "UV_OVERRIDE": str(overrides),
                "UV_OFFLINE": "1",
                **variables,
            },
            log=log,
            timeout=_BUILD_PATIENCE,
        )

    def import_wheel(self, wheel: Path, words: Sequence[str], scratch: Path) -> process.Finished:
        """As of a Workshop."""
        environment = scratch / "environment"
        python = python_in(environment)
        uv = find_uv_bin()
        process.run(
            [uv, "venv", "--quiet", "--no-project", "-p", self.interpreter.path, environment]
        )
        process.run(
            [uv, "pip", "install", "--quiet", "--only-binary", ":all:", "--python", python, wheel]
        )
        return process.run(
            [python, "-I", "-W", "error", IMPORTING, *words],
            cwd=scratch,
            env=process.confined(files.empty_directory(scratch / "home")),
            timeout=_IMPORT_PATIENCE,
            check=False,
        )

    def python_version(self) -> str:
        """As of a Workshop."""
        return self.interpreter.version


@contextmanager
def in_sandbox(
    engine: Engine, image: str, *, scratch: Path, target: str, requirements: Path
) -> Iterator[InSandbox]:
    """A workshop in a container, for as long as the block runs."""
    mounts = (
        Mount(source=scratch, target=_JOB),
        Mount(source=requirements, target=_REQUIREMENTS),
        Mount(source=IMPORTING, target="/importing.py"),
        Mount(source=Path(find_uv_bin()), target=f"{_TOOLS}/uv"),
    )
    with running_sandbox(engine, image, mounts) as sandbox:
        yield InSandbox(sandbox=sandbox, scratch=scratch, target=target)


@contextmanager
def workshop_for(
    workspace: Workspace, lock: str, *, scratch: Path, target: str, interpreter: Interpreter
) -> Iterator[Workshop]:
    """As builds have it: a sandbox; or this machine where it has no engine, which is said once.

    ``lock`` is the text of the lock of the build requirements.
    """
    found = _engine(workspace) if in_container(target) else None
    if found is None:
        _say_once()
        wheelhouse = fetch_requirements(lock, workspace.requirements)
        yield OnThisMachine(interpreter=interpreter, requirements=wheelhouse)
        return
    image = find_or_make_image(workspace, found, target)
    wheelhouse = fetch_requirements(lock, workspace.requirements, target=target)
    with in_sandbox(
        found, image.reference, scratch=scratch, target=target, requirements=wheelhouse
    ) as workshop:
        yield workshop


def _engine(workspace: Workspace) -> Engine | None:
    try:
        return find_engine(workspace, may_install=False)
    except MachineError:
        return None


@cache
def _say_once() -> None:
    console.warn(
        "there is no container engine for this: upstream's code runs on this machine itself, "
        "without your variables and home, but with its files and network (docs/security.md)"
    )
