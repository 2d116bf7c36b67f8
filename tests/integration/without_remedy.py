"""Freewheel's command line with one remedy against differing wheels taken away.

``without_remedy.py REMEDY WORDS...``; for tests of the gate alone, which starts it in place of
``python -m freewheel``. The production code has no such switch.

cibuildwheel builds at /project in every container, so two builds of this pipeline have the same
path in their debug information with or without the prefix map; it matters to whoever builds the
sdist elsewhere. To show that the map does its work, the project is moved to another place in the
container, a different one for each checkout: ``moved`` lets the map follow, ``prefix-map`` leaves
it out.
"""

from __future__ import annotations

import os
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from freewheel.base import archives, process
from freewheel.build import wheel
from freewheel.commands import main
from freewheel.recipe.recipe import Release

_STARTED = int(time.time())


def without_epoch() -> None:
    """Members get the time of the build."""
    Release.source_date_epoch = property(lambda _: _STARTED)  # type: ignore[assignment,method-assign]


def without_repack() -> None:
    """Members stay as auditwheel packed them; what is added has the mode that the umask gives."""

    def pack(
        source: Path, target: Path, *, epoch: int, added: Mapping[str, bytes] | None = None
    ) -> None:
        del epoch
        more = dict(added or {})
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
            record = next(name for name in old.namelist() if archives.is_record(name))
            members = {entry: old.read(entry) for entry in old.infolist()}
            rows = [f"{record},,"]
            for entry, content in members.items():
                written = more.pop(entry.filename, content)
                if entry.filename != record and not entry.is_dir():
                    rows.append(_row(entry.filename, written))
                    new.writestr(entry, written)
            for name, content in more.items():
                rows.append(_row(name, content))
                new.writestr(zipfile.ZipInfo(name), content)
            new.writestr(zipfile.ZipInfo(record), "\n".join(rows) + "\n")

    archives.repack_wheel = pack


def _row(name: str, content: bytes) -> str:
    return f"{name},{archives.record_digest(content)},{len(content)}"


def moved() -> None:
    """The container has the project at the checkout's own path."""
    run = process.run
    place = str(PurePosixPath("/moved", *Path.cwd().parts[1:-1]))
    program = Path(__file__).with_name("moved_cibuildwheel.py")

    def run_moved(argv: Sequence[str | os.PathLike[str]], **options: Any) -> process.Finished:  # noqa: ANN401  handed on
        if list(argv[1:3]) == ["-m", "cibuildwheel"]:
            argv = [argv[0], program, place, *argv[3:]]
        return run(argv, **options)

    process.run = run_moved
    wheel._PROJECT = place


def without_prefix_map() -> None:
    """As ``moved``, and the compiler writes the path down."""
    moved()
    environment = wheel.build_environment

    def unmapped(release: Release) -> Mapping[str, str]:
        kept = environment(release)
        return {name: value for name, value in kept.items() if name != "CPPFLAGS"}

    wheel.build_environment = unmapped


REMEDIES = {
    "epoch": without_epoch,
    "repack": without_repack,
    "prefix-map": without_prefix_map,
    "moved": moved,
}


if __name__ == "__main__":
    REMEDIES[sys.argv.pop(1)]()
    main.main()
