"""Files that are whole or absent: digests, atomic writes, locks."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from freewheel.base.errors import BusyError

PARTIAL = ".partial"  # suffix of a file that is still being written; never read, safe to delete


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; move it over ``path`` in one step when the block ends well.

    A process killed in between leaves ``path`` as it was, and a ``.partial`` file beside it that
    the next write replaces.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file in one step."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def copy(source: Path, target: Path) -> None:
    """Copy a file in one step."""
    with replacing(target) as partial:
        shutil.copyfile(source, partial)


def empty_directory(path: Path) -> Path:
    """Make ``path`` an empty directory, whatever was there before."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


@contextmanager
def locked(path: Path, *, what: str, patience: float = -1) -> Iterator[None]:
    """Hold the lock file ``path``; the system drops it when the process dies.

    ``patience`` is how many seconds to wait for another holder; negative waits without limit.
    Raises BusyError after that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=patience):
            yield
    except Timeout as error:
        raise BusyError(
            f"another Freewheel process is busy with {what}",
            hint="wait for it to end, then run the same command again",
        ) from error
