"""ThreadSanitizer: a clang that has really found a race here, and a CPython built with it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed, ProofError
from freewheel.base.workspace import Workspace
from freewheel.machine import debian
from freewheel.machine.compiled import Variant, compiled, obtain_source
from freewheel.machine.cpython import CPython
from freewheel.machine.interpreter import Interpreter
from freewheel.recipe.pythons import DEFAULT, Python

# From 18 on, the runtime starts the program again without ASLR where the kernel's is too random
# for it; an older one then ends with "unexpected memory mapping", but not each time.
_OLDEST = 18
_LOOK_TIMEOUT = 60.0  # seconds
# The compiler is named by CC and CXX. Profile-guided optimisation would train on instrumented code.
_OPTIONS = (
    "--disable-gil",
    "--with-thread-sanitizer",
    "--disable-test-modules",
    "--without-static-libpython",
    "--with-ensurepip=no",
)
_FLAGS = "-ffile-prefix-map={tree}=CPython"  # reports name files below the source tree
_SUPPRESSIONS = "Tools/tsan/suppressions_free_threading.txt"
_VARIANT = Variant(
    name="with ThreadSanitizer",
    options=_OPTIONS,
    free_threaded=True,
    minutes=10,
    log="tsan-cpython.log",
    kept=(_SUPPRESSIONS,),
)
# Neither reports nor exit codes of its own: what is built with the interpreter is not under test.
QUIET = {"TSAN_OPTIONS": "report_bugs=0:exitcode=0"}

_RACE = """
#include <pthread.h>
static int shared;
static void *race(void *unused) { shared++; return unused; }
int main(void) {
  pthread_t a, b;
  pthread_create(&a, 0, race, 0); pthread_create(&b, 0, race, 0);
  pthread_join(a, 0); pthread_join(b, 0);
  return 0;
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clang:
    """A clang whose ThreadSanitizer works here; ``version`` is the whole of what it calls itself.

    ``symbolizer`` turns addresses into functions, files and lines while a program runs.
    """

    path: Path
    plus_plus: Path
    symbolizer: Path
    version: str

    @property
    def variables(self) -> Mapping[str, str]:
        """For builds that choose their compiler by the environment."""
        return {"CC": str(self.path), "CXX": str(self.plus_plus)}

    @property
    def places(self) -> tuple[Path, ...]:
        """Its programs, and the directories in which it looks for what belongs to them."""
        programs = (self.path, self.plus_plus, self.symbolizer)
        prefixes = {program.resolve().parents[1] for program in programs}
        # Not where that is, or is around, the user's home.
        return (*programs, *(one for one in prefixes if not Path.home().is_relative_to(one)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SanitizedInterpreter:
    """A free-threaded CPython under ThreadSanitizer, with CPython's own list of what it suppresses.

    ``key`` is the digest of all that it was built of.
    """

    interpreter: Interpreter
    clang: Clang
    suppressions: Path
    key: str


def why_not_here() -> str:
    """Why ThreadSanitizer cannot be run on this machine at all; "" where it can."""
    if sys.platform != "linux":
        return f"it is run on Linux only, and this is {platform.system()}"
    if platform.libc_ver()[0] != "glibc":
        return "it is run with glibc only"
    return ""


def find_sanitized(workspace: Workspace, python: Python = DEFAULT) -> SanitizedInterpreter:
    """The interpreter for this machine's clang, out of the cache or built into it.

    What is missing is installed, if this is root's Debian. Raises ProofError.
    """
    with files.locked(workspace.locks / "tsan.lock", what="building CPython with ThreadSanitizer"):
        clang = find_clang() or _install_clang()
        cpython = obtain_source(workspace, python)
        key = _key(cpython, clang)
        home = workspace.cache / "tsan" / f"cpython-{cpython.version}-{key[:16]}"
        variables = {**clang.variables, **QUIET, "CFLAGS_NODIST": _FLAGS}
        made = compiled(workspace, cpython, _VARIANT, home, variables=variables)
    return SanitizedInterpreter(
        interpreter=made,
        clang=clang,
        suppressions=home / Path(_SUPPRESSIONS).name,
        key=key,
    )


def _key(cpython: CPython, clang: Clang) -> str:
    machine = platform.machine()
    fields = [cpython.sha256, clang.version, str(clang.path), *_OPTIONS, _FLAGS, machine]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


# --------------------------------------------------------------------------------- the compiler


def find_clang(problems: list[str] | None = None) -> Clang | None:
    """The newest clang on PATH that finds a race here; why others do not goes to ``problems``."""
    problems = [] if problems is None else problems
    for path in _candidates(os.environ.get("PATH", "").split(os.pathsep)):
        try:
            return _tried(path)
        except (CommandFailed, ProofError) as error:
            said = error.output.strip().splitlines()[-1:] if error.output else error.problems
            problems.append(f"{path}: {error.summary}: {'; '.join(said)}")
    return None


def _candidates(places: Sequence[str]) -> Iterator[Path]:
    """``clang-NN``, newest first, then ``clang``."""
    numbered: dict[Path, int] = {}
    for place in filter(None, places):
        for path in Path(place).glob("clang-*"):
            number = path.name.removeprefix("clang-")
            if number.isdigit():
                numbered[path] = int(number)
    yield from sorted(numbered, key=lambda path: numbered[path], reverse=True)
    if plain := shutil.which("clang", path=os.pathsep.join(places)):
        yield Path(plain)


def _tried(path: Path) -> Clang:
    """Compile a race and see it found, with the name of the function."""
    told = process.run([path, "--version"], timeout=_LOOK_TIMEOUT).stdout
    version = told.splitlines()[0].strip() if told else ""
    number = re.search(r"version (\d+)", version)
    if not number or int(number[1]) < _OLDEST:
        raise ProofError("too old", problems=[f"{version}; {_OLDEST} or newer is needed"])
    plus_plus = path.with_name(path.name.replace("clang", "clang++"))
    symbolizer = _symbolizer(path)
    if not plus_plus.exists() or symbolizer is None:
        raise ProofError("not whole", problems=["clang++ or llvm-symbolizer is missing"])
    with tempfile.TemporaryDirectory(prefix="freewheel-tsan-") as name:
        source = Path(name) / "race.c"
        source.write_text(_RACE, encoding="utf-8")
        program = source.with_suffix("")
        flags = ["-fsanitize=thread", "-g", "-O1"]
        process.run([path, *flags, source, "-o", program], timeout=_LOOK_TIMEOUT)
        options = f"exitcode=66:external_symbolizer_path={symbolizer}"
        ran = process.run(
            [program], env={"TSAN_OPTIONS": options}, timeout=_LOOK_TIMEOUT, check=False
        )
    if "data race" not in ran.stderr or "race.c" not in ran.stderr:
        raise ProofError("finds no race where there is one", output=ran.stderr)
    return Clang(path=path, plus_plus=plus_plus, symbolizer=symbolizer, version=version)


def _symbolizer(clang: Path) -> Path | None:
    """LLVM's symbolizer of the same installation, or one on PATH."""
    asked = process.run([clang, "--print-prog-name=llvm-symbolizer"], timeout=_LOOK_TIMEOUT)
    suffix = clang.name.removeprefix("clang")
    for name in (asked.stdout.strip(), f"llvm-symbolizer{suffix}", "llvm-symbolizer"):
        if found := shutil.which(name):
            return Path(found)
    return None


def _install_clang() -> Clang:
    problems: list[str] = []
    try:
        packages = _packages()
        if packages and debian.can_install():
            debian.install(packages, why="ThreadSanitizer is part of clang")
    except debian.AptError as error:
        raise ProofError(error.summary, problems=error.problems, hint=error.hint) from error
    if found := find_clang(problems):
        return found
    raise ProofError(
        f"no clang {_OLDEST} or newer whose ThreadSanitizer works here",
        problems=problems,
        hint=f"install one: {debian.install_command(packages or _of_number(_OLDEST))}; where it "
        "says 'unexpected memory mapping', `sysctl vm.mmap_rnd_bits=28` helps",
    )


def _packages() -> tuple[str, ...]:
    """The packages of the newest clang that apt offers, from lists that are not stale."""
    if not debian.distribution().has_apt:
        return ()
    if debian.can_install():
        try:
            debian.update()
        except CommandFailed as error:
            raise debian.AptError(
                "apt-get update failed", problems=error.output.strip().splitlines()[-6:]
            ) from error
    numbers = [int(name.removeprefix("clang-")) for name in debian.available("clang-[0-9]+")]
    usable = [number for number in numbers if number >= _OLDEST]
    return _of_number(max(usable)) if usable else ()


def _of_number(number: int) -> tuple[str, ...]:
    return (f"clang-{number}", f"libclang-rt-{number}-dev", f"llvm-{number}")
