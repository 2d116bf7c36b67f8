"""Find, or obtain, a free-threaded CPython 3.14 on this machine to test wheels with."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import console, files, process
from freewheel.base.errors import CommandFailed, FreewheelError, MachineError
from freewheel.base.workspace import Workspace
from freewheel.machine import debian, local_image
from freewheel.machine.engine import Engine, find_engine

_PREFIX = "/opt/python/cp314-cp314t"  # in every builder image
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A CPython 3.14 that runs, free-threaded unless it is the default build for a comparison.

    ``origin`` says where it comes from.

    ``build`` is its ``sys.version``: when and by which compiler it was built.
    """

    path: Path
    version: str
    build: str
    origin: str


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment, wherever this system puts it."""
    if sys.platform == "win32":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


def find_interpreter(workspace: Workspace, *, obtain: bool = True) -> Interpreter:
    """The interpreter to test with: the first that passes, from the user's own to a made one.

    In this order: ``FREEWHEEL_PYTHON`` (which then must pass), python3.14t on PATH, one kept in
    the cache, one that uv has. With ``obtain``, also one that uv installs into the cache, and a
    copy out of the local builder image, which is made for it if need be. Raises MachineError.
    """
    if named := os.environ.get("FREEWHEEL_PYTHON"):
        return _named(Path(named))
    problems: list[str] = []
    for path, origin in _present(workspace):
        if found := check(path, origin, problems):
            return found
    if obtain:
        with files.locked(workspace.locks / "interpreter.lock", what="obtaining an interpreter"):
            for path, origin in _kept(workspace):
                if found := check(path, origin, []):
                    return found
            if found := _install_with_uv(workspace, problems):
                return found
            if found := _copy_from_image(workspace, problems):
                return found
    raise MachineError(
        "no free-threaded CPython 3.14 to test wheels with",
        problems=problems,
        hint="`uv python install 3.14t`, or name one: `export FREEWHEEL_PYTHON=/path/to/python`",
    )


def check(
    path: Path, origin: str, problems: list[str], *, free_threaded: bool = True
) -> Interpreter | None:
    """Run a candidate; None, and the reason added to ``problems``, when it will not do."""
    try:
        answer = process.run([path, "-I", "-c", _QUESTIONS, *_MODULES], timeout=_LOOK_TIMEOUT)
        facts = json.loads(answer.stdout)
    except (CommandFailed, ValueError) as error:
        said = error.output if isinstance(error, CommandFailed) else str(error)
        problems.append(f"{origin} {path}: does not run: {said.strip().splitlines()[-1:]}")
        return None
    if reasons := unfit(facts, free_threaded=free_threaded):
        problems.append(f"{origin} {path}: {'; '.join(reasons)}")
        return None
    return Interpreter(path=path, version=facts["version"], build=facts["build"], origin=origin)


def unfit(facts: dict[str, object], *, free_threaded: bool = True) -> list[str]:
    """Why an interpreter that gave these answers cannot test cp314t wheels, or cp314 ones."""
    reasons = []
    if facts["implementation"] != "cpython" or facts["minor"] != [3, 14]:
        reasons.append(f"is {facts['implementation']} {facts['version']}, not CPython 3.14")
    if facts["free_threaded"] != free_threaded:
        reasons.append(f"is {'not ' if free_threaded else ''}a free-threaded build")
    elif free_threaded and facts["gil"]:
        reasons.append("runs with the GIL on (is PYTHON_GIL=1 set?)")
    failed = facts["failed"]
    if isinstance(failed, dict):
        reasons += [f"cannot use {name}: {why}" for name, why in failed.items()]
    return reasons


def _named(path: Path) -> Interpreter:
    problems: list[str] = []
    if found := check(path, "FREEWHEEL_PYTHON", problems):
        return found
    raise MachineError(
        "FREEWHEEL_PYTHON names an interpreter that will not do",
        problems=problems,
        hint="correct it, or unset it to let Freewheel find one",
    )


# ------------------------------------------------------------------------------- what is there


def _present(workspace: Workspace) -> Iterator[tuple[Path, str]]:
    if on_path := shutil.which("python3.14t"):
        yield Path(on_path), "PATH"
    yield from _kept(workspace)
    if uv := uv_program():
        asked = process.run(
            [uv, "python", "find", "--system", "--no-project", "--no-python-downloads", "3.14t"],
            timeout=_LOOK_TIMEOUT,
            check=False,
        )
        if asked.returncode == 0:
            yield Path(asked.stdout.strip()), "uv"


def _kept(workspace: Workspace) -> Iterator[tuple[Path, str]]:
    home = _home(workspace)
    for path in [*sorted(home.glob("*/bin/python3.14t"), reverse=True), *_installed(home / "uv")]:
        if not path.parents[1].name.endswith(files.PARTIAL):
            yield path, "cache"


def _installed(home: Path) -> list[Path]:
    """What uv has put there, newest first; on Windows it makes no directory for programs."""
    pattern = "*/python3.14t.exe" if sys.platform == "win32" else "*/bin/python3.14t"
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


def _install_with_uv(workspace: Workspace, problems: list[str]) -> Interpreter | None:
    uv = uv_program()
    if uv is None:
        problems.append("uv: not installed")
        return None
    console.note("asking uv for a free-threaded CPython 3.14, into the cache")
    home = _home(workspace) / "uv"
    try:
        process.run(
            [uv, "python", "install", "--no-bin", "3.14t"],
            env={"UV_PYTHON_INSTALL_DIR": str(home), "UV_HTTP_RETRIES": "1"},
            timeout=_INSTALL_TIMEOUT,
        )
    except CommandFailed as error:
        said = (error.output.strip().splitlines() or [error.summary])[-1].strip()
        problems.append(f"uv: {said}")
        console.note(f"uv cannot have it here: {said}")
        return None
    for path in _installed(home):
        if found := check(path, "uv", problems):
            return found
    return None


def _copy_from_image(workspace: Workspace, problems: list[str]) -> Interpreter | None:
    """The interpreter of the local builder image; it finds its own library wherever it stands."""
    target = f"cp314t-manylinux_{platform.machine()}"
    try:
        engine = find_engine(workspace, may_install=True)
        image = local_image.find(engine, target) or local_image.make(workspace, engine, target)
        path = _copy(workspace, engine, image)
    except FreewheelError as error:
        problems.append(f"builder image: {error.summary}")
        return None
    missing: list[str] = []
    if found := check(path, "builder image", missing):
        return found
    if debian.can_install():
        wanted = runtime_packages(image_packages(path.parents[1]))
        try:
            debian.install(wanted, why="the interpreter from the builder image loads them")
        except debian.AptError as error:
            problems.append(f"builder image: {error.summary}")
    return check(path, "builder image", problems)


def _copy(workspace: Workspace, engine: Engine, image: local_image.LocalImage) -> Path:
    """Copy the tree out of ``image``, whole or not at all, and return its interpreter."""
    final = _home(workspace) / f"image-{image.specification.digest[:16]}"
    program = final / "bin" / "python3.14t"
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
        engine.call("cp", f"{container}:{_PREFIX}/.", partial, timeout=_COPY_TIMEOUT)
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
