"""The choice of a container engine: reading the host, the settings for Podman, leftovers."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from freewheel.base.errors import MachineError
from freewheel.machine import debian, engine
from freewheel.machine.engine import (
    Engine,
    Owner,
    forced_engine,
    is_leftover,
    start_time,
    this_process,
)
from freewheel.machine.host import Host, cgroup_layout, containers_conf, may_raise_limits

V1 = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n"
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
OTHER = "proc /proc proc rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "layout"),
    [(V1, "v1"), (V2, "v2"), (V1 + OTHER + V2, "hybrid"), (OTHER, "none"), ("", "none")],
)
def test_control_groups_are_told_apart(mounts: str, layout: str) -> None:
    assert cgroup_layout(mounts) == layout


@pytest.mark.parametrize(
    ("status", "may"),
    [
        ("Name:\tx\nCapEff:\t000001ffffffffff\n", True),
        ("Name:\tx\nCapEff:\t000001fffeffffff\n", False),
        ("Name:\tx\nCapEff:\t0000000000000000\n", False),
    ],
)
def test_the_capability_to_raise_limits_is_read(status: str, *, may: bool) -> None:
    assert may_raise_limits(status) is may


def host(**changes: object) -> Host:
    facts: dict[str, object] = {
        "cgroups": "v2",
        "may_raise_limits": True,
        "limits": {"nofile": 20_000, "nproc": 96_364},
        "systemd": True,
        "root": True,
    }
    return Host(**{**facts, **changes})  # type: ignore[arg-type]


def test_an_ordinary_host_is_not_odd() -> None:
    assert not host().odd


@pytest.mark.parametrize(
    "changes", [{"cgroups": "hybrid"}, {"cgroups": "v1"}, {"may_raise_limits": False}]
)
def test_an_odd_host_is_recognised(changes: dict[str, object]) -> None:
    assert host(**changes).odd


def test_limits_of_an_ordinary_user_are_left_to_rootless_podman() -> None:
    assert not host(may_raise_limits=False, root=False).odd


def test_containers_conf_of_a_host_with_every_oddity() -> None:
    text, reasons = containers_conf(
        host(cgroups="hybrid", may_raise_limits=False, systemd=False), runtime="runc"
    )

    settings = tomllib.loads(text)
    assert settings["engine"]["runtime"] == "runc"
    assert settings["engine"]["cgroup_manager"] == "cgroupfs"
    # 96364 would be refused: Podman has lowered its own limit to 32768 by then.
    assert settings["containers"]["default_ulimits"] == ["nofile=20000:20000", "nproc=32768:32768"]
    assert len(reasons) == 3


def test_containers_conf_of_an_ordinary_host_sets_no_runtime_and_no_limits() -> None:
    text, reasons = containers_conf(host(), runtime=None)

    settings = tomllib.loads(text)
    assert "runtime" not in settings["engine"]
    assert settings["containers"] == {}
    assert reasons == ()


def test_the_tiny_program_runs_and_has_its_own_exit_code(tmp_path: Path) -> None:
    program = engine.tiny_program(os.uname().machine)
    if program is None:
        pytest.skip("not written for this machine")
    path = tmp_path / "tiny"
    path.write_bytes(program)
    path.chmod(0o755)

    assert subprocess.run([path], check=False).returncode == 42


@pytest.mark.parametrize(
    ("value", "name"), [("", None), ("podman", "podman"), ("docker", "docker")]
)
def test_an_engine_can_be_forced(value: str, name: str | None) -> None:
    assert forced_engine({"FREEWHEEL_ENGINE": value}) == name


def test_an_unknown_engine_is_an_error() -> None:
    with pytest.raises(MachineError, match="'lxc'"):
        forced_engine({"FREEWHEEL_ENGINE": "lxc"})


def test_the_start_time_is_read_behind_any_program_name() -> None:
    fields = " ".join(str(number) for number in range(4, 53))

    assert start_time(f"7 (a) b (c) S {fields}") == "22"
    assert start_time("") == ""


def test_this_process_owns_its_containers() -> None:
    here = this_process()
    pid = os.getpid()

    assert not is_leftover(str(here), running=True, here=here, started={pid: here.started})


HERE = Owner(pid=1, started="5", place="boot-ns")


@pytest.mark.parametrize(
    ("label", "running", "leftover"),
    [
        ("70:900:boot-ns", True, False),  # its owner lives
        ("70:900:boot-ns", False, False),
        ("71:900:boot-ns", True, True),  # its owner is gone
        ("70:899:boot-ns", True, True),  # another process has its owner's number
        ("70:899:other-ns", True, False),  # another machine's, or another namespace's
        ("70:899:other-ns", False, True),
        ("", True, False),  # not ours to judge
        ("x:1:boot-ns", False, False),
    ],
)
def test_leftovers_are_told_from_containers_in_use(
    label: str, *, running: bool, leftover: bool
) -> None:
    started = {70: "900", 71: ""}

    assert is_leftover(label, running=running, here=HERE, started=started) is leftover


def test_mirrors_are_the_distributions_own() -> None:
    listed = (
        "Debian|http://mirror.example/debian/|trixie|main|$(SIGNED_BY)\n"
        "Debian|http://mirror.example/debian/|trixie|main|$(SIGNED_BY)\n"
        "Debian|http://mirror.example/security/|trixie-security|main|/keys/debian.gpg\n"
        "Someone Else|http://other.example/|stable|main|/keys/other.gpg\n"
    )

    mirrors = debian.parse_index_targets(listed, origin="debian")

    assert [mirror.line for mirror in mirrors] == [
        "deb http://mirror.example/debian/ trixie main",
        "deb [signed-by=/keys/debian.gpg] http://mirror.example/security/ trixie-security main",
    ]


def test_only_installed_packages_are_listed() -> None:
    status = (
        "Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.2\nDescription: a: b\n  c: d\n"
        "\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 2\n"
        "\n"
        "Package: bash\nStatus: install ok installed\nVersion: 5.2\n"
    )

    assert debian.parse_status(status) == ("bash=5.2", "zlib1g=1:1.2")


def test_foreign_code_has_no_network_and_no_proxy_of_the_users() -> None:
    podman = Engine(name="podman", version="4", create_args=("--label=x",))
    docker = Engine(name="docker", version="27", create_args=("--label=x",))

    assert podman.foreign_args == ("--network=none", "--http-proxy=false", "--label=x")
    assert docker.foreign_args[0] == "--network=none"
    assert {"--env=http_proxy=", "--env=HTTPS_PROXY=", "--label=x"} < set(docker.foreign_args)
