"""Find, or obtain, a free-threaded CPython on this machine to test wheels with."""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import console, files, process
from freewheel.base.errors import CommandFailed, FreewheelError, MachineError
from freewheel.base.workspace import Workspace
from freewheel.machine import debian, local_image
from freewheel.machine.engine import Engine, find_engine
from freewheel.recipe.pythons import DEFAULT, Python, note_of

_MODULES = ("bz2", "ctypes", "ensurepip", "lzma", "sqlite3", "ssl", "venv", "zlib")
# What the modules of a copied interpreter load, by the beginning of the package's name: Debian's
# names carry the library's version.
_LIBRARIES = (
    "libbz2-1",
    "libffi",
    "liblzma",
    "libsqlite3-",
    "libssl",
    "libuuid",
    "libzstd",
    "zlib1",
)
_LOOK_TIMEOUT = 60.0  # seconds
_INSTALL_TIMEOUT = 600.0  # seconds for uv to download an interpreter
_COPY_TIMEOUT = 300.0  # seconds

# Answers as JSON, so that a candidate of any version can be asked.
_QUESTIONS = """
import json, platform, sys, sysconfig
failed = {}
for name in sys.argv[1:]:
    try:
        __import__(name)
    except ImportError as error:
        failed[name] = str(error)
try:
    import ensurepip
    ensurepip.version()
except Exception as error:
    failed["ensurepip"] = repr(error)
print(json.dumps({
    "version": platform.python_version(),
    "build": sys.version,
    "minor": list(sys.version_info[:2]),
    "implementation": sys.implementation.name,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
    "failed": failed,
}))
"""
_PLACES = """
import os, sys, sysconfig
places = sysconfig.get_paths()
library = os.path.join(*map(sysconfig.get_config_var, ("LIBDIR", "INSTSONAME")))
print(sys.executable, sys.base_prefix, places["stdlib"], places["platstdlib"], sep="\\n")
if os.path.exists(library):
    print(library)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A CPython that runs, free-threaded unless it is the default build for a comparison.

    ``origin`` says where it comes from.

    ``build`` is its ``sys.version``: when and by which compiler it was built.
    """

    path: Path
    version: str
    build: str
    origin: str

    @property
    def minor(self) -> str:
        """The minor version: ``3.14``."""
        return ".".join(self.version.split(".")[:2])

    @property
    def note(self) -> str:
        """What has to be known of it: that it is not a final release; else ""."""
        return note_of(self.version)


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment, wherever this system puts it."""
    if sys.platform == "win32":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


@functools.cache
def files_of(path: Path) -> tuple[Path, ...]:
    """What an interpreter needs to run: its executable and its prefix.

    Where the user's home directory is below that, its library stands for it.
    """
    told = process.run([path, "-I", "-c", _PLACES], timeout=_LOOK_TIMEOUT).stdout.splitlines()
    executable, prefix, *libraries = map(Path, told)
    if Path.home().is_relative_to(prefix):
        return (path, executable, *libraries)
    return (path, executable, prefix)


def find_interpreter(
    workspace: Workspace, python: Python = DEFAULT, *, obtain: bool = True
) -> Interpreter:
    """The interpreter to test with: the first that passes, from the user's own to a made one.

    In this order: one that ``FREEWHEEL_PYTHON`` names (if it is set, one of them must pass), one on
    PATH, one kept in the cache, one that uv has. With ``obtain``, also one that uv installs into
    the cache, and a copy out of the local builder image, which is made for it if need be. Raises
    MachineError.
    """
    if named := os.environ.get("FREEWHEEL_PYTHON"):
        return _named(named.split(os.pathsep), python)
    problems: list[str] = []
    for path, origin in _present(workspace, python):
        if found := check(path, python, origin, problems):
            return found
    if obtain:
        with files.locked(workspace.locks / "interpreter.lock", what="obtaining an interpreter"):
            for path, origin in _kept(workspace, python):
                if found := check(path, python, origin, []):
                    return found
            if found := _install_with_uv(workspace, python, problems):
                return found
            if found := _copy_from_image(workspace, python, problems):
                return found
    raise MachineError(
        f"no free-threaded CPython {python.version} to test wheels with",
        problems=problems,
        hint=f"`uv python install {python.request}`, or name one: "
        "`export FREEWHEEL_PYTHON=/path/to/python`",
    )


def check(path: Path, python: Python, origin: str, problems: list[str]) -> Interpreter | None:
    """Run a candidate; None, and the reason added to ``problems``, when it will not do."""
    try:
        answer = process.run([path, "-I", "-c", _QUESTIONS, *_MODULES], timeout=_LOOK_TIMEOUT)
        facts = json.loads(answer.stdout)
    except (CommandFailed, ValueError) as error:
        said = error.output if isinstance(error, CommandFailed) else str(error)
        problems.append(f"{origin} {path}: does not run: {said.strip().splitlines()[-1:]}")
        return None
    if reasons := unfit(facts, python):
        problems.append(f"{origin} {path}: {'; '.join(reasons)}")
        return None
    return Interpreter(path=path, version=facts["version"], build=facts["build"], origin=origin)


def unfit(facts: dict[str, object], python: Python) -> list[str]:
    """Why an interpreter that gave these answers cannot test wheels for ``python``."""
    reasons = []
    if facts["implementation"] != "cpython" or facts["minor"] != list(python.minor):
        said = f"{facts['implementation']} {facts['version']}"
        reasons.append(f"is {said}, not CPython {python.version}")
    if facts["free_threaded"] != python.free_threaded:
        reasons.append(f"is {'not ' if python.free_threaded else ''}a free-threaded build")
    elif python.free_threaded and facts["gil"]:
        reasons.append("runs with the GIL on (is PYTHON_GIL=1 set?)")
    failed = facts["failed"]
    if isinstance(failed, dict):
        reasons += [f"cannot use {name}: {why}" for name, why in failed.items()]
    return reasons


def _named(paths: Sequence[str], python: Python) -> Interpreter:
    problems: list[str] = []
    for path in paths:
        if found := check(Path(path), python, "FREEWHEEL_PYTHON", problems):
            return found
    raise MachineError(
        f"FREEWHEEL_PYTHON names no interpreter to test {python} wheels with",
        problems=problems,
        hint=f"correct it (one path, or several with {os.pathsep!r} between), or unset it to let "
        "Freewheel find one",
    )


# ------------------------------------------------------------------------------- what is there


def _present(workspace: Workspace, python: Python) -> Iterator[tuple[Path, str]]:
    if on_path := shutil.which(python.program):
        yield Path(on_path), "PATH"
    yield from _kept(workspace, python)
    if uv := uv_program():
        options = ("--system", "--no-project", "--no-python-downloads")
        asked = process.run(
            [uv, "python", "find", *options, python.request],
            timeout=_LOOK_TIMEOUT,
            check=False,
        )
        if asked.returncode == 0:
            yield Path(asked.stdout.strip()), "uv"


def _kept(workspace: Workspace, python: Python) -> Iterator[tuple[Path, str]]:
    home = _home(workspace)
    copied = sorted(home.glob(f"*/bin/{python.program}"), reverse=True)
    for path in [*copied, *_installed(home / "uv", python)]:
        if not path.parents[1].name.endswith(files.PARTIAL):
            yield path, "cache"


def _installed(home: Path, python: Python) -> list[Path]:
    """What uv has put there, newest first; on Windows it makes no directory for programs."""
    name = python.program
    pattern = f"*/{name}.exe" if sys.platform == "win32" else f"*/bin/{name}"
    return sorted(home.glob(pattern), reverse=True)


def _home(workspace: Workspace) -> Path:
    return workspace.cache / "interpreters"


def uv_program() -> Path | None:
    """The uv beside this interpreter, else the one on PATH."""
    beside = Path(sys.executable).with_name("uv.exe" if sys.platform == "win32" else "uv")
    if beside.exists():
        return beside
    found = shutil.which("uv")
    return Path(found) if found else None


# ---------------------------------------------------------------------------------- obtaining one


def _install_with_uv(
    workspace: Workspace, python: Python, problems: list[str]
) -> Interpreter | None:
    uv = uv_program()
    if uv is None:
        problems.append("uv: not installed")
        return None
    console.note(f"asking uv for a free-threaded CPython {python.version}, into the cache")
    home = _home(workspace) / "uv"
    try:
        process.run(
            [uv, "python", "install", "--no-bin", python.request],
            env={"UV_PYTHON_INSTALL_DIR": str(home), "UV_HTTP_RETRIES": "1"},
            timeout=_INSTALL_TIMEOUT,
        )
    except CommandFailed as error:
        said = (error.output.strip().splitlines() or [error.summary])[-1].strip()
        problems.append(f"uv: {said}")
        console.note(f"uv cannot have it here: {said}")
        return None
    for path in _installed(home, python):
        if found := check(path, python, "uv", problems):
            return found
    return None


def _copy_from_image(
    workspace: Workspace, python: Python, problems: list[str]
) -> Interpreter | None:
    """The interpreter of the local builder image; it finds its own library wherever it stands."""
    target = f"{python}-manylinux_{platform.machine()}"
    try:
        engine = find_engine(workspace, may_install=True)
        image = local_image.find(engine, target) or local_image.make(workspace, engine, target)
        path = _copy(workspace, engine, image, python)
    except FreewheelError as error:
        problems.append(f"builder image: {error.summary}")
        return None
    missing: list[str] = []
    if found := check(path, python, "builder image", missing):
        return found
    if debian.can_install():
        wanted = runtime_packages(image_packages(path.parents[1]))
        try:
            debian.install(wanted, why="the interpreter from the builder image loads them")
        except debian.AptError as error:
            problems.append(f"builder image: {error.summary}")
    return check(path, python, "builder image", problems)


def _copy(
    workspace: Workspace, engine: Engine, image: local_image.LocalImage, python: Python
) -> Path:
    """Copy the tree out of ``image``, whole or not at all, and return its interpreter."""
    final = _home(workspace) / f"image-{image.specification.digest[:16]}"
    program = final / "bin" / python.program
    if program.exists():
        return program
    console.note("copying the interpreter out of the builder image")
    partial = files.empty_directory(final.with_name(final.name + files.PARTIAL))
    container = engine.call(
        "create",
        "--network=none",
        *engine.create_args,
        image.specification.reference,
        timeout=_COPY_TIMEOUT,
    ).stdout.split()[-1]
    try:
        engine.call("cp", f"{container}:{python.prefix}/.", partial, timeout=_COPY_TIMEOUT)
        engine.call(
            "cp",
            f"{container}:/freewheel-manifest.txt",
            partial / "freewheel-manifest.txt",
            timeout=_COPY_TIMEOUT,
        )
    finally:
        engine.call("rm", "--force", container, check=False, timeout=_COPY_TIMEOUT)
    _drop_scripts(partial / "bin")
    partial.rename(final)
    return program


def _drop_scripts(directory: Path) -> None:
    """Remove the scripts that would start the interpreter at its place in the image."""
    for path in directory.iterdir():
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(2) == b"#!":
                    path.unlink()


def image_packages(tree: Path) -> tuple[str, ...]:
    """The names of the packages that the image of a copied interpreter was made of."""
    manifest = tree / "freewheel-manifest.txt"
    lines = manifest.read_text(encoding="utf-8").splitlines() if manifest.exists() else []
    return tuple(line.partition("=")[0] for line in lines)


def runtime_packages(installed: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the installed packages that a copied interpreter's modules load."""
    return tuple(
        name
        for name in installed
        if name.startswith(_LIBRARIES) and not name.endswith(("-dev", "-bin", "-data"))
    )
