"""Programs in a jail: what they find of this machine, what they can do to it, and how they end."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from freewheel.base import process
from freewheel.machine import facts, jail
from freewheel.machine.cgroup import parent_of
from freewheel.machine.jail import Jail, running_jail
from freewheel.proof.programs import Outcome
from freewheel.proof.running import Run, run_program
from freewheel.proof.services import running_services
from tests.unit.test_running import ENVIRONMENT, program

needs_jail = pytest.mark.skipif(bool(jail.why_no_jail()), reason=jail.why_no_jail())
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may make control groups"
)
TOKEN = "planted-4711"  # noqa: S105  opens nothing
# Written by somebody who means harm: looks for all that was planted, and tries what it must not.
LOOKS = """
import json, os, pathlib, socket, sys
planted = json.loads(%r)
found = {"variables": dict(os.environ), "read": [], "opened": [], "wrote": [], "did": []}
for address in planted["addresses"]:
    for family in (socket.AF_UNIX,) if isinstance(address, str) else (socket.AF_INET,):
        try:
            with socket.socket(family) as client:
                client.settimeout(1)
                client.connect(tuple(address) if isinstance(address, list) else address)
            found["opened"].append(address)
        except OSError:
            pass
places = [planted["home"]]
others = ["/root", "/home", "/etc", "/run", "/var", "/srv", "/opt", "/mnt"]
places += [] if planted["harmless"] else others
places += [] if planted["harmless"] else [
    f"/proc/{pid}/{name}" for pid in os.listdir("/proc") if pid.isdigit()
    for name in ("environ", "root", "cwd", "fd")]
for place in places:
    files = [place] if os.path.isfile(place) else [
        os.path.join(top, name) for top, _, names in os.walk(place) for name in names[:500]]
    for name in files[:2000]:
        try:
            if os.path.isfile(name) and b"planted-47" b"11" in open(name, "rb").read(65536):
                found["read"].append(name)
        except OSError:
            pass
for name in planted["files"]:
    try:
        with open(name, "a") as file:
            file.write("x")
        found["wrote"].append(name)
    except OSError:
        pass
for pid in planted["pids"]:
    try:
        os.kill(pid, 0)
        found["did"].append(f"kill {pid}")
    except OSError:
        pass
if not planted["harmless"]:
    import ctypes
    libc = ctypes.CDLL(None)
    for kind in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000):
        if libc.unshare(kind) == 0:
            found["did"].append(f"unshare {kind:x}")
    if libc.mount(b"tmpfs", planted["empty"].encode(), b"tmpfs", 0, None) == 0:
        found["did"].append("mount")
    if libc.umount2(b"/proc/sys", 2) == 0:
        found["did"].append("umount")
    if libc.chroot(b"/tmp") == 0:
        found["did"].append("chroot")
found["status"] = [line for line in open("/proc/self/status") if line.startswith(("Cap", "NoNew"))]
found["processes"] = sum(name.isdigit() for name in os.listdir("/proc"))
pathlib.Path("found.json").write_text(json.dumps(found))
"""


def run_in_jail(tmp_path: Path, source: str, **changes: Any) -> Run:  # noqa: ANN401
    one = replace(program(tmp_path, source), **changes)
    with running_services([one], {"it": ENVIRONMENT}, tmp_path) as (placed, services):
        return run_program(one, placed["it"], tmp_path, services=services)


@pytest.fixture
def planted(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Tokens in variables and in a home directory, servers that listen, and another process."""
    home = tmp_path_factory.mktemp("home")
    (home / ".config").mkdir()
    (home / ".netrc").write_text(f"machine x password {TOKEN}")
    (home / ".config" / "token").write_text(TOKEN)
    for name in ("TWINE_PASSWORD", "GH_TOKEN", "FREEWHEEL_SIGNING_KEY", "ANYTHING", "http_proxy"):
        monkeypatch.setenv(name, TOKEN)
    monkeypatch.setenv("HOME", str(home))
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract, file = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        abstract.bind(f"\0freewheel-{secrets.token_hex(8)}")
        file.bind(str(home / "agent"))
        for server in (tcp, abstract, file):
            server.listen()
            threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield {
            "harmless": False,
            "home": str(home),
            "empty": str(tmp_path),
            "addresses": [
                *([host, tcp.getsockname()[1]] for host in ("127.0.0.1", "localhost")),
                *(abstract.getsockname().decode(), str(home / "agent")),
            ],
            "files": [
                *("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc/passwd"),
                *("/usr/x", "/x", str(home / "x"), sys.executable, ENVIRONMENT.python.name),
                str(ENVIRONMENT.python.parents[1] / "x"),
            ],
            "pids": [os.getpid(), os.getppid()],
        }


def accept(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def what_was_found(tmp_path: Path, planted: dict[str, Any], held: Jail | None = None) -> Any:  # noqa: ANN401
    source = LOOKS % json.dumps(planted)
    if held is None:
        done = run_in_jail(tmp_path, source)
    else:
        done = run_program(program(tmp_path, source), replace(ENVIRONMENT, jail=held), tmp_path)
    assert done.outcome is Outcome.PASS, done.said
    return json.loads((tmp_path / "found.json").read_text())


@needs_jail
def test_a_program_that_looks_for_secrets_finds_none(
    tmp_path: Path, planted: dict[str, Any]
) -> None:
    found = what_was_found(tmp_path, planted)

    assert TOKEN not in json.dumps(found["variables"])
    assert found["variables"]["HOME"] == str(tmp_path / "no-home")
    assert (found["read"], found["opened"]) == ([], [])
    # What is written below a jail's own directory for temporary files stays there.
    assert [name for name in found["wrote"] if Path(name).is_absolute()] == []
    assert [name for name in found["did"] if name != f"kill {os.getpid()}"] == []
    assert found["processes"] < 10
    rights = dict(line.split() for line in found["status"])
    assert rights.pop("NoNewPrivs:") == "1"
    assert {rights["CapPrm:"], rights["CapEff:"], rights["CapInh:"]} == {"0" * 16}


@needs_jail
def test_the_same_program_finds_them_without_a_jail(
    tmp_path: Path, planted: dict[str, Any]
) -> None:
    harmless = {**planted, "harmless": True, "files": [], "pids": []}

    found = what_was_found(tmp_path, harmless, jail.OPEN)

    assert len(found["opened"]) == 4
    assert f"{planted['home']}/.netrc" in found["read"]


@needs_jail
@pytest.mark.parametrize(
    ("source", "outcome", "name"),
    [
        ("pass", Outcome.PASS, ""),
        ("import sys; sys.exit(4)", Outcome.LEAK, ""),
        ("import os; os.abort()", Outcome.CRASH, "SIGABRT"),
        ("import ctypes; ctypes.string_at(0)", Outcome.CRASH, "SIGSEGV"),
        ("import os; os.kill(os.getpid(), 9)", Outcome.CRASH, "SIGKILL"),
        ("x = bytearray(6 << 30)", Outcome.EXCEPTION, ""),
        ("open('big', 'wb').truncate(2 << 30)", Outcome.EXCEPTION, ""),
    ],
)
def test_a_program_ends_in_a_jail_as_it_does_outside(
    tmp_path: Path, source: str, outcome: Outcome, name: str
) -> None:
    done = run_in_jail(tmp_path, source)

    assert (done.outcome, done.signal) == (outcome, name), done.said


@needs_jail
@pytest.mark.skipif(sys.version_info < (3, 14), reason="no interpreter reads another before 3.14")
def test_the_stacks_of_a_program_that_hangs_are_seen_from_outside(tmp_path: Path) -> None:
    source = "import threading\ndef stuck():\n    threading.Event().wait()\nstuck()"

    done = run_in_jail(tmp_path, source, seconds=1.0)

    assert done.outcome is Outcome.HANG
    assert "stuck" in done.stacks


@needs_jail
def test_what_a_jail_waits_for_is_seen_from_outside(tmp_path: Path) -> None:
    source = "import time\ntime.sleep(100)"

    done = run_in_jail(tmp_path, source, seconds=1.0)

    assert done.outcome is Outcome.HANG
    assert "state S, in " in done.stacks


KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}.get(platform.machine(), (0, 0))


@needs_jail
@pytest.mark.skipif(not KEYCTL[0], reason="this test knows no numbers of system calls here")
def test_a_program_does_not_have_the_keys_of_the_session(tmp_path: Path) -> None:
    searching = (
        "import ctypes\n"
        f"libc = ctypes.CDLL(None)\n"
        f"print('key', libc.syscall({KEYCTL[1]}, 10, -3, b'user', b'{tmp_path.name}', 0))\n"
    )

    def held(words: list[str | Path]) -> str:
        return process.run(words, cwd=tmp_path).stdout

    def in_a_thread_of_its_own() -> None:  # as it changes the keys of its thread
        made = ctypes.CDLL(None).syscall(
            KEYCTL[0], b"user", tmp_path.name.encode(), TOKEN.encode(), len(TOKEN), -3
        )
        outside.append((made, held([sys.executable, "-c", searching])))
        inside.append(run_in_jail(tmp_path, searching + "raise SystemExit(3)").said)

    outside: list[tuple[int, str]] = []
    inside: list[str] = []
    thread = threading.Thread(target=in_a_thread_of_its_own)
    thread.start()
    thread.join()

    ((made, said),) = outside
    if made < 0:
        pytest.skip("this kernel keeps no keys")
    assert said == f"key {made}\n"
    assert "key -1" in inside[0]


@needs_jail
def test_there_is_no_terminal_and_no_other_device(tmp_path: Path) -> None:
    source = "import os\nprint(sorted(os.listdir('/dev')))\nraise SystemExit(3)"

    said = run_in_jail(tmp_path, source).said

    assert "tty" not in said
    assert "vda" not in said


@needs_jail
def test_the_environment_and_the_program_cannot_be_written_to(tmp_path: Path) -> None:
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "programs").mkdir()
    one = program(tmp_path / "programs", WRITES)
    environment = replace(ENVIRONMENT, python=python)

    with running_services([one], {"it": environment}, tmp_path) as (placed, _):
        done = run_program(one, placed["it"], tmp_path)

    assert done.outcome is Outcome.PASS, done.said
    assert (tmp_path / "mine").exists()
    assert sorted(path.name for path in (tmp_path / "env").rglob("*")) == ["bin", "python"]


WRITES = """
import os, pathlib
pathlib.Path("mine").write_text("")
for name in ("env/x", "env/bin/x", "programs/x", "programs/program.py"):
    try:
        pathlib.Path(name).write_text("")
    except OSError:
        continue
    raise SystemExit(3)
for name in ("env", "programs"):
    try:
        os.rename(name, "other")
    except OSError:
        continue
    raise SystemExit(3)
"""


@needs_jail
def test_loopback_is_there_and_leads_to_the_jail_alone(tmp_path: Path) -> None:
    source = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname())\n"
        "assert [name for _, name in socket.if_nameindex()] == ['lo']\n"
    )

    assert run_in_jail(tmp_path, source).outcome is Outcome.PASS


@needs_jail
def test_a_program_cannot_fill_the_machine_with_processes(tmp_path: Path) -> None:
    source = (
        "import os, time\nfor _ in range(5000):\n    if os.fork() == 0:\n        time.sleep(60)\n"
    )

    done = run_in_jail(tmp_path, source)

    assert "BlockingIOError" in done.said


@as_root
@needs_jail
def test_the_programs_of_a_jail_share_one_limit_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jail, "_MEMORY", 400 / facts.look().memory)
    source = (
        "import os\n"
        "children = [os.fork() for _ in range(3)]\n"
        "x = b'x' * (200 << 20)\n"
        "if 0 not in children:\n"
        "    assert all(os.waitstatus_to_exitcode(os.wait()[1]) == 0 for _ in children)\n"
    )

    done = run_in_jail(tmp_path, source)

    if not running_in_groups(tmp_path):
        pytest.skip("this process may not make control groups")
    assert done.outcome is not Outcome.PASS


def running_in_groups(tmp_path: Path) -> bool:
    with running_jail(readable=(), writable=[tmp_path]) as made:
        return any("memory" in str(group) or "unified" in str(group) for group in made.groups)


@needs_jail
def test_nothing_outlives_its_jail(tmp_path: Path) -> None:
    mark = f"{secrets.randbelow(10**6)}.25"
    source = (
        "import os, subprocess\n"
        f"subprocess.Popen(['sleep', '{mark}'], start_new_session=True)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    os.execvp('sleep', ['sleep', '{mark}'])\n"
    )

    assert run_in_jail(tmp_path, source).outcome is Outcome.PASS

    assert processes_with(mark) == []


@needs_jail
def test_a_jail_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    mark = f"{secrets.randbelow(10**6)}.5"
    owner = (
        "import sys\n"
        "from pathlib import Path\n"
        "from freewheel.base import process\n"
        "from freewheel.machine.jail import running_jail\n"
        "here = Path(sys.argv[1])\n"
        "with running_jail(readable=(), writable=[here]) as made:\n"
        f"    words = ['/bin/sh', '-c', 'touch begun; exec sleep {mark}']\n"
        "    made.start(words, cwd=here, env=process.confined(here), log=here / 'log').wait()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", owner, str(tmp_path)])
    wait_for((tmp_path / "begun").exists)

    child.send_signal(signal.SIGKILL)
    child.wait()

    wait_for(lambda: not processes_with(mark))


def processes_with(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
    return [pid for pid in found if pid != str(os.getpid())]


def wait_for(condition: Any) -> None:  # noqa: ANN401
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_where_there_are_no_jails_the_user_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jail, "why_no_jail", lambda: f"a reason {secrets.token_hex(4)}")
    reason = jail.why_no_jail()
    monkeypatch.setattr(jail, "why_no_jail", lambda: reason)

    for _ in range(3):
        with running_jail(readable=(), writable=[tmp_path]) as made:
            assert made is jail.OPEN

    said = " ".join(capfd.readouterr().err.split())
    assert said.count(reason) == 1
    assert "docs/security.md" in said


@needs_jail
def test_a_link_on_the_way_is_there_too(tmp_path: Path) -> None:
    real = tmp_path / "real" / "deep"
    real.mkdir(parents=True)
    (real / "file").write_text("good")
    (tmp_path / "way").symlink_to("real/deep")
    (tmp_path / "direct").symlink_to(tmp_path / "way" / "file")

    with running_jail(readable=[tmp_path / "direct"], writable=[]) as made:
        done = made.run(
            ["/bin/cat", tmp_path / "direct"],
            cwd=Path("/"),
            env=process.confined(tmp_path / "no-home"),
            timeout=30,
        )

    assert done.stdout == "good"


V1 = (
    "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"
    "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n"
)
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "own", "place"),
    [
        (V1, "8:pids:/\n4:memory:/job/7\n0::/\n", "/sys/fs/cgroup/memory/job/7"),
        (V1, "8:pids:/\n", None),
        ("", "0::/\n", None),
        ("tmpfs /x tmpfs rw 0 0\n", "4:memory:/\n", None),
    ],
)
def test_the_group_of_this_process_is_found(mounts: str, own: str, place: str | None) -> None:
    assert parent_of("memory", mounts, own) == (Path(place) if place else None, False)


def test_a_group_of_version_2_counts_where_it_has_the_controller(tmp_path: Path) -> None:
    mounts = f"cgroup2 {tmp_path} cgroup2 rw 0 0\n"
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "cgroup.controllers").write_text("cpu memory pids\n")

    assert parent_of("memory", mounts, "0::/user\n") == (tmp_path / "user", True)
    assert parent_of("hugetlb", mounts, "0::/user\n") == (None, False)
