"""Limits for all processes of a jail together: control groups, where this process may make some."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from freewheel.machine.host import read_text

PREFIX = "freewheel-jail-"
_OLD = 86_400.0  # seconds after which a group without members was left by a run that was killed
_LIMITS = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max")}


@contextmanager
def limited_groups(name: str, limits: Mapping[str, int]) -> Iterator[tuple[Path, ...]]:
    """Make a group of that name for each controller in ``limits``, and take them away.

    "memory" is in bytes, "pids" a number of processes and threads. Gives the files to which a
    process writes ``0`` to become a member; none where this process cannot make groups.
    """
    made = []
    mounts, own = read_text("/proc/self/mounts"), read_text("/proc/self/cgroup")
    for controller, limit in limits.items():
        parent, unified = parent_of(controller, mounts, own)
        group = parent / name if parent else None
        if not parent or not group:
            continue
        with contextlib.suppress(OSError):
            _sweep(parent)
            if unified:
                (parent / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
            group.mkdir(exist_ok=True)
            made.append(group)
            (group / _LIMITS[controller][unified]).write_text(str(limit), encoding="ascii")
    try:
        yield tuple(group / "cgroup.procs" for group in dict.fromkeys(made))
    finally:
        for group in dict.fromkeys(made):
            with contextlib.suppress(OSError):
                group.rmdir()


def parent_of(controller: str, mounts: str, own: str) -> tuple[Path | None, bool]:
    """The group of this process for a controller, and whether it is of version 2.

    ``mounts`` and ``own`` are the texts of /proc/self/mounts and /proc/self/cgroup.
    """
    groups = [line.split(":", 2) for line in own.splitlines()]
    for line in mounts.splitlines():
        _, place, kind, options = line.split()[:4]
        unified = kind == "cgroup2"
        if not unified and (kind != "cgroup" or controller not in options.split(",")):
            continue
        for _, controllers, path in groups:
            if controllers.split(",") == [""] if unified else controller in controllers.split(","):
                parent = Path(place) / path.lstrip("/")
                if not unified or controller in read_text(f"{parent}/cgroup.controllers").split():
                    return parent, unified
    return None, False


def _sweep(parent: Path) -> None:
    for left in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it has members, or somebody else was faster
            if left.stat().st_mtime < time.time() - _OLD:
                left.rmdir()
