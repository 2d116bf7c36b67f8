"""What any archive must keep to before a byte of it is written: names, sizes, no member twice."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath

from freewheel.base.errors import FreewheelError

MAX_PATH = 4096  # bytes of a path; a longer one cannot be looked up, and so not be checked
MAX_NAME = 255  # bytes of one part of it
MAX_MEMBERS = 100_000
_MAX_DEPTH = 64  # directories within each other
_MAX_RATIO = 64  # unpacked bytes for each packed one; sources reach about 12
_FREE = 64 << 20  # unpacked bytes that are allowed whatever the ratio
_MAX_UNPACKED = 4 << 30


class ArchiveError(FreewheelError):
    """An archive is damaged, or has something in it that no honest archive needs."""


def max_unpacked(path: Path) -> int:
    """How many bytes an archive may unpack to: a limited ratio, and never more than 4 GiB."""
    return min(_MAX_UNPACKED, _FREE + _MAX_RATIO * path.stat().st_size)


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a member's relative path. Raises ArchiveError for a path that is not plain."""
    said = ascii(name[:100])
    if set(name) & {"\\", ":"} or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise ArchiveError(f"the name {said} has a backslash, colon or control character in it")
    path = PurePosixPath(name)
    if path.is_absolute():
        raise ArchiveError(f"the name {said} is an absolute path")
    if ".." in path.parts:
        raise ArchiveError(f"the name {said} leads out of its directory")
    encoded = [len(part.encode()) for part in path.parts]
    if sum(encoded) + len(encoded) > MAX_PATH or max(encoded, default=0) > MAX_NAME:
        raise ArchiveError(f"the name {said}... is longer than a path may be")
    if len(path.parts) > _MAX_DEPTH:
        raise ArchiveError(f"the name {said}... is more than {_MAX_DEPTH} directories deep")
    return path.parts


class Members:
    """The members seen so far: no two may have one name, nor one be below another's file.

    Names that only some file systems tell apart (case, Unicode forms) count as one name.
    """

    def __init__(self) -> None:
        self._files: dict[tuple[str, ...], str] = {}
        self._directories: dict[tuple[str, ...], tuple[str, ...]] = {}

    def add(self, name: str, *, directory: bool) -> tuple[str, ...]:
        """Take a member in, and give the parts of its path. Raises ArchiveError."""
        parts = parts_of(name)
        folded = tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)
        if len(self._files) + len(self._directories) > MAX_MEMBERS:
            raise ArchiveError(f"it has more than {MAX_MEMBERS} members")
        last = len(parts) if directory else len(parts) - 1
        for depth in range(1, last + 1):
            above = folded[:depth]
            if above in self._files:
                raise ArchiveError(f"{name[:100]!a} lies below a member that is a file")
            if self._directories.setdefault(above, parts[:depth]) != parts[:depth]:
                raise ArchiveError(f"{name[:100]!a} differs from another only in case")
        if not directory:
            if not parts:
                raise ArchiveError("a file without a name")
            if folded in self._files or folded in self._directories:
                raise ArchiveError(f"{name[:100]!a} is there twice, or differs only in case")
            self._files[folded] = name
        return parts
