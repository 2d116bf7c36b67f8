"""The two stacks that the application runs on: what is locked, and how it is installed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from packaging.version import Version
from uv import find_uv_bin

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed, FetchError
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo
from freewheel.machine.interpreter import Interpreter
from freewheel.recipe.pythons import DEFAULT, PYTHONS, Python

_STACKS = Path(__file__).with_name("stacks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Releases of our four projects, a lock of everything else, and what its users set.

    ``unpublished`` are those of the four that have no public wheel for cp314t in that release.
    ``pythons`` are the interpreters that its releases are built for.
    The lock of the rest names neither an index nor our wheels, whose digests change with each
    patch: ``ours`` pins those when they are installed, as ``wheels/requirements.txt`` does.
    """

    name: str
    releases: dict[str, str]
    variables: dict[str, str] = field(default_factory=dict)
    unpublished: tuple[str, ...] = ()
    pythons: tuple[Python, ...] = PYTHONS

    @property
    def lock(self) -> Path:
        """Versions and hashes of everything but our four."""
        return _STACKS / f"{self.name}.txt"

    @property
    def upstream_lock(self) -> Path:
        """Versions and hashes of our four as the public index has them."""
        return _STACKS / f"{self.name}-upstream.txt"


STACKS = (
    Stack(
        name="newest",
        releases={
            "asyncpg": "0.32.0",
            "greenlet": "3.5.6",
            "httptools": "0.9.0",
            "sqlalchemy": "2.1.9",
        },
    ),
    Stack(
        name="pinned",
        releases={
            "asyncpg": "0.31.0",
            "greenlet": "3.3.1",
            "httptools": "0.7.1",
            "sqlalchemy": "2.0.58",
        },
        # The module of the public httptools has not declared that it can do without the GIL.
        variables={"PYTHON_GIL": "0"},
        unpublished=("httptools",),
        pythons=(DEFAULT,),
    ),
)


def ours(stack: Stack, workspace: Workspace) -> list[str]:
    """The lines that pin the stack's patched wheels with their hashes.

    Raises FetchError where one of them was not built.
    """
    records = [
        record for record in buildinfo.read_records(workspace.wheels) if record.wheel.is_file()
    ]
    lines: list[str] = []
    missing: list[str] = []
    for project, release in stack.releases.items():
        of_release = [
            record
            for record in records
            if record.project == project and record.version.startswith(f"{release}+ft.")
        ]
        if not of_release:
            missing.append(f"{project} {release}")
            continue
        newest = max(of_release, key=lambda record: Version(record.version)).version
        hashes = sorted({record.sha256 for record in of_release if record.version == newest})
        pinned = [f"{project}=={newest}", *(f"    --hash=sha256:{digest}" for digest in hashes)]
        lines.append(" \\\n".join(pinned))
    if missing:
        raise FetchError(
            f"{workspace.wheels} has no patched wheel of {', '.join(missing)}",
            hint="nox -s build -- --all-releases",
        )
    return lines


def install(
    stack: Stack, workspace: Workspace, interpreter: Interpreter, directory: Path, *, upstream: bool
) -> Path:
    """Make an environment of the stack in ``directory``; its interpreter.

    Ours come from the private index alone and everything else from the user's own, all by hash.
    With ``upstream`` the four are the public wheels. Raises FetchError.
    """
    files.empty_directory(directory)
    environment = directory / "environment"
    python = environment / "bin" / "python"
    try:
        _uv("venv", "--no-project", "--python", interpreter.path, environment)
        if upstream:
            _install_upstream(stack, workspace, python)
        else:
            pins = directory / "ours.txt"
            files.write_text(pins, "".join(f"{line}\n" for line in ours(stack, workspace)))
            _install(python, pins, "--default-index", workspace.simple.as_uri() + "/")
        _install(python, stack.lock)
    except CommandFailed as error:
        raise FetchError(
            f"the {stack.name} stack cannot be installed",
            output=error.output,
            hint="read what uv says above; the locks are renewed with `nox -s application -- "
            "--update-locks`",
        ) from error
    return python


def _install_upstream(stack: Stack, workspace: Workspace, python: Path) -> None:
    """The public wheels; where a release has none, the unpatched one that we built ourselves."""
    _install(python, stack.upstream_lock)
    for project in stack.unpublished:
        release = stack.releases[project]
        built = [
            record.wheel
            for record in buildinfo.read_records(workspace.baseline)
            if (record.project, record.version) == (project, release)
        ]
        if not built:
            raise FetchError(
                f"there is no public wheel of {project} {release} for free-threaded CPython 3.14, "
                f"and {workspace.baseline} has none either",
                hint=f"nox -s build-{project} -- --release {release} --baseline",
            )
        _uv("pip", "install", "--no-deps", "--python", python, built[0])


def _install(python: Path, lock: Path, *options: str) -> None:
    locked = ("--require-hashes", "--no-deps", "--only-binary", ":all:")
    _uv("pip", "install", *locked, *options, "--python", python, "--requirement", lock)


def _uv(*words: str | Path) -> process.Finished:
    # The environment is nox's own otherwise.
    return process.run([find_uv_bin(), *words], env={"VIRTUAL_ENV": None}, timeout=600)


def installed(python: Path) -> dict[str, str]:
    """The versions of what is installed in an environment, by project."""
    listed = _uv("pip", "list", "--format", "json", "--python", python).stdout
    return {item["name"]: item["version"] for item in json.loads(listed)}


# ---------------------------------------------------------------------------------------- locks


def update_locks(interpreter: Interpreter, scratch: Path) -> None:
    """Resolve the locks again from their ``.in`` files. Raises CommandFailed."""
    for stack in STACKS:
        left_out = [f"--no-emit-package={project}" for project in stack.releases]
        _compile(stack.lock.with_suffix(".in"), stack.lock, interpreter, *left_out)
        public = scratch / f"{stack.name}.in"
        pins = [
            f"{project}=={release}\n"
            for project, release in stack.releases.items()
            if project not in stack.unpublished
        ]
        public.write_text("".join(pins), encoding="utf-8")
        _compile(public, stack.upstream_lock, interpreter, "--no-deps")


def _compile(source: Path, lock: Path, interpreter: Interpreter, *options: str) -> None:
    form = ("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url")
    words: list[str | Path] = ["pip", "compile", "--quiet", "--upgrade", *form, *options]
    _uv(*words, "--python", interpreter.path, "--output-file", lock, source)
