"""Compare wheels: the same file name in another spelling, and why equal names have other bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from installer.sources import WheelFile
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

_SHOWN = 12  # lines of a difference that an error shows


def core_metadata(path: Path) -> bytes:
    """The METADATA of a wheel, byte for byte."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(f"{WheelFile(archive).dist_info_dir}/METADATA")


def twin(filename: str, others: Iterable[str]) -> str | None:
    """The first of ``others`` that is ``filename`` in another case or spelling, if there is one.

    All are file names of wheels of one project. ``Foo-1.0`` and ``foo-2.0`` are twins, and so are
    ``foo-1.0+ft.1`` and ``foo-1.0+FT.1``.
    """
    name, version, *_ = filename.split("-")
    parsed = parse_wheel_filename(filename)
    for other in others:
        try:
            other_parsed = parse_wheel_filename(other)
        except InvalidWheelFilename:
            continue
        other_name, other_version, *_ = other.split("-")
        respelt = other_parsed[1] == parsed[1] and other_version != version
        reordered = other_parsed == parsed and other != filename
        if other_name != name or respelt or reordered:
            return other
    return None


def differences(old: Path, new: Path) -> list[str]:
    """Why two wheels of one file name have other bytes, a line for each difference."""
    try:
        with zipfile.ZipFile(old) as before, zipfile.ZipFile(new) as after:
            lines = _member_differences(before, after) or _attribute_differences(before, after)
    except zipfile.BadZipFile as error:
        return [f"one of the two cannot be read: {error}"]
    lines = lines or [
        "the members and their attributes are the same; the archives are packed apart"
    ]
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])


def _member_differences(before: zipfile.ZipFile, after: zipfile.ZipFile) -> list[str]:
    old = {member.filename: (member.file_size, member.CRC) for member in before.infolist()}
    new = {member.filename: (member.file_size, member.CRC) for member in after.infolist()}
    lines = [f"removed: {name}" for name in sorted(old.keys() - new.keys())]
    lines += [f"added: {name}" for name in sorted(new.keys() - old.keys())]
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            lines.append(f"changed: {name} ({old[name][0]} bytes, now {new[name][0]})")
            if name.endswith(".dist-info/METADATA"):
                lines += _line_differences(before.read(name), after.read(name))
    # RECORD changes with whatever else does, and says nothing by itself.
    telling = [line for line in lines if ".dist-info/RECORD (" not in line]
    return telling or lines


def _line_differences(old: bytes, new: bytes) -> list[str]:
    before, after = old.decode(errors="replace"), new.decode(errors="replace")
    gone = [line for line in before.splitlines() if line not in after.splitlines()]
    come = [line for line in after.splitlines() if line not in before.splitlines()]
    return [f"METADATA without: {line}" for line in gone] + [
        f"METADATA with: {line}" for line in come
    ]


def _attribute_differences(before: zipfile.ZipFile, after: zipfile.ZipFile) -> list[str]:
    old, new = before.infolist(), after.infolist()
    if [member.filename for member in old] != [member.filename for member in new]:
        return ["only the order of the members differs"]
    pairs = list(zip(old, new, strict=True))
    kinds = {
        "times": any(a.date_time != b.date_time for a, b in pairs),
        "modes": any(a.external_attr != b.external_attr for a, b in pairs),
        "compression": any(a.compress_size != b.compress_size for a, b in pairs),
    }
    differing = [kind for kind, differs in kinds.items() if differs]
    return [f"only {' and '.join(differing)} of the members differ"] if differing else []
