"""Files that are whole or absent: digests, atomic writes, locks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from freewheel.base.errors import BusyError

PARTIAL = ".partial"  # suffix of a file that is still being written; never read
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_OLD = 3600.0  # seconds after which nobody is still writing one


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_foreign(path: Path, most: int = 64 << 20) -> bytes:
    """The content of a file that foreign code has written; b"" where it has not.

    Raises ValueError for what is no plain file of ``most`` bytes: a link could lead to any file of
    the user's, and a pipe would be waited for.
    """
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | _NO_WAIT)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ValueError(f"{path.name} is no plain file: {error.strerror}") from error
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            raise ValueError(f"{path.name} is no plain file of at most {most} bytes")
        with os.fdopen(file, "rb", closefd=False) as opened:
            return opened.read(most)
    finally:
        os.close(file)


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield a path to write to; move it over ``path`` in one step when the block ends well.

    The path is this write's own, whoever else writes the same file. A process killed in between
    leaves ``path`` as it was, and a ``.partial`` file beside it that the next write takes away.
    With ``mode`` the file gets those permissions, whatever the umask is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        if mode is not None:
            partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sweep(directory: Path, name: str = "") -> None:
    """Take away the partial files (of ``name`` alone, where it is given) that nobody writes now."""
    with os.scandir(directory) as entries:
        found = [e.name for e in entries if e.name.endswith(PARTIAL) and e.name.startswith(name)]
    for partial in found:
        if _is_left_over(directory / partial):
            with contextlib.suppress(IsADirectoryError, PermissionError):  # not ours to judge
                (directory / partial).unlink(missing_ok=True)


def _is_left_over(partial: Path) -> bool:
    """Whether its writer is gone: its process does not run any more, or started it long ago."""
    writer = partial.name.removesuffix(PARTIAL).rpartition(".")[2].partition("-")[0]
    try:
        if time.time() - partial.stat().st_mtime > _OLD:
            return True
        if sys.platform == "win32" or not writer.isascii() or not writer.isdigit():
            return False
        os.kill(int(writer), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it went away in between, or another user's process writes it
        return False
    return False


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write a binary file in one step; ``mode`` as in ``replacing``."""
    with replacing(path, mode=mode) as partial:
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
def writing_to(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory of wheels, while files are written that belong together."""
    with locked(directory / ".lock", what=f"writing to {directory}"):
        yield


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
