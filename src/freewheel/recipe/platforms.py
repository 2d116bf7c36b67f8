"""The platforms that wheels are built for: one row each, with all that differs between them.

A target is an interpreter (pythons.py) and one of these. Only the four ELF codes of the container
engine's probe stand elsewhere: they are about the machine that Freewheel runs on.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

# Why the proof does not run somewhere, in a recipe that has no reason of its own.
_NO_MUSL = "the proof runs wheels on the machine itself, and none of the runners has musl"
_NO_POSIX = "the proof ends programs by POSIX sessions, and limits them by POSIX limits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What Freewheel knows of a platform, such as ``manylinux_x86_64``.

    ``system`` and ``machine`` are what ``sys.platform`` and ``platform.machine()`` say there.
    ``runner`` is the label of GitHub's own runner of that kind: nothing is emulated or
    cross-compiled. ``tag`` is a pattern of the platform tags that its wheels may have. ``policy``
    names cibuildwheel's official image, "" where builds are native; ``accepts`` are the tags of
    what a build in it may install. ``environment`` belongs to a native build, with ``{project}``
    for its directory. ``unproven`` is why the proof does not run there, "" where it does. An
    ``experimental`` one has been checked by types and unit tests, and never been built.
    """

    name: str
    system: str
    machine: str
    runner: str
    tag: str
    policy: str = ""
    accepts: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    repairs: bool = True
    unproven: str = ""
    experimental: bool = True

    @property
    def is_own(self) -> bool:
        """Whether this machine's own interpreters can load its wheels."""
        return self.is_built_here and not self.name.startswith("musllinux")

    @property
    def is_built_here(self) -> bool:
        """Whether this machine can build for it: its own, or with musl in a container."""
        return (self.system, self.machine) == (sys.platform, platform.machine())

    def takes(self, tag: str) -> bool:
        """Whether a wheel for it may have that platform tag."""
        return re.fullmatch(self.tag, tag) is not None


def _manylinux(machine: str, runner: str, *, experimental: bool = True) -> Platform:
    return Platform(
        name=f"manylinux_{machine}",
        system="linux",
        machine=machine,
        runner=runner,
        tag=rf"manylinux(1|2010|2014|_\d+_\d+)_{machine}",
        policy="manylinux_2_28",
        # glibc, newest first: a build requirement may use what the image can load.
        accepts=tuple(f"manylinux{v}_{machine}" for v in ("_2_28", "_2_17", "2014")),
        experimental=experimental,
    )


def _musllinux(machine: str, runner: str) -> Platform:
    return Platform(
        name=f"musllinux_{machine}",
        system="linux",
        machine=machine,
        runner=runner,
        tag=rf"musllinux_\d+_\d+_{machine}",
        policy="musllinux_1_2",
        accepts=(f"musllinux_1_2_{machine}", f"musllinux_1_1_{machine}"),
        unproven=_NO_MUSL,
    )


def _macos(machine: str, runner: str, *, oldest: str) -> Platform:
    """``oldest`` is the oldest macOS that CPython's own installer for the processor serves."""
    return Platform(
        name=f"macosx_{machine}",
        system="darwin",
        machine=machine,
        runner=runner,
        tag=rf"macosx_\d+_\d+_{machine}",
        environment={
            "LC_ALL": "C",
            "MACOSX_DEPLOYMENT_TARGET": oldest,
            # The linker would note each object file's path and time in the debug map; without
            # debug information there is none. CPPFLAGS come after CPython's own -g.
            "CPPFLAGS": "-g0 -ffile-prefix-map={project}=.",
            "ZERO_AR_DATE": "1",
        },
    )


def _windows(machine: str, runner: str) -> Platform:
    return Platform(
        name=f"win_{machine.lower()}",
        system="win32",
        machine=machine,
        runner=runner,
        tag=f"win_{machine.lower()}",
        # Both programs read their own variable; without /Brepro they write the time into each file.
        environment={"CL": "/Brepro", "LINK": "/Brepro"},
        # Nothing may be grafted there.
        repairs=False,
        unproven=_NO_POSIX,
    )


ROWS = (
    _manylinux("x86_64", "ubuntu-24.04", experimental=False),
    _manylinux("aarch64", "ubuntu-24.04-arm"),
    _musllinux("x86_64", "ubuntu-24.04"),
    _musllinux("aarch64", "ubuntu-24.04-arm"),
    _macos("arm64", "macos-15", oldest="11.0"),
    _macos("x86_64", "macos-15-intel", oldest="10.15"),
    _windows("AMD64", "windows-2025"),
    _windows("ARM64", "windows-11-arm"),
)
_BY_NAME = {row.name: row for row in ROWS}


def find_platform(target: str) -> Platform | None:
    """The platform of a build identifier, if it is one that is known."""
    return _BY_NAME.get(target.partition("-")[2])


def platform_of(target: str) -> Platform:
    """The platform of a recipe's target, which is a known one."""
    return _BY_NAME[target.partition("-")[2]]
