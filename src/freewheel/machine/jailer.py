"""Make the namespaces of a jail, and keep them until standard input ends: ``jailer.py JSON``.

It stands alone, for it runs in a process of its own: to enter a user namespace, a process must
have one thread only. The JSON has ``root``, an empty directory to build the new root in;
``readable`` and ``writable``, what of this machine is seen there under its own name; and
``processes``, how many there may be at once. It prints ``ready PID``, where PID is the first
process of the jail, or what went wrong.
"""

import ctypes
import fcntl
import json
import os
import platform
import re
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":
    raise ImportError("namespaces are Linux's")

# linux/sched.h, linux/mount.h, linux/prctl.h and the tables of system calls.
_NEW = 0x10000000 | 0x20000 | 0x40000000 | 0x20000000 | 0x08000000 | 0x04000000
_BIND, _REC, _PRIVATE, _NOSUID, _NODEV, _NOEXEC = 1 << 12, 1 << 14, 1 << 18, 2, 4, 8
_DETACH = 2
_ATTR_READ_ONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_SETATTR = -100, 0x8000, 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
_SET_PDEATHSIG = 1
_OWN_PID_MAX = (6, 14)  # version of Linux
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1

_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store", "gnu/store")
# What programs look up there; nothing that is secret.
_ETC = (
    *("passwd", "group", "nsswitch.conf", "hosts", "host.conf", "services", "protocols"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "timezone", "os-release"),
    *("alternatives", "ssl/certs", "ssl/openssl.cnf", "pki/tls/certs", "ca-certificates"),
)
_DEVICES = ("null", "zero", "full", "random", "urandom")  # no terminal: it could be typed into
_MACHINE = ("sys/devices/system/cpu", "sys/devices/system/node")
# What root could change of the machine there, also without capabilities.
_PROC_SEEN = ("sys", "sysrq-trigger", "irq", "bus", "fs")
_TEMPORARY = ("tmp", "var/tmp", "run", "dev/shm")

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Make the namespaces, report, and wait."""
    wanted = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this ends it
    new_namespaces()
    first = os.fork()
    if first == 0:
        check(libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not kept
        furnish(Path(wanted["root"]), wanted["readable"], wanted["writable"])
        limit(wanted["processes"])
        read_only(Path("/proc/sys"))
        say("furnished")
        os.read(0, 1)
        os._exit(0)
    say(f"first {first}")
    os.waitpid(first, 0)


def say(line: str) -> None:
    """Report to whoever started this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def check(result: int, what: str) -> None:
    """Raise OSError where a function of libc failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


# ---------------------------------------------------------------------------------- namespaces


def new_namespaces() -> None:
    """Users, mounts, processes, network, IPC and host name; the same ids inside as outside."""
    uid, gid = os.getuid(), os.getgid()
    inside, outside = os.pipe(), os.pipe()
    helper = os.fork()
    if helper == 0:  # root may map all ids, but only from outside
        os.read(inside[0], 1)
        if uid == 0:
            for kind in ("uid_map", "gid_map"):
                write(f"/proc/{os.getppid()}/{kind}", identity(kind))
        os.write(outside[1], b"x")
        os._exit(0)
    check(libc.unshare(_NEW), "unshare")
    os.write(inside[1], b"x")
    os.close(outside[1])
    if not os.read(outside[0], 1):
        raise OSError("the ids of the namespace could not be mapped")
    os.waitpid(helper, 0)
    if uid != 0:
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{uid} {uid} 1")
        write("/proc/self/gid_map", f"{gid} {gid} 1")


def identity(kind: str) -> str:
    """All ids of this namespace, each mapped to itself."""
    lines = Path(f"/proc/self/{kind}").read_text().splitlines()
    starts = [(line.split()[0], line.split()[2]) for line in lines]
    return "\n".join(f"{start} {start} {count}" for start, count in starts)


def write(path: str, text: str) -> None:
    """Write a file of the kernel in one go."""
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123  unbuffered
        file.write(text.encode())


def limit(processes: int) -> None:
    """Limit the number of processes where each namespace has its own limit; forbid further ones."""
    write("/proc/sys/user/max_user_namespaces", "0")
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    # Before, it was that of the whole machine.
    if version and (int(version[1]), int(version[2])) >= _OWN_PID_MAX:
        write("/proc/sys/kernel/pid_max", str(processes))


def loopback() -> None:
    """Bring the only network interface up."""
    with socket.socket() as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh22x", b"lo", flags | _UP))


# ---------------------------------------------------------------------------------- the new root


def furnish(root: Path, readable: list[str], writable: list[str]) -> None:
    """Build the new root, enter it, and leave the old one."""
    loopback()
    mount("none", Path("/"), "", _REC | _PRIVATE)
    mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m")
    for name in (*_SYSTEM, *(f"etc/{name}" for name in _ETC), *_MACHINE):
        if os.path.lexists(f"/{name}"):
            show(root, Path("/", name), write=False)
    for name in _TEMPORARY:
        place = root / name
        place.mkdir(parents=True)
        mount("tmpfs", place, "tmpfs", _NOSUID | _NODEV, "mode=1777,size=1g")
    (root / "var" / "run").symlink_to("../run")
    (root / "run" / "postgresql").mkdir()
    (root / "run" / "postgresql").chmod(0o1777)
    for name in _DEVICES:
        (root / "dev" / name).touch()
        mount(f"/dev/{name}", root / "dev" / name, "", _BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (root / "dev" / name).symlink_to(f"/proc/self/fd{target}")
    (root / "proc").mkdir()
    mount("proc", root / "proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    chosen = {**dict.fromkeys(readable, False), **dict.fromkeys(writable, True)}
    for name, may_write in sorted(chosen.items()):  # a directory before what is in it
        show(root, Path(name), write=may_write)
    for name in _PROC_SEEN:
        place = root / "proc" / name
        if place.exists():
            mount(str(place), place, "", _BIND)
            if name != "sys":  # not yet
                read_only(place)
    enter(root)


def show(root: Path, path: Path, *, write: bool) -> None:
    """Let a path of this machine be seen under its own name, with the links on the way to it."""
    for link, target in (found := list(links(path)))[:-1]:
        place = root / link.relative_to("/")
        if not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
    real = found[-1][0]
    place = root / real.relative_to("/")
    if real.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    elif not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    mount(str(real), place, "", _BIND | _REC)
    attributes(place, _ATTR_NOSUID | _ATTR_NODEV | (0 if write else _ATTR_READ_ONLY))


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """The links on the way to a path, with their targets; at last, where the way ends."""
    current, left = Path("/"), deque(path.parts[1:])
    while left:
        part = left.popleft()
        if part == "..":
            current = current.parent
            continue
        here = current / part
        if not here.is_symlink():
            current = here
            continue
        target = str(here.readlink())
        yield here, target
        left.extendleft(reversed(Path(target).parts[1 if target.startswith("/") else 0 :]))
        if target.startswith("/"):
            current = Path("/")
    yield current, ""


def enter(root: Path) -> None:
    """Make a directory the root, and take the old one away."""
    old = root / "old"
    old.mkdir()
    os.chdir(root)
    number = _PIVOT_ROOT[platform.machine()]
    check(libc.syscall(number, b".", b"old"), "pivot_root")
    os.chdir("/")
    check(libc.umount2(b"/old", _DETACH), "umount")
    Path("/old").rmdir()
    attributes(Path("/"), _ATTR_READ_ONLY, recursive=False)


def mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    """The system call of that name; raises OSError."""
    words = (source.encode(), str(target).encode(), kind.encode())
    result = libc.mount(*words, ctypes.c_ulong(flags), data.encode())
    check(result, f"mount {source} on {target}")


def read_only(path: Path) -> None:
    """Nothing below it can be written to any more."""
    attributes(path, _ATTR_READ_ONLY)


def attributes(path: Path, wanted: int, *, recursive: bool = True) -> None:
    """Set these attributes of a mount, and of those below it, and leave the others."""
    attr = struct.pack("=4Q", wanted, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    result = libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, str(path).encode(), flags, attr, ctypes.c_size_t(len(attr))
    )
    check(result, f"mount_setattr {path}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, KeyError) as error:
        say(f"failed: {error}")
        os._exit(1)
