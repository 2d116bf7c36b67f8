"""What this machine is, in the words that a certificate needs."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from freewheel.machine.host import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A machine; ``memory`` is in MiB, 0 where the system does not say."""

    system: str
    kernel: str
    processor: str
    processors: int
    memory: int


def look() -> Facts:
    """The facts of the machine that this runs on."""
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        system = f"{platform.system()} {platform.release()}"
    return Facts(
        system=system,
        kernel=f"{platform.system()} {platform.release()}",
        processor=f"{_model(read_text('/proc/cpuinfo'))} ({platform.machine()})",
        processors=os.cpu_count() or 0,
        memory=_kibibytes(read_text("/proc/meminfo")) >> 10,
    )


def _model(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown"


def _kibibytes(meminfo: str) -> int:
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1])
    return 0
