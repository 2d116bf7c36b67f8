"""Where the programs of the proof run: a jail of Linux namespaces, without a container's image.

They need the interpreter, libraries and servers of this machine, and what they measure must not be
disturbed. So they run on it, but see little of it: the system's programs, what they are given, a
network that has loopback alone, and no process but their own. They have no capabilities and can
gain none. Starting one takes milliseconds; the namespaces are made once for all programs of a job.
Files have the same names as outside, so that a stack can be read from there.
"""

from __future__ import annotations

import ctypes
import functools
import json
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import console, process
from freewheel.base.errors import CommandFailed, MachineError
from freewheel.machine import debian, facts
from freewheel.machine.cgroup import PREFIX, limited_groups
from freewheel.machine.limits import FILE_SIZE

LIMITS = Path(__file__).with_name("limits.py")
_JAILER = Path(__file__).with_name("jailer.py")
_TOOLS = ("prlimit", "nsenter", "env", "setpriv")  # util-linux and coreutils
_PATIENCE = 30.0  # seconds until a jail is ready
_LOOK = 0.01  # seconds
_PROCESSES = 2048  # and threads
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_JOIN_SESSION_KEYRING = 1
_MEMORY = 0.75  # of the machine's, for all programs of a jail together
# Become a member of the groups in $0, then the words.
_JOIN = 'IFS=:; for group in $0; do echo 0 >"$group"; done; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Jail:
    """Namespaces that programs are started in, by their first process.

    ``directory`` can be written to, from inside and outside. ``groups`` are the files by which a
    process becomes a member of control groups. Without ``pid`` there are no namespaces: programs
    run on this machine as it is.
    """

    pid: int | None = None
    directory: Path | None = None
    groups: tuple[Path, ...] = ()

    def command(
        self,
        words: Sequence[str | Path],
        *,
        cwd: Path,
        user: str | None = None,
        memory: int | None = None,
    ) -> list[str | Path]:
        """What starts a program in the jail, in that directory, as that user.

        ``memory`` is the most address space that it may have, in MiB (0: no limit). With it, the
        program may not write large files either; without jails, it must be a Python then. The
        program is to be started by the same thread.
        """
        if self.pid is None:
            return list(words) if memory is None else limited(words, memory)
        _leave_keys()
        limits = ["--core=0:0"]
        if memory is not None:
            limits.append(f"--fsize={FILE_SIZE}:{FILE_SIZE}")
        if memory:
            limits.append(f"--as={memory << 20}:{memory << 20}")
        rights = ["--no-new-privs"]
        if debian.is_root():
            rights += ["--bounding-set=-all", "--inh-caps=-all"]
        if user:
            rights += [f"--reuid={user}", f"--regid={_group(user)}", "--init-groups"]
        prlimit, nsenter, env, setpriv = map(_tool, _TOOLS)
        target = ("--target", str(self.pid), "--user", "--preserve-credentials")
        return [
            *(("/bin/sh", "-c", _JOIN, ":".join(map(str, self.groups))) if self.groups else ()),
            *(prlimit, *limits),
            *(nsenter, *target, "--mount", "--net", "--pid", "--ipc", "--uts"),
            *(env, f"--chdir={cwd}", setpriv, *rights, "--", *words),
        ]

    def watch(
        self,
        words: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str | None],
        timeout: float,
        user: str | None = None,
        memory: int | None = None,
        overseer: process.Overseer | None = None,
    ) -> process.Ended:
        """As ``process.watch``, in the jail, with the limits of ``command``."""
        return process.watch(
            self.command(words, cwd=cwd, user=user, memory=memory),
            cwd=cwd,
            env=env,
            timeout=timeout,
            user=None if self.pid else user,
            overseer=overseer,
        )

    def run(
        self,
        words: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str | None],
        timeout: float,
        user: str | None = None,
        log: Path | None = None,
    ) -> process.Finished:
        """As ``process.run``, in the jail."""
        return process.run(
            self.command(words, cwd=cwd, user=user),
            cwd=cwd,
            env=env,
            timeout=timeout,
            user=None if self.pid else user,
            log=log,
        )

    def start(
        self,
        words: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str | None],
        log: Path,
        user: str | None = None,
    ) -> process.Running:
        """As ``process.start``, in the jail. It ends with the jail at the latest."""
        return process.start(
            self.command(words, cwd=cwd, user=user),
            cwd=cwd,
            env=env,
            log=log,
            user=None if self.pid else user,
        )


OPEN = Jail()


def limited(words: Sequence[str | Path], memory: int) -> list[str | Path]:
    """What starts a Python program under limits where there are no jails."""
    return [words[0], "-I", LIMITS, str(memory), *words]


_thread = threading.local()


def _leave_keys() -> None:
    """Give this thread an empty session keyring: what it starts could read the user's keys."""
    number = _KEYCTL.get(platform.machine())
    if number is not None and not hasattr(_thread, "left"):
        ctypes.CDLL(None).syscall(number, _JOIN_SESSION_KEYRING, None)
        _thread.left = True


@contextmanager
def running_jail(*, readable: Sequence[Path], writable: Sequence[Path]) -> Iterator[Jail]:
    """Make a jail, and end it with all that runs in it.

    What is in ``readable`` and ``writable`` is seen in it, and only the latter can be written to.
    Where this machine cannot make one, programs run without one, and a message says so once.
    """
    if reason := why_no_jail():
        _tell(reason)
        yield OPEN
        return
    with _made(readable=readable, writable=writable) as jail:
        yield jail


@functools.cache
def why_no_jail() -> str:
    """Why this machine has no jails; "" where it has."""
    if sys.platform != "linux":
        return "namespaces are Linux's"
    if missing := [name for name in _TOOLS if not shutil.which(name)]:
        return f"{', '.join(missing)} not found: install util-linux"
    try:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as name, _made() as jail:
            jail.run([_tool("env")], cwd=Path("/"), env=process.confined(Path(name)), timeout=60)
    except (MachineError, CommandFailed) as error:
        return error.output.strip() or "; ".join([error.summary, *error.problems])
    return ""


@functools.cache
def _tell(reason: str) -> None:
    console.warn(
        "upstream's code runs on this machine as it is, with your files and network, when wheels "
        f"are put to the proof: {reason}. docs/security.md says what that means"
    )


@contextmanager
def _made(*, readable: Sequence[Path] = (), writable: Sequence[Path] = ()) -> Iterator[Jail]:
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        root, shared = (Path(name).resolve() / part for part in ("root", "shared"))
        root.mkdir()
        shared.mkdir()
        shared.chmod(0o755)
        wanted = {
            "root": str(root),
            "readable": [str(path.absolute()) for path in readable],
            "writable": [str(path.absolute()) for path in (*writable, shared)],
            "processes": _PROCESSES,
        }
        log = Path(name) / "log"
        words = (sys.executable, "-I", _JAILER, json.dumps(wanted))
        memory = int(facts.look().memory * _MEMORY) << 20
        limits = {"memory": memory, "pids": _PROCESSES} if debian.is_root() and memory else {}
        with limited_groups(Path(name).name, limits) as groups:
            running = process.start(words, env=process.confined(root), log=log, lifeline=True)
            try:
                yield Jail(pid=_first(running), directory=shared, groups=groups)
            finally:
                running.stop()


def _first(running: process.Running) -> int:
    """The first process of the jail, once that is furnished. Raises MachineError."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        lines = running.tail().splitlines()
        if "furnished" in lines:
            first = next((line for line in lines if line.startswith("first ")), "")
            if first:
                return int(first.split()[1])
        if running.returncode() is not None:
            break
        time.sleep(_LOOK)
    said = [line for line in running.tail().splitlines() if not line.startswith(("$ ", "first "))]
    raise MachineError(
        "no jail could be made of namespaces",
        problems=[line.removeprefix("failed: ") for line in said],
        hint="docs/security.md says what a jail needs",
    )


@functools.cache
def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MachineError(f"{name} not found", hint="install util-linux and coreutils")
    return str(Path(found).resolve() if name != "env" else Path(found))


def _group(user: str) -> int:
    if sys.platform == "win32":
        raise MachineError("Windows has no such users", hint="run it as the user you are")
    import pwd  # noqa: PLC0415  Windows has no such module

    return pwd.getpwnam(user).pw_gid
