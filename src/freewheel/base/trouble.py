"""Errors that are no error of ours, said as one: the machine's trouble, and faults of Freewheel."""

from __future__ import annotations

import errno
import traceback

from freewheel.base.errors import FreewheelError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP}
_ELSEWHERE = "FREEWHEEL_CACHE and FREEWHEEL_DATA name other directories to write to"


def explained(error: Exception) -> FreewheelError:
    """The error as the user reads it, with what to do next."""
    if isinstance(error, FreewheelError):
        return error
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, MemoryError):
        return FreewheelError(
            "there was not enough memory", hint="free some, or raise the limit, and try again"
        )
    return FreewheelError(
        f"something that should not happen did: {type(error).__name__}: {error}",
        hint="this is a fault of Freewheel: report it with what is printed above",
        output=_places(error),
    )


def is_full(error: OSError) -> bool:
    """Whether a disk has no room left, or the user none on it."""
    return error.errno in _FULL


def _of_the_system(error: OSError) -> FreewheelError:
    path = error.filename or error.filename2
    where = f"{path}: " if path else ""
    said = f"{where}{error.strerror or error}"
    if error.errno in _FULL:
        return FreewheelError(f"no room left: {said}", hint=f"make room; {_ELSEWHERE}")
    if error.errno in _READ_ONLY:
        return FreewheelError(f"not allowed: {said}", hint=f"change its permissions; {_ELSEWHERE}")
    if error.errno in _IN_THE_WAY:
        return FreewheelError(f"something is in the way: {said}", hint=f"move it; {_ELSEWHERE}")
    return FreewheelError(said, hint=f"check that path and its disk; {_ELSEWHERE}")


def _places(error: Exception) -> str:
    """Where it happened, the innermost place last; of a deep recursion only the ends."""
    frames = traceback.extract_tb(error.__traceback__)
    shown = frames if len(frames) <= 20 else [*frames[:5], *frames[-10:]]  # noqa: PLR2004
    return "\n".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in shown)
