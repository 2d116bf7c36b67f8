"""Every cause of a difference is named right, on small wheels and small ELF files."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from freewheel.base import differences
from freewheel.base.differences import Cause
from tests.unit.wheelmaker import make_wheel

SO = "demo/_speed.cpython-314t-x86_64-linux-gnu.so"
CODE = {".text": b"\x90\xc3", ".note.gnu.build-id": b"one"}


def elf(sections: Mapping[str, bytes], *, compressed: bool = False) -> bytes:
    """A 64-bit ELF file with those sections; ``compressed`` packs those of debug info."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    body, headers = b"", [bytes(64)]
    for name, content in {**sections, ".shstrtab": names}.items():
        packed = compressed and name.startswith(".debug")
        kept = bytes(24) + zlib.compress(content) if packed else content
        name_at = names.index(name.encode() + b"\0")
        flags = 0x800 if packed else 0
        headers.append(
            struct.pack("<IIQQQQIIQQ", name_at, 1, flags, 0, 64 + len(body), len(kept), 0, 0, 1, 0)
        )
        body += kept
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    count = len(headers)
    fields = (3, 62, 1, 0, 0, 64 + len(body), 0, 64, 56, 0, 64, count, count - 1)
    return ident + struct.pack("<HHIQQQIHHHHHH", *fields) + body + b"".join(headers)


def named(
    directory: Path, old: bytes | str, new: bytes | str, *, member: str = "demo/data.txt"
) -> list[tuple[str, Cause]]:
    """Member and cause of each difference between two wheels with one differing member."""
    first = make_wheel(directory / "first", "demo", "1.0", members={member: old})
    second = make_wheel(directory / "second", "demo", "1.0", members={member: new})
    return [(each.member, each.cause) for each in differences.compare(first, second)]


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("built 2026-11-23T10:00:00Z\n", "built 2027-12-28T10:00:01Z\n", Cause.TIME),
        ("DATE = 'Nov  3 2026'", "DATE = 'Dec 28 2027'", Cause.TIME),
        ("mtime: 1795000000", "mtime: 1829560000", Cause.TIME),
        ("at 10:00:00 sharp", "at 10:00:07 sharp", Cause.TIME),
        ("root = '/tmp/a/tree'", "root = '/home/me/longer/tree'", Cause.PATH),
        ("b\na\nc\n", "a\nb\nc\n", Cause.SEED),
        ("ALL = {'x', 'y'}", "ALL = {'y', 'x'}", Cause.SEED),
        ("author: Łukasz", "author: ?ukasz".replace("?", "Ą"), Cause.SEED),
        ("answer = 42", "answer = 43", Cause.CONTENT),
        ("see https://example.org/a", "see https://example.org/b", Cause.CONTENT),
        ("version 1.2.3", "version 1.2.4", Cause.CONTENT),
        (b"\xff\x00plain", b"\xff\x01plain", Cause.CONTENT),
        (b"\xff\x00/tmp/one/file", b"\xff\x00/home/two/file", Cause.PATH),
    ],
)
def test_the_cause_of_another_content(
    tmp_path: Path, old: bytes | str, new: bytes | str, cause: Cause
) -> None:
    assert named(tmp_path, old, new) == [("demo/data.txt", cause)]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("section", [".debug_str", ".debug_line_str"])
def test_a_path_in_debug_info(tmp_path: Path, section: str, *, compressed: bool) -> None:
    old = {**CODE, section: b"main.c\0/project\0", ".debug_info": b"\x07"}
    new = {
        ".text": CODE[".text"],
        ".note.gnu.build-id": b"two",
        section: b"main.c\0/build/elsewhere\0",
        ".debug_info": b"\x0f",
    }
    first = make_wheel(tmp_path / "a", "demo", "1.0", members={SO: elf(old, compressed=compressed)})
    second = make_wheel(
        tmp_path / "b", "demo", "1.0", members={SO: elf(new, compressed=compressed)}
    )

    (difference,) = differences.compare(first, second)

    assert (difference.member, difference.cause) == (SO, Cause.DEBUG_PATH)
    assert difference.quotes == (
        "without: /project",
        "with: /build/elsewhere",
        f"sections .debug_info {section}",
    )


@pytest.mark.parametrize(
    ("old", "new", "causes"),
    [
        ({".rodata": b"/project/a.c\0"}, {".rodata": b"/other/a.c\0"}, [Cause.PATH]),
        ({".rodata": b"Nov 23 2026\0"}, {".rodata": b"Dec 28 2027\0"}, [Cause.TIME]),
        ({".rodata": b"green\0blue\0"}, {".rodata": b"blue\0green\0"}, [Cause.SEED]),
        ({".text": b"\x90\xc3"}, {".text": b"\xcc\xc3"}, [Cause.CONTENT]),
        # Code looks like text by chance.
        ({".text": b"/aaaa\xc3"}, {".text": b"/bbbb\xc3"}, [Cause.CONTENT]),
        ({".debug_str": b"GNU C17 -O3\0"}, {".debug_str": b"GNU C17 -O0\0"}, [Cause.CONTENT]),
        (
            {".text": b"\x90", ".debug_str": b"/project\0"},
            {".text": b"\xcc", ".debug_str": b"/other\0"},
            [Cause.CONTENT, Cause.DEBUG_PATH],
        ),
        ({".note.gnu.build-id": b"one"}, {".note.gnu.build-id": b"two"}, [Cause.CONTENT]),
    ],
)
def test_the_cause_in_an_extension_module(
    tmp_path: Path, old: dict[str, bytes], new: dict[str, bytes], causes: list[Cause]
) -> None:
    found = named(tmp_path, elf({**CODE, **old}), elf({**CODE, **new}), member=SO)

    assert found == [(SO, cause) for cause in causes]


def test_a_damaged_extension_module_is_another_content(tmp_path: Path) -> None:
    whole = elf(CODE)

    assert named(tmp_path, whole, whole[:80], member=SO) == [(SO, Cause.CONTENT)]


def test_times_and_modes_name_each_member(tmp_path: Path) -> None:
    members = {"demo/a.py": "", "demo/b.py": ""}
    old = make_wheel(tmp_path / "a", "demo", "1.0", members=members)
    new = make_wheel(
        tmp_path / "b", "demo", "1.0", members=members, mode=0o100600, stamp=(2027, 1, 1, 0, 0, 0)
    )

    lines = differences.causes(differences.compare(old, new))

    assert "time: demo/a.py: 2026-01-02 03:04:06, now 2027-01-01 00:00:00" in lines
    assert "mode: demo/a.py: 100644, now 100600" in lines
    # Five members differ in both.
    assert lines.count("time: and 1 more members") == 1
    assert lines.count("mode: and 1 more members") == 1


def test_order_names_where_it_begins_to_differ(tmp_path: Path) -> None:
    old = make_wheel(tmp_path / "a", "demo", "1.0", members={"a.py": "", "b.py": ""})
    new = make_wheel(tmp_path / "b", "demo", "1.0", members={"b.py": "", "a.py": ""})

    found = differences.compare(old, new)

    assert differences.causes(found) == ["order: a.py stands where now b.py stands"]


def test_missing_members_and_compression(tmp_path: Path) -> None:
    old = make_wheel(tmp_path / "a", "demo", "1.0", members={"a.py": "pass\n" * 50})
    new = make_wheel(tmp_path / "b", "demo", "1.0", members={"b.py": "pass\n" * 50})
    stored = tmp_path / "c" / old.name
    stored.parent.mkdir()
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(stored, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            member.compress_type = zipfile.ZIP_STORED
            target.writestr(member, content)

    assert differences.causes(differences.compare(old, new))[:2] == [
        "missing: a.py: removed",
        "missing: b.py: added",
    ]
    assert {each.cause for each in differences.compare(old, stored)} == {Cause.PACKING}
    assert differences.differences(old, stored) == ["only compression of the members differ"]


def test_the_record_speaks_only_for_itself(tmp_path: Path) -> None:
    old = make_wheel(tmp_path / "a", "demo", "1.0")
    new = tmp_path / "b" / old.name
    new.parent.mkdir()
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            if member.filename.endswith("RECORD"):
                content = b"".join(reversed(content.splitlines(keepends=True)))
            target.writestr(member, content)

    inside = [each for each in differences.compare(old, new) if each.inside]

    assert [(each.member, each.cause) for each in inside] == [
        ("demo-1.0.dist-info/RECORD", Cause.SEED)
    ]


def test_equal_wheels_have_no_difference(tmp_path: Path) -> None:
    old, new = (make_wheel(tmp_path / name, "demo", "1.0") for name in "ab")

    assert differences.compare(old, new) == ()
