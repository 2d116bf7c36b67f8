"""CPython's default build, with the GIL: what the free-threaded one is compared with.

It is built of the same pinned source as the interpreter of the local builder image, with the same
options but for --disable-gil, and by this system's own compiler, as that one is by the image's. A
CPython from elsewhere may have been optimised with profiles, and would show what these do.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed, ProofError
from freewheel.base.workspace import Workspace
from freewheel.machine.compiled import Variant, compiled, obtain_source
from freewheel.machine.cpython import CPython, pinned_cpythons
from freewheel.machine.interpreter import Interpreter
from freewheel.recipe.pythons import DEFAULT, Python

_VARIANT = Variant(
    name="with the GIL",
    options=("--disable-test-modules", "--without-static-libpython", "--with-ensurepip=no"),
    free_threaded=False,
    minutes=5,
    log="default-cpython.log",
)
_LOOK_TIMEOUT = 60.0  # seconds
# What would change how it is compiled, or what is compiled for it.
FLAGS = ("CC", "CXX", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "LDSHARED")


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultBuild:
    """A CPython with the GIL; ``key`` is the digest of all that it was built of."""

    interpreter: Interpreter
    compiler: str
    key: str


def home_of(workspace: Workspace) -> Path:
    """Where the default build is kept, and wheels for it."""
    return workspace.cache / "default-build"


def find_default_build(workspace: Workspace, python: Python = DEFAULT) -> DefaultBuild:
    """The default build of that version, out of the cache or built into it. Raises ProofError."""
    with files.locked(workspace.locks / "default-build.lock", what="building CPython"):
        compiler, cpython = _compiler(), obtain_source(workspace, python)
        key = _key(cpython, compiler)
        made = compiled(
            workspace,
            cpython,
            _VARIANT,
            _directory(workspace, cpython, key),
            variables=dict.fromkeys(FLAGS),
        )
    return DefaultBuild(interpreter=made, compiler=compiler, key=key)


def is_built(workspace: Workspace, python: Python = DEFAULT) -> bool:
    """Whether ``find_default_build`` has nothing to build."""
    try:
        compiler = _compiler()
    except ProofError:
        return False
    return any(
        _directory(workspace, cpython, _key(cpython, compiler)).exists()
        for cpython in pinned_cpythons(python)
    )


def _directory(workspace: Workspace, cpython: CPython, key: str) -> Path:
    return home_of(workspace) / f"cpython-{cpython.version}-{key[:16]}"


def _key(cpython: CPython, compiler: str) -> str:
    fields = [cpython.sha256, compiler, *_VARIANT.options, platform.machine()]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _compiler() -> str:
    """What the system's compiler calls itself, where it can build CPython. Raises ProofError."""
    if os.name != "posix":
        raise ProofError("the default build is only built on Linux and macOS")
    return system_compiler("to build CPython with")


def system_compiler(purpose: str) -> str:
    """What the system's compiler calls itself, in the first line that it says.

    Raises ProofError where there is none; ``purpose`` is what it would have been for.
    """
    try:
        told = process.run(["cc", "--version"], timeout=_LOOK_TIMEOUT).stdout
    except CommandFailed as error:
        raise ProofError(
            f"no compiler {purpose}",
            problems=[error.summary],
            hint="install the system's own C compiler, as `cc` on PATH",
        ) from error
    return told.splitlines()[0].strip() if told else ""
