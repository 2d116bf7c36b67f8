"""Build requirements: fetched once, by hash, into a directory that builds read offline.

One lock has those of all projects. A project gets the part of it that its recipe names, with what
that needs, so that another project's build backend changes nothing for it.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import console, files, process
from freewheel.base.errors import CommandFailed, FetchError
from freewheel.base.workspace import PINS
from freewheel.recipe.platforms import platform_of

BUILD_REQUIREMENTS = PINS / "build-requirements.txt"
SUITE_REQUIREMENTS = PINS / "suites.txt"
_HEAD = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# What uv writes below an entry: who asks for it.
_VIA = re.compile(r"^ +#(?: via)? +(?!via$)(?P<name>[a-z0-9][a-z0-9._-]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One entry of a lock: a version, and a SHA-256 for each file of it that is accepted.

    ``needed_by`` are the entries that ask for this one.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    needed_by: frozenset[str]
    text: str


def read_lock(text: str) -> tuple[Pin, ...]:
    """The entries of a lock, in its order."""
    return tuple(_entries(text))


def _entries(text: str) -> Iterator[Pin]:
    for entry in re.split(r"\n(?=[a-z0-9])", text):
        if head := _HEAD.match(entry):
            yield Pin(
                name=head["name"],
                version=head["version"],
                hashes=tuple(_HASH.findall(entry)),
                needed_by=frozenset(_VIA.findall(entry)),
                text="".join(
                    f"{line}\n" for line in entry.splitlines() if not line.lstrip().startswith("#")
                ),
            )


def build_lock(names: Iterable[str]) -> str:
    """What a recipe names in ``build.requires``, and all that it needs: a lock of its own."""
    return part_of(BUILD_REQUIREMENTS, names, key="build.requires")


def suite_lock(names: Iterable[str]) -> str:
    """What a suite is run with, what a recipe names in ``suite.requires``, and all they need."""
    common = (
        line.split()[0]
        for line in SUITE_REQUIREMENTS.with_suffix(".in").read_text("utf-8").splitlines()
        if not line.startswith("#")
    )
    return part_of(SUITE_REQUIREMENTS, (*common, *names), key="suite.requires")


def part_of(lock: Path, names: Iterable[str], *, key: str) -> str:
    """The part of a lock that has those projects and all that they need: a lock of its own.

    Raises FetchError that names what the lock does not have; ``key`` is what asks for it.
    """
    pins = read_lock(lock.read_text(encoding="utf-8"))
    wanted = set(names)
    known = {pin.name for pin in pins}
    if wanted - known:
        raise FetchError(
            f"{key} names what {lock.name} does not pin",
            problems=[_unknown(name, known) for name in sorted(wanted - known)],
            hint="correct the name, or let `nox -s update-pins -- --keep` add it to the lock",
        )
    chosen = _with_needs(wanted, {pin.name: pin.needed_by for pin in pins})
    return "".join(pin.text for pin in pins if pin.name in chosen)


def _unknown(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return name + (f"; did you mean {nearest[0]}?" if nearest else "")


def _with_needs(wanted: set[str], needed_by: Mapping[str, frozenset[str]]) -> set[str]:
    chosen = set(wanted)
    while more := {name for name, above in needed_by.items() if above & chosen} - chosen:
        chosen |= more
    return chosen


def fetch_requirements(lock: str, directory: Path, *, target: str | None = None) -> Path:
    """A directory with exactly the wheels that ``lock`` pins, for ``target`` or for this machine.

    ``lock`` is a lock's text, ``target`` a cibuildwheel build identifier such as
    ``cp314t-manylinux_x86_64``. The directory is kept under the digest of the lock. Raises
    FetchError where an index does not have one of them, or has it with another hash.
    """
    written = write_lock(lock, directory)
    kept = directory / f"{written.stem}-{target or _this_interpreter()}"
    with files.locked(directory / f"{kept.name}.lock", what="fetching build requirements"):
        if kept.is_dir():
            if _is_locked(kept, lock):
                return kept
            console.warn(f"{kept} is not what its lock says any more; fetching it again")
            shutil.rmtree(kept)
        partial = files.empty_directory(kept.with_name(kept.name + files.PARTIAL))
        try:
            process.run(
                [
                    *(sys.executable, "-m", "pip", "download", "--quiet"),
                    *("--require-hashes", "--no-deps", "--only-binary", ":all:"),
                    *("--retries", "5", "--dest", partial, "--requirement", written),
                    *_tag_options(target),
                ]
            )
        except CommandFailed as error:
            raise FetchError(
                "the build requirements could not be fetched",
                problems=error.output.strip().splitlines()[-6:],
                hint="check the network and the index that `pip config list` names",
            ) from error
        partial.rename(kept)
    return kept


def write_lock(lock: str, directory: Path) -> Path:
    """The lock as a file in ``directory``, called by its digest."""
    path = directory / f"{hashlib.sha256(lock.encode()).hexdigest()[:16]}.txt"
    with files.locked(path.with_name(f"{path.name}.lock"), what="writing a lock"):
        if not path.is_file() or path.read_bytes() != lock.encode():
            files.write_text(path, lock)
    return path


def _is_locked(directory: Path, lock: str) -> bool:
    """Whether a directory has nothing but files that the lock accepts, one for each entry."""
    pins = {digest: pin.name for pin in read_lock(lock) for digest in pin.hashes}
    paths = list(directory.iterdir())
    if any(path.is_symlink() or not path.is_file() for path in paths):
        return False
    found = [pins.get(files.sha256(path)) for path in paths]
    return None not in found and len(set(found)) == len(found) > 0


def _this_interpreter() -> str:
    return f"host-{sys.implementation.cache_tag}"


def _tag_options(target: str | None) -> list[str]:
    """Options of pip for wheels of another interpreter than the one that runs it."""
    if target is None:
        return []
    interpreter = target.partition("-")[0]
    version = interpreter.removeprefix("cp").removesuffix("t")
    options = ["--implementation", "cp", "--python-version", f"{version[0]}.{version[1:]}"]
    for abi in (interpreter, "none"):
        options += ["--abi", abi]
    for tag in platform_of(target).accepts:
        options += ["--platform", tag]
    return options
