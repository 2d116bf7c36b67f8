"""Read zip archives carefully: only what every reader would understand in the same way.

A zip file says everything twice, in a local header and in the directory at its end, and readers
believe one or the other; bytes before, between and behind the members are seen by some only. So an
archive must be its members, one behind the other from the first byte, each header equal to its
entry, then the directory, then the end, and nothing else.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from freewheel.base.members import ArchiveError, Members, max_unpacked

# What reading a member that is damaged raises.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_END = struct.Struct("<4sHHHHIIH")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UTF8 = 0x800
_FLAGS = _UTF8 | 0x6  # names in UTF-8, and how hard the compressor tried
_AMBIGUOUS = {0x0001, 0x7075}  # extra fields with another size or another name


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive of which everything but the members' contents was checked.

    Raises ArchiveError, also for a member that turns out damaged while the block reads it.
    """
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as archive:
            _check(archive, raw, max_unpacked(path))
            yield archive
    except (*DAMAGE, struct.error, OverflowError, RecursionError) as error:
        raise ArchiveError(f"it is no zip archive, or a damaged one: {error}") from error


def _check(archive: zipfile.ZipFile, raw: IO[bytes], limit: int) -> None:
    seen = Members()
    left, at = limit, 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        seen.add(info.filename, directory=info.is_dir())
        _check_entry(info)
        left -= info.file_size
        if left < 0:
            raise ArchiveError(f"it unpacks to more than {limit} bytes, far beyond its size")
        at = _check_local(info, raw, at)
    _check_end(archive, raw, at)


def _check_entry(info: zipfile.ZipInfo) -> None:
    said = ascii(info.filename[:100])
    # zipfile cuts a name at its first NUL.
    if info.orig_filename != info.filename:
        raise ArchiveError(f"the name {info.orig_filename[:100]!a} is not a plain one")
    if info.flag_bits & 0x1:
        raise ArchiveError(f"{said} is encrypted")
    if info.flag_bits & ~_FLAGS or info.compress_type not in _METHODS:
        raise ArchiveError(f"{said} is packed in a way that not every reader knows")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
        raise ArchiveError(f"{said} is no file or directory")
    if info.is_dir() and info.file_size:
        raise ArchiveError(f"{said} is a directory with content")
    if _extra_kinds(info.extra) & _AMBIGUOUS:
        raise ArchiveError(f"{said} has a second name or size")


def _check_local(info: zipfile.ZipInfo, raw: IO[bytes], at: int) -> int:
    """The offset behind a member; its header must start ``at`` that offset and say the same."""
    said = ascii(info.filename[:100])
    if info.header_offset != at:
        raise ArchiveError(f"there are bytes before {said} that belong to no member")
    raw.seek(at)
    fields = _LOCAL.unpack(raw.read(_LOCAL.size))
    signature, _, flags, method, time, date, crc, packed, size = fields[:9]
    name_length, extra_length = int(fields[9]), int(fields[10])
    name = raw.read(name_length)
    extra = raw.read(extra_length)
    encoding = "utf-8" if info.flag_bits & _UTF8 else "cp437"
    year, month, day, hour, minute, second = info.date_time
    expected = (
        *(b"PK\x03\x04", info.flag_bits, info.compress_type),
        *(hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day),
        *(info.CRC, info.compress_size, info.file_size, info.filename.encode(encoding)),
    )
    if (signature, flags, method, time, date, crc, packed, size, name) != expected:
        raise ArchiveError(f"the header of {said} differs from the archive's directory")
    if _extra_kinds(extra) & _AMBIGUOUS:
        raise ArchiveError(f"{said} has a second name or size")
    return at + _LOCAL.size + name_length + extra_length + info.compress_size


def _extra_kinds(extra: bytes) -> set[int]:
    kinds = set()
    while extra:
        kind, length = struct.unpack_from("<HH", extra)
        kinds.add(kind)
        extra = extra[4 + length :]
    return kinds


def _check_end(archive: zipfile.ZipFile, raw: IO[bytes], at: int) -> None:
    """The directory follows the members, and the end record follows it and ends the file."""
    if archive.start_dir != at:
        raise ArchiveError("there are bytes between the members and the directory")
    length = raw.seek(0, 2)
    raw.seek(max(0, length - _END.size))
    signature, disk, start_disk, here, entries, size, start, comment = _END.unpack(raw.read())
    told = (signature, disk, start_disk, comment, here, entries, start, size)
    count = len(archive.infolist())
    behind = length - _END.size - at
    if told != (b"PK\x05\x06", 0, 0, 0, count, count, at, behind):
        raise ArchiveError("there are bytes behind the archive's directory, or a comment")
    if count and sum(_entry_size(info) for info in archive.infolist()) != behind:
        raise ArchiveError("there are bytes in the archive's directory that belong to no member")


def _entry_size(info: zipfile.ZipInfo) -> int:
    encoding = "utf-8" if info.flag_bits & _UTF8 else "cp437"
    return 46 + len(info.filename.encode(encoding)) + len(info.extra) + len(info.comment)
