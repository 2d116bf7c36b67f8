"""What about this machine decides how a container can be started."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from freewheel.machine import debian

CgroupLayout = Literal["v1", "v2", "hybrid", "none"]

_CAP_SYS_RESOURCE = 1 << 24  # capabilities(7): who has it may raise hard limits
# Podman lowers its own limits to these before it starts a container, and what it gave up it could
# not raise again.
_CEILINGS = {"nofile": 1 << 20, "nproc": 1 << 15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What about this machine decides how a container can be started.

    ``limits`` are the hard limits of this process by ulimit name, without the unlimited ones.
    """

    cgroups: CgroupLayout
    may_raise_limits: bool
    limits: Mapping[str, int]
    systemd: bool
    root: bool

    @property
    def needs_runc(self) -> bool:
        """crun, Podman's default runtime, refuses control groups of version 1 and mixtures."""
        return self.cgroups in ("v1", "hybrid")

    @property
    def odd(self) -> bool:
        """Whether a containers.conf of our own is needed from the start."""
        return self.needs_runc or (self.root and not self.may_raise_limits)


def look_at_host() -> Host:
    """Read this machine's facts from /proc; elsewhere, those of a machine without oddities."""
    return Host(
        cgroups=cgroup_layout(read_text("/proc/self/mounts")),
        may_raise_limits=may_raise_limits(read_text("/proc/self/status")),
        limits=_hard_limits(),
        systemd=Path("/run/systemd/system").is_dir(),
        root=debian.is_root(),
    )


def _hard_limits() -> dict[str, int]:
    """The hard limits that a container inherits; those without a value are left out."""
    if sys.platform == "win32":
        return {}
    import resource  # noqa: PLC0415  Windows has no such module

    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    limits = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items()}
    return {name: hard for name, hard in limits.items() if hard != resource.RLIM_INFINITY}


def processors() -> tuple[int, ...]:
    """The numbers of the processors that this process may use, as far as the system tells."""
    if sys.platform == "linux":
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def free_port() -> int:
    """A TCP port of loopback that nobody listens on; another process may take it meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cgroup_layout(mounts: str) -> CgroupLayout:
    """How control groups are mounted, from the text of /proc/self/mounts."""
    kinds = {line.split()[2] for line in mounts.splitlines()}
    if {"cgroup", "cgroup2"} <= kinds:
        return "hybrid"
    if "cgroup2" in kinds:
        return "v2"
    return "v1" if "cgroup" in kinds else "none"


def may_raise_limits(status: str) -> bool:
    """Whether CAP_SYS_RESOURCE is effective, from the text of /proc/self/status."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) & _CAP_SYS_RESOURCE)
    return True


def containers_conf(host: Host, *, runtime: str | None) -> tuple[str, tuple[str, ...]]:
    """The containers.conf that this host needs, and the reason for each thing in it."""
    engine, containers, reasons = ['events_logger = "file"'], [], []
    if runtime:
        engine.append(f'runtime = "{runtime}"')
        reasons.append(
            f"control groups are {host.cgroups}: runtime {runtime}, as crun refuses them"
        )
    if not host.systemd:
        engine.append('cgroup_manager = "cgroupfs"')
        reasons.append("systemd does not run here: cgroupfs manages the control groups")
    if host.root and not host.may_raise_limits:
        limits = {name: min(hard, _CEILINGS[name]) for name, hard in host.limits.items()}
        shown = ", ".join(f'"{name}={limit}:{limit}"' for name, limit in limits.items())
        containers += [f"default_ulimits = [{shown}]", 'log_driver = "k8s-file"']
        reasons.append("limits cannot be raised here: containers get this process's own")
    text = "\n".join(["[engine]", *engine, "", "[containers]", *containers])
    return text + "\n", tuple(reasons)


def read_text(path: str) -> str:
    """A file of /proc; "" where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
