"""Small real wheels, made in memory: right RECORD, right .dist-info, any name, version and tag."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from packaging.utils import parse_wheel_filename

from freewheel.base import files
from freewheel.build import buildinfo, check
from freewheel.build.check import VerifiedWheel
from freewheel.proof import certificate
from freewheel.proof.certificate import CertifiedWheel

LINUX_TAG = "cp314-cp314t-manylinux_2_17_x86_64"
ANY_TAG = "py3-none-any"
_STAMP = (2026, 1, 2, 3, 4, 6)


def make_wheel(
    directory: Path,
    name: str,
    version: str,
    *,
    tag: str = LINUX_TAG,
    members: Mapping[str, bytes | str] | None = None,
    metadata: Mapping[str, str | Sequence[str] | None] | None = None,
    stamp: tuple[int, int, int, int, int, int] = _STAMP,
    mode: int = 0o100644,
) -> Path:
    """Write ``<name>-<version>-<tag>.whl`` into ``directory``; the same arguments, the same bytes.

    ``name`` is written into the file name as it is. ``members`` are files beside .dist-info, by
    default one module with the version in it. ``metadata`` replaces fields of METADATA; a
    sequence repeats a field, None leaves it out. ``stamp`` and ``mode`` are those of every member.
    """
    package = name.lower().replace("-", "_").replace(".", "_")
    if members is None:
        members = {f"{package}/__init__.py": f'__version__ = "{version}"\n'}
    info = f"{name}-{version}.dist-info"
    written = {path: _bytes(content) for path, content in members.items()}
    written[f"{info}/METADATA"] = _metadata(name, version, metadata or {})
    written[f"{info}/WHEEL"] = _wheel_file(tag)
    rows = [
        f"{path},{_digest(content)},{len(content)}" for path, content in sorted(written.items())
    ]
    written[f"{info}/RECORD"] = _bytes("\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in written.items():
            entry = zipfile.ZipInfo(member, date_time=stamp)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return path


def make_record(
    wheel: Path, target: str = "cp314t-manylinux_x86_64", **more: str
) -> buildinfo.Record:
    """A wheel's buildinfo, written beside it; project and version are those of the file name."""
    name, _, _, _ = parse_wheel_filename(wheel.name)
    record = buildinfo.Record(
        wheel=wheel,
        project=name,
        version=wheel.name.split("-")[1],
        sha256=files.sha256(wheel),
        size=wheel.stat().st_size,
        inputs={"target": target, **more},
        details={},
    )
    buildinfo.write_record(record)
    return record


def as_verified(path: Path) -> VerifiedWheel:
    """The wheel as if it had passed every check; project and version are those of the file name."""
    name, _, _, _ = parse_wheel_filename(path.name)
    return VerifiedWheel(
        path=path,
        project=name,
        version=path.name.split("-")[1],
        sha256=files.sha256(path),
        size=path.stat().st_size,
        seal=check._SEAL,
    )


def as_certified(path: Path) -> CertifiedWheel:
    """The wheel as the proof would hand it over, for tests of what comes after."""
    wheel = as_verified(path)
    return CertifiedWheel(
        path=wheel.path,
        project=wheel.project,
        version=wheel.version,
        sha256=wheel.sha256,
        size=wheel.size,
        certified=datetime(2026, 11, 25, tzinfo=UTC),
        seal=certificate._SEAL,
    )


def _metadata(name: str, version: str, changes: Mapping[str, str | Sequence[str] | None]) -> bytes:
    fields: dict[str, str | Sequence[str] | None] = {
        "Metadata-Version": "2.4",
        "Name": name,
        "Version": version,
        "Summary": "A wheel for tests",
        "Requires-Python": ">=3.9",
        **changes,
    }
    lines = []
    for field, value in fields.items():
        values = [value] if isinstance(value, str) else value or []
        lines += [f"{field}: {item}" for item in values]
    return _bytes("\n".join(lines) + "\n")


def _wheel_file(tag: str) -> bytes:
    pure = str(tag.endswith("-any")).lower()
    interpreters, abis, platforms = tag.split("-")
    tags = [
        f"Tag: {interpreter}-{abi}-{platform}"
        for interpreter in interpreters.split(".")
        for abi in abis.split(".")
        for platform in platforms.split(".")
    ]
    lines = ["Wheel-Version: 1.0", "Generator: wheelmaker", f"Root-Is-Purelib: {pure}", *tags]
    return _bytes("\n".join(lines) + "\n")


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content
