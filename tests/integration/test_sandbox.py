"""Foreign code that looks for planted tokens, files, sockets and other programs."""

from __future__ import annotations

import json
import secrets
import socket
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from freewheel.base import files
from freewheel.base.workspace import find_workspace
from freewheel.build.workshop import InSandbox, OnThisMachine, in_sandbox
from freewheel.machine.engine import find_engine
from freewheel.machine.image import find_or_make_image
from freewheel.machine.interpreter import find_interpreter
from freewheel.machine.requirements import build_lock, fetch_requirements
from freewheel.machine.sandbox import Mount, Sandbox, running_sandbox
from freewheel.recipe.pythons import python_of
from freewheel.recipe.targets import PLATFORMS, runs_here

pytestmark = pytest.mark.integration

TOKEN = "planted-4711"  # noqa: S105  opens nothing
TARGET = next(f"cp314t-{platform}" for platform in PLATFORMS if runs_here(f"cp314t-{platform}"))
# Written by somebody who means harm: all that it finds goes into the sdist.
SETUP = """
import glob, json, os, pathlib, pwd, socket
found = {"variables": dict(os.environ), "uid": os.getuid(), "opened": [], "read": []}
for address in ("127.0.0.1", "localhost", "169.254.169.254", "198.51.100.1"):
    for port in %(ports)s:
        try:
            socket.create_connection((address, port), timeout=1).close()
            found["opened"].append([address, port])
        except OSError:
            pass
for name in %(sockets)s:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(name)
        found["opened"].append(name)
    except OSError:
        pass
homes = {entry.pw_dir for entry in pwd.getpwall()} | {os.path.expanduser("~"), %(home)r}
for home in homes - {"/", "/bin", "/dev", "/usr/sbin"}:
    for path in glob.glob(home + "/**", recursive=True, include_hidden=True)[:2000]:
        if os.path.isfile(path) and b"planted" in pathlib.Path(path).read_bytes()[:4096]:
            found["read"].append(path)
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        if b"planted" in pathlib.Path(path).read_bytes():
            found["read"].append(path)
    except OSError:
        pass
for path in ("/freewheel/job/x", "/freewheel/requirements/x", "/importing.py"):
    try:
        pathlib.Path(path).write_text("")
        found["opened"].append(path)
    except OSError:
        pass
pathlib.Path("found.json").write_text(json.dumps(found))
from setuptools import setup
setup(name="speedy", version="1.0", py_modules=[], data_files=[("", ["found.json"])])
"""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Tokens in variables and in the home directory, and servers that listen."""
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    (home / ".netrc").write_text(f"machine x password {TOKEN}")
    (home / ".config" / "token").write_text(TOKEN)
    for name in ("TWINE_PASSWORD", "GH_TOKEN", "FREEWHEEL_SIGNING_KEY", "ANYTHING_ELSE"):
        monkeypatch.setenv(name, TOKEN)
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{TOKEN}@127.0.0.1:9/")
    monkeypatch.setenv("http_proxy", f"http://user:{TOKEN}@127.0.0.1:9/")
    with ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(f"\0freewheel-{secrets.token_hex(8)}")
        unix.listen()
        for server in (tcp, unix):
            threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield {
            "ports": [tcp.getsockname()[1]],
            "sockets": [unix.getsockname().decode("latin-1")],
            "home": str(home),
        }


def accept(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def tree(scratch: Path, planted: dict[str, Any]) -> Path:
    made = files.empty_directory(scratch / "tree") / "speedy-1.0"
    made.mkdir()
    (made / "setup.py").write_text(SETUP % planted)
    (made / "MANIFEST.in").write_text("include found.json")
    return made


def variables() -> dict[str, str]:
    moment = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    return {"SOURCE_DATE_EPOCH": f"{moment:.0f}"}


def what_was_found(directory: Path) -> dict[str, Any]:
    (made,) = directory.glob("*.tar.gz")
    with tarfile.open(made) as archive:
        content = archive.extractfile("speedy-1.0/found.json")
        assert content
        return dict(json.load(content))


def test_an_sdist_that_looks_for_secrets_finds_none(
    tmp_path: Path, planted: dict[str, Any]
) -> None:
    workspace = find_workspace()
    lock = build_lock(["setuptools", "wheel"])
    wheelhouse = fetch_requirements(lock, workspace.requirements, target=TARGET)
    engine = find_engine(workspace, may_install=True)
    image = find_or_make_image(workspace, engine, TARGET)
    source = tree(tmp_path, planted)
    out = files.empty_directory(tmp_path / "out")

    with in_sandbox(
        engine, image.reference, scratch=tmp_path, target=TARGET, requirements=wheelhouse
    ) as workshop:
        assert isinstance(workshop, InSandbox)
        workshop.build_sdist(source, out, [], variables(), tmp_path / "log")
    found = what_was_found(out)

    assert found["opened"] == []
    # What was planted here is mounted with the job, as this test put it below its directory.
    assert [path for path in found["read"] if not path.startswith("/freewheel/job/")] == []
    assert TOKEN not in json.dumps(found["variables"])
    assert found["variables"]["HOME"] == "/nobody"
    assert TOKEN not in (tmp_path / "log").read_text()
    assert sorted(path.name for path in source.iterdir()) == ["MANIFEST.in", "setup.py"]


def test_without_a_container_there_are_no_variables_and_no_home(
    tmp_path: Path, planted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = find_workspace()
    interpreter = find_interpreter(workspace, python_of(TARGET))
    lock = build_lock(["setuptools", "wheel"])
    wheelhouse = fetch_requirements(lock, workspace.requirements)
    monkeypatch.setenv("HOME", planted["home"])
    out = files.empty_directory(tmp_path / "made" / "out")

    workshop = OnThisMachine(interpreter=interpreter, requirements=wheelhouse)
    workshop.build_sdist(
        tree(tmp_path, {**planted, "home": "/nowhere"}), out, [], variables(), tmp_path / "log"
    )
    found = what_was_found(out)

    assert TOKEN not in json.dumps(found["variables"])
    assert found["variables"]["HOME"] != planted["home"]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    workspace = find_workspace()
    engine = find_engine(workspace, may_install=True)
    image = find_or_make_image(workspace, engine, TARGET)
    with running_sandbox(engine, image.reference, [Mount(source=tmp_path, target="/here")]) as made:
        yield made


def test_a_program_in_a_sandbox_has_limits(sandbox: Sandbox, tmp_path: Path) -> None:
    assert sandbox.run(("sleep", "60"), timeout=1, check=False).returncode != 0
    flood = sandbox.run(("sh", "-c", "yes | head -c 20000000"), timeout=30)
    assert len(flood.stdout) <= 4 << 20
    left = sandbox.run(("sh", "-c", "id -u; ls -A /here; touch /here/x"), timeout=9, check=False)
    assert left.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_only_a_plain_file_is_taken_out(sandbox: Sandbox, tmp_path: Path) -> None:
    script = "echo good > /tmp/good; ln -s /etc/passwd /tmp/link; mkfifo /tmp/pipe; mkdir /tmp/d"
    sandbox.run(("sh", "-c", script), timeout=9)
    sandbox.take("/tmp/good", tmp_path / "taken")  # noqa: S108  in the container
    assert (tmp_path / "taken").read_text() == "good\n"
    for name in ("link", "pipe", "d", "nothing"):
        with pytest.raises(Exception, match="exited"):
            sandbox.take(f"/tmp/{name}", tmp_path / name)  # noqa: S108
        assert not (tmp_path / name).exists()
