"""Tar archives that nobody has read: what would land outside, or fill the disk, is refused."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from freewheel.base.members import ArchiveError
from freewheel.base.tars import open_tar, unpack_tar

Entry = tuple[str, bytes, bytes | str]  # name, kind, content or what a link says


def entry(name: str, kind: bytes = tarfile.REGTYPE, told: bytes | str = b"x") -> Entry:
    return name, kind, told


def link(name: str, target: str) -> Entry:
    return entry(name, tarfile.SYMTYPE, target)


def hard(name: str, target: str) -> Entry:
    return entry(name, tarfile.LNKTYPE, target)


def tar(path: Path, entries: Iterable[Entry], *, mode: int = 0o644) -> Path:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, told in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, mode, 1_700_000_000
            if isinstance(told, bytes):
                info.size = len(told) if kind == tarfile.REGTYPE else 0
                archive.addfile(info, io.BytesIO(told))
            else:
                info.linkname = told
                archive.addfile(info)
    path.write_bytes(gzip.compress(raw.getvalue()))
    return path


def outside(tmp_path: Path, *entries: Entry) -> list[str]:
    """Unpack; what is anywhere below ``tmp_path`` afterwards but in the target directory."""
    source = tar(tmp_path / "source.tar.gz", entries)
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    (tmp_path / "deep" / "precious").write_text("mine")
    with pytest.raises(ArchiveError):
        unpack_tar(source, target)
    assert list(target.iterdir()) == []
    assert (tmp_path / "deep" / "precious").read_text() == "mine"
    return sorted(path.name for path in (tmp_path / "deep").iterdir())


LONG = "d" * 247
CHAIN = "abcdefghijklmnop"


def beyond_path_max() -> list[Entry]:
    """Links within links, whose resolved path is longer than the system looks up."""
    at, entries = "p", [entry("p", tarfile.DIRTYPE)]
    for step in CHAIN:
        entries += [entry(f"{at}/{LONG}", tarfile.DIRTYPE), link(f"{at}/{step}", LONG)]
        at += f"/{step}"
    return [
        *entries,
        link(f"{at}/{'l' * 254}", "../" * len(CHAIN)),
        link("p/escape", f"{'/'.join(CHAIN)}/{'l' * 254}/../.."),
        entry("p/escape/precious", told=b"evil"),
    ]


@pytest.mark.parametrize(
    "entries",
    [
        beyond_path_max(),
        [entry("../precious")],
        [entry("p/../../precious")],
        [entry("/etc/freewheel-test")],
        [entry("p\\..\\..\\precious")],
        [entry("C:precious")],
        [entry("p/\x1b]0;title\x07")],
        [link("p/out", ".."), entry("p/out/precious")],
        [entry("p/a", tarfile.DIRTYPE), link("p/b", "a"), entry("p/b/file")],
        [entry("p/out/precious"), link("p/out", "..")],
        [link("p/l", "/etc/passwd")],
        [link("p/l", "../../precious")],
        [link("p/l", "..")],
        [link("l", "p")],
        [link("p/l", "a/../../precious")],
        [entry("p/a", tarfile.DIRTYPE), link("p/a/up", ".."), link("p/b", "a/up/../precious")],
        [entry("p/a", tarfile.DIRTYPE), link("p/s", "a"), link("p/b", "s/../x")],
        [hard("p/h", "/etc/passwd")],
        [hard("p/h", "p/later"), entry("p/later")],
        [hard("p/h", "../precious")],
        [link("p/l", "file"), hard("p/h", "p/l")],
        [entry("p/d", tarfile.DIRTYPE), hard("p/h", "p/d")],
        [entry("p/null", tarfile.CHRTYPE)],
        [entry("p/disk", tarfile.BLKTYPE)],
        [entry("p/pipe", tarfile.FIFOTYPE)],
        [entry("p/sparse", tarfile.GNUTYPE_SPARSE)],
        [entry("p/odd", b"Z")],
        [entry("p/a"), entry("p/a")],
        [entry("p/a"), entry("p/A")],
        [entry("p/\u00e9"), entry("p/e\u0301")],
        [entry("p/a"), entry("p/a/b")],
        [entry("p/a/b"), entry("p/a")],
        [entry("/".join(["n" * 200] * 25))],
        [entry("p/" + "n" * 256)],
        [entry("/".join("d" * 70))],
    ],
    ids=lambda entries: f"{entries[-1][0][:24]!a} {entries[-1][1].decode()}",
)
def test_what_leads_out_or_deceives_is_refused_before_anything_is_written(
    tmp_path: Path, entries: list[Entry]
) -> None:
    assert outside(tmp_path, *entries) == ["precious", "target"]
    assert not Path("/etc/freewheel-test").exists()


def test_links_that_stay_inside_are_made(tmp_path: Path) -> None:
    source = tar(
        tmp_path / "s.tar.gz",
        [
            link("p/docs/l", "../README"),
            entry("p/README", told=b"read"),
            hard("p/copy", "p/README"),
            link("p/dir", "docs"),
        ],
    )

    unpack_tar(source, tmp_path / "out")

    assert (tmp_path / "out/p/docs/l").read_bytes() == b"read"
    assert (tmp_path / "out/p/dir").readlink() == Path("docs")
    assert (tmp_path / "out/p/copy").read_bytes() == b"read"
    (tmp_path / "out/p/copy").write_bytes(b"other")
    assert (tmp_path / "out/p/README").read_bytes() == b"read"


@pytest.mark.parametrize("mode", [0o4755, 0o777, 0o600, 0o000])
def test_modes_are_plain_whatever_the_umask_is(tmp_path: Path, mode: int) -> None:
    source = tar(tmp_path / "s.tar.gz", [entry("p/run")], mode=mode)
    before = os.umask(0o077)
    try:
        unpack_tar(source, tmp_path / "out")
    finally:
        os.umask(before)

    found = (tmp_path / "out/p/run").stat()
    assert found.st_mode & 0o7777 == (0o755 if mode & 0o100 else 0o644)
    assert found.st_mtime == 1_700_000_000


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_every_compression_is_read_and_a_bomb_in_it_is_refused(tmp_path: Path, pack: type) -> None:
    whole = gzip.decompress(tar(tmp_path / "s.tar.gz", [entry("p/a", told=b"data")]).read_bytes())
    path = tmp_path / "s.tar"
    path.write_bytes(pack(whole))
    with open_tar(path) as archive:
        assert archive.read("p/a") == b"data"

    if pack is not bytes:
        path.write_bytes(pack(bytes(80 << 20)))
        with pytest.raises(ArchiveError, match="unpacks to more than"):
            unpack_tar(path, tmp_path / "out")


def test_hard_links_count_as_often_as_they_are_written(tmp_path: Path) -> None:
    big = entry("p/big", told=bytes(8 << 20))
    many = [hard(f"p/copy{number}", "p/big") for number in range(40)]

    with pytest.raises(ArchiveError, match="members are more than"):
        unpack_tar(tar(tmp_path / "s.tar.gz", [big, *many]), tmp_path / "out")


def damaged(whole: bytes) -> dict[str, bytes]:
    """A tar archive of two members, damaged in several ways."""
    negative = bytearray(whole)
    negative[124:136] = b"\xff" * 11 + b"\x00"  # a size below zero, in base 256
    return {
        "cut in a member": whole[:700],
        "cut in a header": whole[:1100],
        "the second header damaged": whole[:1024] + b"\x01" + whole[1025:],
        "bytes behind the end": whole + b"more",
        "a second archive behind it": whole + whole,
        "a size below zero": bytes(negative),
        "nothing": b"",
        "no archive": b"hello" * 300,
    }


@pytest.mark.parametrize("kind", damaged(b""))
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_what_is_no_whole_archive_is_refused(tmp_path: Path, kind: str, pack: type) -> None:
    source = tar(tmp_path / "s.tar.gz", [entry("p/a", told=b"a" * 512), entry("p/b")])
    whole = gzip.decompress(source.read_bytes())
    source.write_bytes(pack(damaged(whole)[kind]))

    with pytest.raises(ArchiveError):
        unpack_tar(source, tmp_path / "out")

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_stream_that_is_cut_or_changed_is_refused(tmp_path: Path, pack: type) -> None:
    source = tar(tmp_path / "s.tar.gz", [entry("p/a", told=os.urandom(4096))])
    packed = bytearray(pack(gzip.decompress(source.read_bytes())))
    for content in (packed[:-20], packed[: len(packed) // 2], packed[:100] + b"?" + packed[101:]):
        source.write_bytes(bytes(content))
        with pytest.raises(ArchiveError):
            unpack_tar(source, tmp_path / "out")
