"""Repacked archives: the same contents give the same bytes, whatever else was different."""

import io
import os
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
from installer.sources import WheelFile

from freewheel.base.archives import repack_tar, repack_wheel

EPOCH = 1_790_000_000
MEMBERS = {
    "pkg/__init__.py": b"x = 1\n",
    "pkg/fast.cpython-314t-x86_64-linux-gnu.so": b"\x7fELF",
    "pkg-1.0.dist-info/METADATA": b"Name: pkg\nVersion: 1.0\n",
    "pkg-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n",
    "pkg-1.0.dist-info/RECORD": b"pkg/__init__.py,,\n",
}


def wheel(path: Path, *, seed: int) -> Path:
    """The same wheel with its order, times and modes shaken."""
    shaken = random.Random(seed)
    names = list(MEMBERS)
    shaken.shuffle(names)
    with zipfile.ZipFile(path, "w", compression=shaken.choice([0, 8])) as archive:
        for name in names:
            info = zipfile.ZipInfo(name, date_time=(2000 + seed, 1, 1, 0, 0, 0))
            mode = 0o755 if name.endswith(".so") else shaken.choice([0o644, 0o600, 0o664])
            info.external_attr = mode << 16
            archive.writestr(info, MEMBERS[name])
    return path


def sdist(path: Path, *, seed: int) -> Path:
    shaken = random.Random(seed)
    names = ["pkg-1.0/setup.py", "pkg-1.0/PKG-INFO", "pkg-1.0/src/made.c"]
    shaken.shuffle(names)
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            info.mtime = seed
            info.uid = info.gid = seed
            info.uname = f"user{seed}"
            info.mode = shaken.choice([0o644, 0o600, 0o664])
            archive.addfile(info, io.BytesIO(name.encode()))
    return path


def test_a_wheel_depends_on_its_contents_alone(tmp_path: Path) -> None:
    first = wheel(tmp_path / "first.whl", seed=1)
    second = wheel(tmp_path / "second.whl", seed=2)
    assert first.read_bytes() != second.read_bytes()

    repack_wheel(first, tmp_path / "a.whl", epoch=EPOCH)
    repack_wheel(second, tmp_path / "b.whl", epoch=EPOCH)

    assert (tmp_path / "a.whl").read_bytes() == (tmp_path / "b.whl").read_bytes()


def test_a_repacked_wheel_installs(tmp_path: Path) -> None:
    repack_wheel(wheel(tmp_path / "x.whl", seed=3), tmp_path / "pkg-1.0-py3-none-any.whl", epoch=0)

    with zipfile.ZipFile(tmp_path / "pkg-1.0-py3-none-any.whl") as archive:
        WheelFile(archive).validate_record(validate_contents=True)
        assert archive.namelist()[-1] == "pkg-1.0.dist-info/RECORD"
        extension = archive.getinfo("pkg/fast.cpython-314t-x86_64-linux-gnu.so")
        assert extension.external_attr >> 16 == 0o100755
        assert extension.date_time == (1980, 1, 1, 0, 0, 0)  # the earliest that zip can say


def test_an_sdist_depends_on_its_contents_alone(tmp_path: Path) -> None:
    for seed in (1, 2):
        repack_tar(
            sdist(tmp_path / f"{seed}.tar.gz", seed=seed), tmp_path / f"out{seed}", epoch=EPOCH
        )

    assert (tmp_path / "out1").read_bytes() == (tmp_path / "out2").read_bytes()


def test_an_sdist_leaves_out_what_it_is_told_to(tmp_path: Path) -> None:
    source = sdist(tmp_path / "pkg.tar.gz", seed=1)

    repack_tar(source, tmp_path / "out.tar.gz", epoch=EPOCH, without={"src/made.c"})

    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        assert archive.getnames() == ["pkg-1.0/PKG-INFO", "pkg-1.0/setup.py"]
        assert {member.mtime for member in archive.getmembers()} == {EPOCH}


@pytest.mark.skipif(os.name != "posix", reason="umask is a POSIX thing")
def test_the_umask_does_not_matter(tmp_path: Path) -> None:
    source = wheel(tmp_path / "x.whl", seed=1)
    outputs = []
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            repack_wheel(source, tmp_path / f"{umask}.whl", epoch=EPOCH)
        finally:
            os.umask(before)
        outputs.append((tmp_path / f"{umask}.whl").read_bytes())

    assert outputs[0] == outputs[1]
