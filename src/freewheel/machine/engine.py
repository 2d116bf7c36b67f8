"""Find a container engine that works, and say why it was chosen.

That an engine is installed proves little: the Docker client may have no daemon, and Podman's
default runtime refuses some hosts. So every engine must start a real container before it is used.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shlex
import shutil
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed, MachineError
from freewheel.base.workspace import Workspace
from freewheel.machine import debian
from freewheel.machine.host import Host, containers_conf, look_at_host, read_text

OWNER_LABEL = "freewheel.owner"
PACKAGES = ("podman", "runc")

EngineName = Literal["podman", "docker"]

_QUESTION_TIMEOUT = 20.0  # seconds for a question to the engine
_PROBE_TIMEOUT = 120.0  # seconds to start a trivial container
_PROBE_EXIT = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A container engine that has started a container on this machine.

    ``create_args`` and ``environment`` belong to every container and every call that is made with
    it; ``reasons`` say, in the order of the decisions, why it is this one and set up like this.
    """

    name: EngineName
    version: str
    create_args: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def foreign_args(self) -> tuple[str, ...]:
        """The options of a container for foreign code: no network, and no proxy of this machine's.

        Podman would hand over its environment's, Docker those of its settings, with passwords.
        """
        if self.name == "podman":
            return ("--network=none", "--http-proxy=false", *self.create_args)
        names = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
        empty = (f"--env={name}=" for one in names for name in (one, one.upper()))
        return ("--network=none", *empty, *self.create_args)

    def call(
        self,
        *args: str | os.PathLike[str],
        check: bool = True,
        timeout: float | None = None,
        log: Path | None = None,
    ) -> process.Finished:
        """Run one of the engine's own commands. Raises CommandFailed."""
        return process.run(
            [self.name, *args], env=self.environment, check=check, timeout=timeout, log=log
        )

    def ask_image(self, reference: str, form: str) -> str:
        """Facts about an image, in a Go template ``form``; "" when the engine does not have it."""
        asked = self.call(
            *("image", "inspect", "--format", form, reference),
            check=False,
            timeout=_QUESTION_TIMEOUT,
        )
        return asked.stdout.strip() if asked.returncode == 0 else ""


# ----------------------------------------------------------------------------------- the choice


def find_engine(workspace: Workspace, *, may_install: bool) -> Engine:
    """The engine that will be used: Docker whose daemon answers, else Podman that starts.

    ``FREEWHEEL_ENGINE`` (``docker`` or ``podman``) leaves only that one;
    ``FREEWHEEL_ENGINE_ARGS``, in a shell's quoting, is added to the options of each container.
    With ``may_install``, as root on Debian or Ubuntu, Podman's packages are installed when there
    is no engine. Raises MachineError, which names the command to type.
    """
    forced = forced_engine(os.environ)
    problems: list[str] = []
    found = None
    if forced != "podman":
        found = _find_docker(workspace, problems)
    if forced != "docker":
        found = found or _find_podman(workspace, problems)
        if not found and may_install and _install_podman():
            problems[-1] = "podman: was installed for this"
            found = _find_podman(workspace, problems)
    if not found:
        raise MachineError(
            "no container engine works here", problems=problems, hint=_remedy(forced)
        )
    first = (f"FREEWHEEL_ENGINE={forced}",) if forced else tuple(problems)
    return replace(found, reasons=(*first, *found.reasons))


def forced_engine(environ: Mapping[str, str]) -> EngineName | None:
    """What ``FREEWHEEL_ENGINE`` asks for. Raises MachineError for another name."""
    match environ.get("FREEWHEEL_ENGINE", ""):
        case "":
            return None
        case "podman":
            return "podman"
        case "docker":
            return "docker"
        case other:
            raise MachineError(
                f"FREEWHEEL_ENGINE is {other!r}", hint="set it to docker or podman, or unset it"
            )


def extra_args(environ: Mapping[str, str]) -> tuple[str, ...]:
    """What ``FREEWHEEL_ENGINE_ARGS`` adds. Raises MachineError where its quotes do not close."""
    text = environ.get("FREEWHEEL_ENGINE_ARGS", "")
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise MachineError(
            f"FREEWHEEL_ENGINE_ARGS is {text!r}: {error}", hint="quote it as for a shell"
        ) from error


def missing_packages(host: Host) -> tuple[str, ...]:
    """Debian's packages that Podman lacks on this machine; empty when all are there."""
    missing = [] if shutil.which("podman") else ["podman"]
    if host.needs_runc and not shutil.which("runc"):
        missing.append("runc")
    return tuple(missing)


def _install_podman() -> bool:
    """Install what Podman lacks on this machine; False when nothing can be, or is lacking."""
    packages = missing_packages(look_at_host())
    if not packages or not debian.can_install():
        return False
    try:
        debian.install(packages, why="wheels are built in a container")
    except debian.AptError as error:
        raise MachineError(error.summary, problems=error.problems, hint=error.hint) from error
    return True


def _remedy(forced: str | None) -> str:
    here = debian.distribution()
    if forced == "docker":
        return "start Docker's daemon (`sudo systemctl start docker`), or unset FREEWHEEL_ENGINE"
    if shutil.which("podman") and not missing_packages(look_at_host()):
        return "fix what Podman reports above, or start Docker's daemon; then `nox -s doctor`"
    if here.has_apt:
        extra = () if debian.is_root() else ("uidmap", "slirp4netns", "fuse-overlayfs")
        return f"`{debian.install_command((*PACKAGES, *extra))}`"
    installers = {"fedora": "dnf install", "suse": "zypper install", "arch": "pacman -S"}
    for family in (here.family, *here.like):
        if family in installers:
            return f"`sudo {installers[family]} podman`"
    return "install Podman or Docker, then `nox -s doctor`"


# ------------------------------------------------------------------------------------ the engines


def _find_docker(workspace: Workspace, problems: list[str]) -> Engine | None:
    if not shutil.which("docker"):
        problems.append("docker: not installed")
        return None
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        if "podman" in process.run(["docker", "--version"]).stdout.lower():
            problems.append("docker: is Podman under another name")
            return None
        version = process.run(asked, timeout=_QUESTION_TIMEOUT).stdout.strip()
    except CommandFailed as error:
        problems.append(f"docker: {_last_line(error.output) or 'its daemon does not answer'}")
        return None
    engine = Engine(
        name="docker",
        version=version,
        create_args=_create_args(),
        reasons=(f"docker {version}: its daemon answers and a container started", *_more()),
    )
    problem = _probe(engine, workspace)
    if problem:
        problems.append(f"docker {version}: {problem}")
        return None
    return engine


def _find_podman(workspace: Workspace, problems: list[str]) -> Engine | None:
    if not shutil.which("podman"):
        problems.append("podman: not installed")
        return None
    version = process.run(["podman", "--version"], timeout=_QUESTION_TIMEOUT).stdout.split()[-1]
    for settings, reasons in _podman_settings(workspace, look_at_host()):
        engine = Engine(
            name="podman",
            version=version,
            create_args=_create_args(),
            environment=settings,
            reasons=(*reasons, f"podman {version}: a container started", *_more()),
        )
        problem = _probe(engine, workspace)
        if not problem:
            return engine
        shown = f" with {', '.join(sorted(settings))}" if settings else ""
        problems.append(f"podman {version}{shown}: {problem}")
    return None


def _podman_settings(
    workspace: Workspace, host: Host
) -> list[tuple[dict[str, str], tuple[str, ...]]]:
    """Environments to try Podman with, each with the reasons for it, the least unusual first."""
    runtime = "runc" if host.needs_runc and shutil.which("runc") else None
    text, reasons = containers_conf(host, runtime=runtime)
    conf = workspace.cache / "engine" / "containers.conf"
    _keep(conf, text)
    own = {"CONTAINERS_CONF": str(conf)}
    storage = workspace.cache / "engine" / "storage.conf"
    _keep(
        storage,
        "[storage]\n"
        'driver = "vfs"\n'
        f'graphroot = "{workspace.cache / "engine" / "storage"}"\n'
        f'runroot = "{workspace.cache / "engine" / "run"}"\n',
    )
    slow = (
        *reasons,
        "the storage driver of this machine fails: vfs, in the cache, which is slower",
    )
    tries: list[tuple[dict[str, str], tuple[str, ...]]] = [] if host.odd else [({}, ())]
    return [*tries, (own, reasons), (own | {"CONTAINERS_STORAGE_CONF": str(storage)}, slow)]


def _keep(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        files.write_text(path, text)


# -------------------------------------------------------------------------------------- the probe


def _probe(engine: Engine, workspace: Workspace) -> str:
    """Start a container that does nothing; "" when it ran, else what the engine said."""
    program = tiny_program(platform.machine())
    if program is None:
        return ""
    tag = f"localhost/freewheel-probe:{hashlib.sha256(program).hexdigest()[:16]}"
    try:
        if engine.call("image", "inspect", tag, check=False, timeout=_PROBE_TIMEOUT).returncode:
            archive = workspace.cache / "engine" / "probe.tar"
            files.write_bytes(archive, _tar("probe", program))
            engine.call("import", archive, tag, timeout=_PROBE_TIMEOUT)
        arguments = ("run", "--rm", "--network=none", *engine.create_args, tag, "/probe")
        ran = engine.call(*arguments, check=False, timeout=_PROBE_TIMEOUT)
    except CommandFailed as error:
        return _last_line(error.output) or error.summary
    if ran.returncode == _PROBE_EXIT:
        return ""
    return _last_line(ran.stderr) or f"a trivial container ended with {ran.returncode}"


def tiny_program(machine: str) -> bytes | None:
    """A static Linux program that exits with 42, or None for a machine it is not written for.

    It makes the trivial container independent of registries and of anything installed.
    """
    codes = {
        # mov edi, 42; mov eax, 60 (exit); syscall
        "x86_64": (62, bytes.fromhex("bf2a000000 b83c000000 0f05")),
        # mov x0, #42; mov x8, #93 (exit); svc #0
        "aarch64": (183, bytes.fromhex("400580d2 a80b80d2 010000d4")),
    }
    if machine not in codes:
        return None
    elf_machine, code = codes[machine]
    base, start = 0x400000, 64 + 56  # the code follows the ELF header and one program header
    size = start + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, elf_machine, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return ident + header + segment + code


def _tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o755
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


# ---------------------------------------------------------------------------------- what was left


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process, told apart from every other: ``place`` is its boot and its process namespace."""

    pid: int
    started: str
    place: str

    def __str__(self) -> str:
        return f"{self.pid}:{self.started}:{self.place}"


def this_process() -> Owner:
    """The owner of the containers that this process makes."""
    pid = os.getpid()
    boot = read_text("/proc/sys/kernel/random/boot_id").strip()[:8]
    namespace = Path("/proc/self/ns/pid")
    number = namespace.stat().st_ino if namespace.exists() else ""
    started = start_time(read_text(f"/proc/{pid}/stat"))
    return Owner(pid=pid, started=started, place=f"{boot}-{number}")


def start_time(stat: str) -> str:
    """When a process started, in clock ticks since boot, from the text of /proc/<pid>/stat."""
    # The second field is the program's name in parentheses and may hold anything.
    fields = stat.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""  # noqa: PLR2004 - field 22 of proc(5)


def is_leftover(label: str, *, running: bool, here: Owner, started: Mapping[int, str]) -> bool:
    """Whether a container with this owner label belongs to nobody any more.

    ``started`` has the start time of each live process in question. The owner of a container
    from another boot or another machine cannot be looked at, so such a one must have ended.
    """
    pid, _, rest = label.partition(":")
    start, _, place = rest.partition(":")
    if not pid.isdigit() or not start:
        return False
    if place != here.place:
        return not running
    return started.get(int(pid), "") != start


def remove_leftovers(engine: Engine) -> None:
    """Remove containers that killed runs of Freewheel left in the engine."""
    listed = engine.call(
        *("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={OWNER_LABEL}"),
        check=False,
        timeout=_QUESTION_TIMEOUT,
    ).stdout.split()
    if not listed:
        return
    form = '{{.Id}} {{.State.Status}} {{index .Config.Labels "' + OWNER_LABEL + '"}}'
    inspected = engine.call(
        "container", "inspect", "--format", form, *listed, check=False, timeout=_QUESTION_TIMEOUT
    )
    here = this_process()
    for line in inspected.stdout.splitlines():
        identifier, state, label = line.split(" ", 2)
        pid = label.partition(":")[0]
        started = {int(pid): start_time(read_text(f"/proc/{pid}/stat"))} if pid.isdigit() else {}
        if is_leftover(label, running=state == "running", here=here, started=started):
            engine.call("rm", "--force", identifier, check=False, timeout=_PROBE_TIMEOUT)


def _create_args() -> tuple[str, ...]:
    return (f"--label={OWNER_LABEL}={this_process()}", *extra_args(os.environ))


def _more() -> tuple[str, ...]:
    extra = extra_args(os.environ)
    return (f"FREEWHEEL_ENGINE_ARGS adds {shlex.join(extra)}",) if extra else ()
