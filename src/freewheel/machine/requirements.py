"""Build requirements: fetched once, by hash, into a directory that builds read offline."""

from __future__ import annotations

import sys
from pathlib import Path

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed, FetchError
from freewheel.base.workspace import PINS

BUILD_REQUIREMENTS = PINS / "build-requirements.txt"
_PLATFORMS = {
    # glibc of the target, newest first: a build requirement may use what the image can load.
    "manylinux": ("manylinux_2_28", "manylinux_2_17", "manylinux2014"),
    "musllinux": ("musllinux_1_2", "musllinux_1_1"),
}


def fetch_requirements(lock: Path, directory: Path, *, target: str | None = None) -> Path:
    """A directory with exactly the wheels that ``lock`` pins, for ``target`` or for this machine.

    ``target`` is a cibuildwheel build identifier such as ``cp314t-manylinux_x86_64``. The
    directory is kept under the digest of the lock. Raises FetchError where an index has not got
    one of them, or has it with another hash.
    """
    kept = directory / f"{files.sha256(lock)[:16]}-{target or _this_interpreter()}"
    with files.locked(directory / f"{kept.name}.lock", what="fetching build requirements"):
        if kept.is_dir():
            return kept
        partial = files.empty_directory(kept.with_name(kept.name + files.PARTIAL))
        try:
            process.run(
                [
                    *(sys.executable, "-m", "pip", "download", "--quiet"),
                    *("--require-hashes", "--no-deps", "--only-binary", ":all:"),
                    *("--retries", "5", "--dest", partial, "--requirement", lock),
                    *_tag_options(target),
                ]
            )
        except CommandFailed as error:
            raise FetchError(
                f"the build requirements in {lock.name} could not be fetched",
                problems=error.output.strip().splitlines()[-6:],
                hint="check the network and the index that `pip config list` names",
            ) from error
        partial.rename(kept)
    return kept


def _this_interpreter() -> str:
    return f"host-{sys.implementation.cache_tag}"


def _tag_options(target: str | None) -> list[str]:
    """Options of pip for wheels of another interpreter than the one that runs it."""
    if target is None:
        return []
    interpreter, _, platform = target.partition("-")
    kind, _, machine = platform.partition("_")
    version = interpreter.removeprefix("cp").removesuffix("t")
    options = ["--implementation", "cp", "--python-version", f"{version[0]}.{version[1:]}"]
    for abi in (interpreter, "none"):
        options += ["--abi", abi]
    for policy in _PLATFORMS[kind]:
        options += ["--platform", f"{policy}_{machine}"]
    return options
