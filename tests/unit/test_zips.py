"""Zip archives that readers could understand differently, or that lead out, are refused."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from freewheel.base.members import ArchiveError
from freewheel.base.wheel_archive import open_wheel
from freewheel.base.zips import open_zip


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return raw.getvalue()


PLAIN = packed(("p/a.py", b"a = 1\n" * 50), ("p/b.py", b"b = 2\n" * 50))


def opened(tmp_path: Path, content: bytes) -> list[str]:
    path = tmp_path / "x.whl"
    path.write_bytes(content)
    with open_zip(path) as archive:
        for name in archive.namelist():
            archive.read(name)
        return archive.namelist()


def test_a_plain_archive_is_read(tmp_path: Path) -> None:
    assert opened(tmp_path, PLAIN) == ["p/a.py", "p/b.py"]
    assert opened(tmp_path, packed(("p/ü.py", b""), method=zipfile.ZIP_STORED)) == ["p/ü.py"]
    assert opened(tmp_path, packed()) == []


@pytest.mark.parametrize(
    "names",
    [
        ["../evil.py"],
        ["p/../../evil.py"],
        ["/etc/evil"],
        ["p\\evil.py"],
        ["C:evil.py"],
        ["p/a.py", "p/a.py"],
        ["p/a.py", "P/A.py"],
        ["p/a", "p/a/b"],
        ["p/\x1b[2J.py"],
        ["n/" * 80 + "x"],
        ["n" * 300],
    ],
    ids=lambda names: ascii(names[-1][:16]),
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_lead_out_or_are_there_twice(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ArchiveError):
        opened(tmp_path, packed(*((name, b"x") for name in names)))


def first_local(content: bytes, offset: int, value: bytes) -> bytes:
    """With bytes of the first member's local header replaced."""
    return content[:offset] + value + content[offset + len(value) :]


def central(content: bytes, offset: int, value: bytes) -> bytes:
    """With bytes of the first entry in the directory replaced."""
    at = content.index(b"PK\x01\x02") + offset
    return content[:at] + value + content[at + len(value) :]


def between(content: bytes, what: bytes = b"hidden") -> bytes:
    """With bytes between the members and the directory, which the end record leaves out."""
    at = content.index(b"PK\x01\x02")
    start = struct.pack("<I", at + len(what))
    moved = content[:at] + what + content[at:]
    return moved[:-6] + start + moved[-2:]


AMBIGUOUS: dict[str, Callable[[bytes], bytes]] = {
    "bytes before": lambda whole: b"#!/bin/sh\n" + whole,
    "bytes behind": lambda whole: whole + b"more",
    "a second archive behind": lambda whole: whole + packed(("p/other.py", b"")),
    "a comment": lambda whole: whole[:-2] + b"\x04\x00note",
    "bytes between": between,
    "a member that the directory leaves out": lambda whole: between(whole, packed()[:0] + b"PK34"),
    "another name in the header": lambda whole: first_local(whole, 30, b"p/z.py"),
    "another name in the directory": lambda whole: central(whole, 46, b"p/z.py"),
    "another size in the header": lambda whole: first_local(whole, 22, b"\x01\x00\x00\x00"),
    "another size in the directory": lambda whole: central(whole, 24, b"\x01\x00\x00\x00"),
    "another digest in the header": lambda whole: first_local(whole, 14, b"\x01\x02\x03\x04"),
    "another method": lambda whole: first_local(whole, 8, b"\x00\x00"),
    "encrypted": lambda whole: central(first_local(whole, 6, b"\x01\x00"), 8, b"\x01\x00"),
    "sizes behind the member": lambda whole: central(
        first_local(whole, 6, b"\x08\x00"), 8, b"\x08\x00"
    ),
    "an unknown method": lambda whole: central(first_local(whole, 8, b"\x5d\x00"), 10, b"\x5d\x00"),
    "several disks": lambda whole: whole[:-18] + b"\x01\x00" + whole[-16:],
    "another number of entries": lambda whole: whole[:-12] + b"\x01\x00" + whole[-10:],
    "a damaged member": lambda whole: first_local(whole, 40, b"\xff\xff\xff\xff"),
    "cut short": lambda whole: whole[:-30],
    "nothing": lambda _whole: b"",
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_what_readers_could_understand_differently(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ArchiveError):
        opened(tmp_path, AMBIGUOUS[kind](PLAIN))


@pytest.mark.parametrize("kind", [0x0001, 0x7075])
def test_a_second_name_or_size_in_an_extra_field(tmp_path: Path, kind: int) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        member = zipfile.ZipInfo("p/a.py")
        member.extra = struct.pack("<HH", kind, 4) + b"\x01abc"
        archive.writestr(member, b"")

    with pytest.raises(ArchiveError):
        opened(tmp_path, raw.getvalue())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_what_is_no_file(tmp_path: Path, kind: int) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        member = zipfile.ZipInfo("p/link")
        member.create_system, member.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(member, b"/etc/passwd")

    with pytest.raises(ArchiveError, match="no file or directory"):
        opened(tmp_path, raw.getvalue())


def test_a_bomb(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        opened(tmp_path, packed(("p/zeros", bytes(80 << 20))))


def test_a_bomb_that_denies_its_size_stops_at_it(tmp_path: Path) -> None:
    whole = packed(("p/zeros", bytes(1 << 20)))
    small = struct.pack("<I", 100)

    with pytest.raises(ArchiveError):
        opened(tmp_path, central(first_local(whole, 22, small), 24, small))


@pytest.mark.parametrize("names", [[], ["a.dist-info/METADATA", "b.dist-info/METADATA"], ["a.py"]])
def test_a_wheel_has_one_dist_info(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(packed(*((name, b"") for name in names)))

    with pytest.raises(ArchiveError, match=r"\.dist-info"), open_wheel(path):
        pass


def test_metadata_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(packed(("a.dist-info/METADATA", "Name: é".encode("latin-1"))))

    with pytest.raises(ArchiveError, match="not UTF-8"), open_wheel(path) as wheel:
        wheel.headers("METADATA")
