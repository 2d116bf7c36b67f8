"""A wheel's archive, read carefully: one place that knows .dist-info and METADATA."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from freewheel.base.members import ArchiveError
from freewheel.base.zips import open_zip

_LIMIT = 8 << 20  # bytes of one text in .dist-info


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelArchive:
    """An open wheel whose archive was found sound; ``dist_info`` is the one such directory."""

    zip: zipfile.ZipFile
    names: tuple[str, ...]
    dist_info: str

    def read(self, name: str) -> bytes:
        """The content of a member. Raises ArchiveError where there is none."""
        if name not in self.names:
            raise ArchiveError(f"it has no {name}")
        return self.zip.read(name)

    def text(self, name: str) -> str:
        """A text of .dist-info, by its name there. Raises ArchiveError where it is not UTF-8."""
        member = f"{self.dist_info}/{name}"
        if member in self.names and self.zip.getinfo(member).file_size > _LIMIT:
            raise ArchiveError(f"{member} has more than {_LIMIT} bytes")
        try:
            return self.read(member).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ArchiveError(f"{member} is not UTF-8: {error}") from error

    def headers(self, name: str) -> Message:
        """METADATA or WHEEL, by its fields."""
        return HeaderParser().parsestr(self.text(name))


@contextmanager
def open_wheel(path: Path) -> Iterator[WheelArchive]:
    """Open a wheel. Raises ArchiveError where its archive is not sound, or is not a wheel's."""
    with open_zip(path) as archive:
        names = tuple(archive.namelist())
        tops = {name.partition("/")[0] for name in names}
        found = sorted(top for top in tops if top.endswith(".dist-info"))
        if len(found) != 1:
            raise ArchiveError(f"it has {len(found)} .dist-info directories, one was due")
        if f"{found[0]}/METADATA" not in names:
            raise ArchiveError(f"it has no {found[0]}/METADATA")
        yield WheelArchive(zip=archive, names=names, dist_info=found[0])


def core_metadata(path: Path) -> bytes:
    """The METADATA of a wheel, byte for byte. Raises ArchiveError."""
    with open_wheel(path) as wheel:
        return wheel.read(f"{wheel.dist_info}/METADATA")
