"""Archives, written so that their bytes depend on their contents alone.

Order, times, modes and owners are fixed in what is written.
"""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from freewheel.base.tars import open_tar
from freewheel.base.zips import open_zip

_EXECUTABLE, _PLAIN = 0o755, 0o644
_REGULAR_FILE = 0o100000  # S_IFREG, for the upper half of a zip member's external attributes


def repack_tar(source: Path, target: Path, *, epoch: int, without: Collection[str] = ()) -> None:
    """Write the members of a ``.tar.gz`` again, sorted, with the time ``epoch`` and fixed owners.

    ``epoch`` is in seconds since 1970; members whose path below the archive's one directory is in
    ``without`` are left out. Raises ArchiveError.
    """
    with (
        open_tar(source) as old,
        target.open("wb") as raw,
        # The gzip header holds a time and a file name of its own.
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=epoch) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for checked in sorted(old.members, key=lambda checked: checked.path):
            if checked.path.partition("/")[2] in without:
                continue
            member = checked.info
            content = old.content(checked)
            member.name = checked.path
            member.mtime, member.uid, member.gid = epoch, 0, 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            executable = member.isdir() or member.mode & 0o100
            member.mode = _EXECUTABLE if executable else _PLAIN
            new.addfile(member, content)


def repack_wheel(
    source: Path, target: Path, *, epoch: int, added: Mapping[str, bytes] | None = None
) -> None:
    """Write the members of a wheel again: sorted, times and modes fixed, RECORD made anew and last.

    ``epoch`` is in seconds since 1970; zip keeps even seconds from 1980 on. ``added`` are members,
    by name, that come in addition or in the place of those that the wheel has. Raises ArchiveError.
    """
    moment = datetime.fromtimestamp(max(epoch, 315532800), UTC)
    stamp = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
    with open_zip(source) as old, zipfile.ZipFile(target, "w") as new:
        record_name = next(name for name in old.namelist() if is_record(name))
        replaced = added or {}
        members = {member.filename: member for member in old.infolist() if not member.is_dir()}
        rows: list[tuple[str, str, str]] = []
        for name in sorted((members.keys() | replaced.keys()) - {record_name}, key=_wheel_order):
            content = replaced[name] if name in replaced else old.read(members[name])
            rows.append((name, record_digest(content), str(len(content))))
            executable = name in members and bool((members[name].external_attr >> 16) & 0o100)
            _write_member(new, name, content, stamp=stamp, executable=executable)
        rows.append((record_name, "", ""))
        _write_member(new, record_name, _record(rows), stamp=stamp, executable=False)


def is_record(name: str) -> bool:
    """Whether a member's name is the wheel's RECORD."""
    path = PurePosixPath(name)
    return path.name == "RECORD" and path.parent.name.endswith(".dist-info")


def record_digest(content: bytes) -> str:
    """A digest as RECORD writes it: algorithm, ``=``, URL-safe base64 without padding."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def _wheel_order(name: str) -> tuple[bool, str]:
    # The wheel specification recommends .dist-info at the end of the archive.
    return ".dist-info/" in name, name


def _record(rows: list[tuple[str, str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _write_member(
    archive: zipfile.ZipFile,
    name: str,
    content: bytes,
    *,
    stamp: tuple[int, int, int, int, int, int],
    executable: bool,
) -> None:
    member = zipfile.ZipInfo(name, date_time=stamp)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3  # Unix, wherever this runs
    member.external_attr = (_REGULAR_FILE | (_EXECUTABLE if executable else _PLAIN)) << 16
    archive.writestr(member, content, compresslevel=9)
