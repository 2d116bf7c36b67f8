"""Read tar archives carefully: all of one is checked before anything of it is written or used.

``tarfile``'s own filters look at a path through the file system as it is while members are being
written, and have been deceived by links. Here links are judged by their words alone, and are made
last. What is refused: names that lead out, links that do, anything but files, directories and
links, names that are there twice, more bytes than such an archive can honestly hold, and bytes
behind the end.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from freewheel.base.members import ArchiveError, Members, max_unpacked, parts_of

_COMPRESSIONS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
_DAMAGE: tuple[type[Exception], ...] = (
    *(tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, struct.error),
    *(ValueError, ArithmeticError, LookupError, RecursionError),
)
_CHUNK = 1 << 20
_LATEST = 1 << 33  # seconds since 1970 that every file system can hold


@dataclass(frozen=True, slots=True)
class Member:
    """One member that was found sound; ``target`` is the whole path that a link leads to.

    ``path`` and ``target`` are relative to the archive; ``link`` is what a symbolic link says.
    """

    path: str
    info: tarfile.TarInfo
    target: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class CheckedTar:
    """A tar archive whose members were all found sound, in their order."""

    members: tuple[Member, ...]
    _tar: tarfile.TarFile

    def content(self, member: Member) -> IO[bytes] | None:
        """The bytes of a file; None for a directory or a link."""
        return self._tar.extractfile(member.info) if member.info.isreg() else None

    def read(self, path: str) -> bytes | None:
        """All of one file; None where there is none of that path."""
        for member in self.members:
            if member.path == path and (content := self.content(member)):
                return content.read()
        return None


@contextmanager
def open_tar(path: Path) -> Iterator[CheckedTar]:
    """Decompress and check a tar archive. Raises ArchiveError with what is wrong with it."""
    with tempfile.TemporaryFile() as plain:
        try:
            with path.open("rb") as raw:
                _decompress(raw, plain, max_unpacked(path))
            plain.seek(0)
            tar = tarfile.open(fileobj=plain, mode="r:", errorlevel=2)  # noqa: SIM115
        except _DAMAGE as error:
            raise ArchiveError(f"it is no whole tar archive: {error}") from error
        except OSError as error:
            if error.errno is not None:  # the disk's trouble, not the archive's
                raise
            raise ArchiveError(f"it is damaged: {error}") from error
        with tar:
            yield CheckedTar(_check(tar, plain, max_unpacked(path)), tar)


def unpack_tar(source: Path, directory: Path) -> None:
    """Unpack a tar archive into the empty ``directory``, with plain modes and its own times.

    Nothing lands outside, whatever is in it. Raises ArchiveError, before anything is written.
    """
    with open_tar(source) as tar:
        links: list[Member] = []
        for member in tar.members:
            path = directory / member.path
            if member.info.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.info.issym():
                links.append(member)
            elif member.info.islnk():
                shutil.copy2(directory / member.target, path, follow_symlinks=False)
            else:
                _write(tar, member, path)
        for link in links:
            (directory / link.path).symlink_to(link.link)


def _write(tar: CheckedTar, member: Member, path: Path) -> None:
    content = tar.content(member)
    with path.open("xb") as file:
        shutil.copyfileobj(cast("IO[bytes]", content), file, _CHUNK)
    os.utime(path, (member.info.mtime, member.info.mtime))
    path.chmod(0o755 if member.info.mode & 0o100 else 0o644)


def _decompress(raw: BinaryIO, plain: IO[bytes], limit: int) -> None:
    head = raw.read(6)
    raw.seek(0)
    stream: IO[bytes] = raw
    for magic, opener in _COMPRESSIONS:
        if head.startswith(magic):
            stream = cast("IO[bytes]", opener(raw, "rb"))
    left = limit
    while chunk := stream.read(min(_CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise ArchiveError(f"it unpacks to more than {limit} bytes, far beyond its size")
        plain.write(chunk)


def _check(tar: tarfile.TarFile, plain: IO[bytes], limit: int) -> tuple[Member, ...]:
    """Every member of the archive. Raises ArchiveError for the first that is not sound."""
    seen, found = Members(), []
    size = plain.seek(0, os.SEEK_END)
    files: dict[str, tarfile.TarInfo] = {}
    left = limit
    plain.seek(0)
    try:
        for info in tar:
            parts = seen.add(info.name, directory=info.isdir())
            _check_kind(info, size)
            path = "/".join(parts)
            member = Member(path, info)
            if info.isreg():
                files[path] = info
            elif info.islnk():
                original = "/".join(parts_of(info.linkname))
                if original not in files:
                    raise ArchiveError(f"{path!a} is a hard link to no file before it")
                member = Member(path, info, target=original)
                files[path] = files[original]
            elif info.issym():
                member = Member(path, info, target=_led_to(info, parts), link=info.linkname)
            left -= files[path].size if path in files else 0
            if left < 0:
                raise ArchiveError(f"its members are more than {limit} bytes, far beyond its size")
            found.append(member)
    except _DAMAGE as error:
        raise ArchiveError(f"it is damaged: {error}") from error
    _check_links(found)
    _check_end(tar, plain)
    return tuple(found)


def _check_kind(info: tarfile.TarInfo, size: int) -> None:
    said = ascii(info.name[:100])
    if info.issparse() or not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
        raise ArchiveError(f"{said} is no file, directory or link")
    if not 0 <= info.mtime < _LATEST:
        raise ArchiveError(f"{said} has a time that no file can have")
    if info.size < 0 or (info.isreg() and info.offset_data + info.size > size):
        raise ArchiveError(f"{said} is cut short")


def _led_to(info: tarfile.TarInfo, parts: tuple[str, ...]) -> str:
    """The path that a symbolic link names, by its words. Raises ArchiveError where it leads out.

    It must stay below the directory at the top of the archive that the link itself is in.
    """
    said = ascii(info.name[:100])
    words = info.linkname.split("/")
    if not info.linkname or info.linkname.startswith("/") or "\\" in info.linkname:
        raise ArchiveError(f"{said} is a link to an absolute path")
    parts_of("/".join(word for word in words if word != ".."))
    at = list(parts[:-1])
    for word in words:
        if word == "..":
            if len(at) <= 1:
                raise ArchiveError(f"{said} is a link that leads out")
            at.pop()
        elif word not in ("", "."):
            at.append(word)
    if at[:1] != list(parts[:1]) or len(parts) == 1:
        raise ArchiveError(f"{said} is a link that leads out")
    return "/".join(at)


def _check_links(members: list[Member]) -> None:
    """No path, nor a link's words, may go through a link: then words alone tell where it leads."""
    links = {member.path for member in members if member.link}
    if not links:
        return
    for member in members:
        paths = [member.path]
        if member.link:
            paths += _passed(member)
        for path in paths:
            above = path.split("/")[:-1]
            if any("/".join(above[:depth]) in links for depth in range(1, len(above) + 1)):
                raise ArchiveError(f"{member.path!a} goes through a member that is a link")


def _passed(member: Member) -> list[str]:
    """Each path on the way of a link's words, as if the next word were a name in it."""
    at = member.path.split("/")[:-1]
    passed = []
    words = member.link.split("/")
    for number, word in enumerate(words):
        if word == "..":
            at.pop()
        elif word not in ("", "."):
            at.append(word)
        if number < len(words) - 1:
            passed.append("/".join([*at, "next"]))
    return passed


def _check_end(tar: tarfile.TarFile, plain: IO[bytes]) -> None:
    """Where reading stopped, nothing but zeros may follow: a damaged header looks like the end."""
    plain.seek(tar.offset)
    while chunk := plain.read(_CHUNK):
        if chunk.count(0) != len(chunk):
            raise ArchiveError("something lies behind its end, or a header in it is damaged")
