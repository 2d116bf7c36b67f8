"""Small sdists, and a package index of them kept as files, as a machine may be configured with."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PKG_INFO = """\
Metadata-Version: 2.4
Name: {name}
Version: {version}
Summary: Counts, quickly
Project-URL: Source, https://example.com/speedy
"""


def make_sdist(
    directory: Path, name: str, version: str, members: Mapping[str, str | bytes]
) -> Path:
    """Write ``<name>-<version>.tar.gz`` into the directory; the same arguments, the same bytes."""
    root = f"{name}-{version}"
    every = {"PKG-INFO": PKG_INFO.format(name=name, version=version), **members}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for member, content in sorted(every.items()):
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(f"{root}/{member}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{root}.tar.gz"
    path.write_bytes(gzip.compress(raw.getvalue(), mtime=0))
    return path


def make_index(
    directory: Path, project: str, files: Mapping[str, bytes], *, yanked: Sequence[str] = ()
) -> Path:
    """A static index with those files of a project, uploaded on one day after the other."""
    room = directory / project
    room.mkdir(parents=True, exist_ok=True)
    listed = []
    for day, (name, content) in enumerate(files.items(), start=1):
        (room / name).write_bytes(content)
        listed.append(
            {
                "filename": name,
                "url": name,
                "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
                "size": len(content),
                "upload-time": f"2026-01-{day:02d}T12:00:00.5Z",
                "yanked": name in yanked,
            }
        )
    page = {
        "meta": {"api-version": "1.1"},
        "name": project,
        "versions": ["0"],
        "files": listed,
    }
    (room / "index.json").write_text(json.dumps(page), encoding="utf-8")
    return directory
