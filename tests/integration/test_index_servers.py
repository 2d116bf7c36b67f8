"""pip and uv install from the static index and from a real devpi-server what was published there.

The wheels are tiny and of pure Python, so any interpreter serves.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from uv import find_uv_bin

from freewheel.base import files, process
from freewheel.base.errors import BusyError, FreewheelError, PublishError
from freewheel.base.workspace import Workspace
from freewheel.build import index
from freewheel.proof.certificate import CertifiedWheel
from freewheel.publish import install_lines, server, upload
from freewheel.publish.destination import INDEX_URL, Destination, resolve_destination
from tests.integration.conftest import clean_environment
from tests.unit.wheelmaker import ANY_TAG, as_certified, make_wheel

pytestmark = pytest.mark.integration


def _wheel(directory: Path, name: str, version: str, **metadata: list[str]) -> CertifiedWheel:
    return as_certified(make_wheel(directory, name, version, tag=ANY_TAG, metadata=metadata))


@pytest.fixture(scope="module", autouse=True)
def _no_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
        patch.setenv("PIP_NO_CACHE_DIR", "1")
        patch.setenv("UV_CACHE_DIR", str(tmp_path_factory.mktemp("uv")))
        for name in ("REPOSITORY_URL", "REPOSITORY", "USERNAME", "PASSWORD", "CERT"):
            patch.delenv(f"TWINE_{name}", raising=False)
        patch.delenv(INDEX_URL, raising=False)
        yield


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[CertifiedWheel]:
    directory = tmp_path_factory.mktemp("wheels")
    return [_wheel(directory, "fwdemo", "1.0+ft.2"), _wheel(directory, "fw_other", "2.0+ft.1")]


@pytest.fixture(scope="module")
def simple(wheels: list[CertifiedWheel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    simple = tmp_path_factory.mktemp("a place") / "simple"
    for wheel in wheels:
        index.add(simple, wheel)
    return simple


@pytest.fixture(scope="module")
def web_server(simple: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server that knows nothing of packages."""
    log = tmp_path_factory.mktemp("log") / "http.log"
    words = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(simple)]
    child = process.start([sys.executable, *words], log=log)
    try:
        deadline = time.monotonic() + 30
        while not (found := re.search(r"port (\d+)", child.tail())):
            assert time.monotonic() < deadline, child.tail()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{found[1]}/"
    finally:
        child.stop()


def _make_workspace(root: Path) -> Workspace:
    return Workspace(root=root, cache=root / "cache", data=root / "data")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return _make_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def devpi(workspace: Workspace) -> Iterator[server.RunningServer]:
    running = server.start_server(workspace, port=0)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def published(
    workspace: Workspace, devpi: server.RunningServer, wheels: list[CertifiedWheel]
) -> Destination:
    destination = resolve_destination(workspace)
    assert destination.upload_url == devpi.upload_url
    done = upload.publish(wheels, destination)
    assert [item.uploaded for item in done] == [True, True]
    return destination


@pytest.fixture(params=["directory", "web server", "devpi"])
def index_url(request: pytest.FixtureRequest, simple: Path) -> str:
    if request.param == "directory":
        return simple.as_uri() + "/"
    if request.param == "web server":
        return str(request.getfixturevalue("web_server"))
    destination: Destination = request.getfixturevalue("published")
    return destination.simple_url


# ----------------------------------------------------------------------------------- installing


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of a fresh environment."""
    environment = tmp_path / "environment"
    subprocess.run(
        [find_uv_bin(), "venv", "--quiet", "--no-project", "--python", sys.executable, environment],
        check=True,
    )
    return environment / "bin" / "python"


def _install(line: str, python: Path) -> subprocess.CompletedProcess[str]:
    """Do what the line says, into the environment of ``python``."""
    installer, *words = shlex.split(line)
    command: dict[str, list[str | Path]] = {
        "pip": [sys.executable, "-m", "pip", "--python", python],
        "uv": [find_uv_bin()],
    }
    return subprocess.run(
        [*command[installer], *words],
        env={**clean_environment(), "VIRTUAL_ENV": str(python.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


def _installed(python: Path) -> list[str]:
    program = (
        "import fw_other, fwdemo, importlib.metadata as m\n"
        "print(fwdemo.__version__, m.version('fwdemo'), m.version('fw-other'))"
    )
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_the_printed_line_installs(
    installer: str, index_url: str, wheels: list[CertifiedWheel], python: Path, tmp_path: Path
) -> None:
    requirements = tmp_path / "requirements.txt"
    install_lines.write_requirements(requirements, wheels)
    lines = install_lines.install_lines(wheels, index_url, requirements=str(requirements))
    done = _install(getattr(lines, installer), python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _installed(python) == ["1.0+ft.2", "1.0+ft.2", "2.0+ft.1"]


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_other_bytes_are_not_installed(
    installer: str, index_url: str, wheels: list[CertifiedWheel], python: Path, tmp_path: Path
) -> None:
    requirements = tmp_path / "requirements.txt"
    install_lines.write_requirements(requirements, wheels)
    text = requirements.read_text("utf-8")
    requirements.write_text(text.replace(wheels[0].sha256, "0" * 64), encoding="utf-8")
    lines = install_lines.install_lines(wheels, index_url, requirements=str(requirements))
    done = _install(getattr(lines, installer), python)
    assert done.returncode != 0
    assert wheels[0].sha256 in done.stdout + done.stderr


@pytest.mark.parametrize("constrained", [True, False])
def test_a_uv_project_gets_the_patched_wheel_for_an_indirect_dependency(
    tmp_path: Path, index_url: str, wheels: list[CertifiedWheel], *, constrained: bool
) -> None:
    public = tmp_path / "public"
    index.add(public, _wheel(tmp_path / "p", "fwdemo", "1.0"))
    index.add(public, _wheel(tmp_path / "p", "fwuser", "3.0", **{"Requires-Dist": ["fwdemo>=1"]}))
    snippet = install_lines.install_lines(wheels[:1], index_url).uv_project
    if not constrained:
        snippet = re.sub(r"constraint-dependencies = .*\n", "", snippet)
    application = tmp_path / "application"
    application.mkdir()
    (application / "pyproject.toml").write_text(
        '[project]\nname = "application"\nversion = "1"\nrequires-python = ">=3.11"\n'
        f'dependencies = ["fwuser"]\n{snippet}'
        f'[[tool.uv.index]]\nname = "public"\nurl = "{public.as_uri()}"\ndefault = true\n',
        encoding="utf-8",
    )
    done = subprocess.run(
        [find_uv_bin(), "lock", "--python", sys.executable],
        cwd=application,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    locked = re.search(r'name = "fwdemo"\nversion = "(.*)"', (application / "uv.lock").read_text())
    assert locked
    # Without the constraint the source is silently left out: the trap that the snippet closes.
    assert locked[1] == ("1.0+ft.2" if constrained else "1.0")


# ----------------------------------------------------------------------------------- publishing


def test_the_same_again_is_a_success(published: Destination, wheels: list[CertifiedWheel]) -> None:
    assert [item.uploaded for item in upload.publish(wheels, published)] == [False, False]


def test_changed_bytes_are_refused(published: Destination, tmp_path: Path) -> None:
    members = {"fwdemo/__init__.py": "", "fwdemo/more.py": ""}
    path = make_wheel(tmp_path, "fwdemo", "1.0+ft.2", tag=ANY_TAG, members=members)
    with pytest.raises(PublishError, match="nothing was uploaded") as caught:
        upload.publish([as_certified(path)], published)
    assert "added: fwdemo/more.py" in caught.value.problems


def test_the_server_refuses_changed_bytes_too(
    published: Destination, wheels: list[CertifiedWheel], tmp_path: Path
) -> None:
    assert published.credentials
    path = make_wheel(tmp_path, "fwdemo", "1.0+ft.2", tag=ANY_TAG, members={"fwdemo/evil.py": ""})
    keys = {
        "TWINE_REPOSITORY_URL": published.upload_url,
        "TWINE_USERNAME": published.credentials.username,
        "TWINE_PASSWORD": published.credentials.password,
    }
    command = [sys.executable, "-m", "twine", "upload", "--non-interactive", str(path)]
    done = process.run(command, env=keys, check=False)
    assert done.returncode != 0
    assert "409" in done.stdout + done.stderr
    assert not upload.publish(wheels, published)[0].uploaded


def test_a_wrong_name_never_leaves(published: Destination, tmp_path: Path) -> None:
    wrong = _wheel(tmp_path, "fwwrong", "1.0+ft.1", Name=["fwright"])
    twin = _wheel(tmp_path, "FwDemo", "7.0+ft.1")
    with pytest.raises(PublishError, match="METADATA names the project fwright"):
        upload.publish([wrong], published)
    with pytest.raises(PublishError, match="only in case or spelling"):
        upload.publish([twin], published)
    for project in ("fwwrong", "fwright"):
        assert requests.get(f"{published.simple_url}{project}/", timeout=30).status_code == 404
    assert "7.0" not in requests.get(f"{published.simple_url}fwdemo/", timeout=30).text


def test_credentials_withheld(
    workspace: Workspace, devpi: server.RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINE_REPOSITORY_URL", devpi.upload_url)
    with pytest.raises(PublishError, match="there are no credentials") as caught:
        resolve_destination(workspace)
    assert "TWINE_PASSWORD" in caught.value.hint


def test_wrong_credentials(
    workspace: Workspace,
    devpi: server.RunningServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TWINE_REPOSITORY_URL", devpi.upload_url)
    monkeypatch.setenv("TWINE_USERNAME", "freewheel")
    monkeypatch.setenv("TWINE_PASSWORD", "not-the-word")
    destination = resolve_destination(workspace)
    assert destination.simple_url == devpi.simple_url
    with pytest.raises(PublishError, match=r"status 40[13]") as caught:
        upload.publish([_wheel(tmp_path, "fwnew", "1.0+ft.1")], destination)
    assert "check that these credentials" in caught.value.hint
    assert "not-the-word" not in str(caught.value) + caught.value.output


# ----------------------------------------------------------------------------------- the server


def test_a_second_server_on_the_same_data_is_refused(
    workspace: Workspace, devpi: server.RunningServer
) -> None:
    with pytest.raises(BusyError, match="is running already") as caught:
        server.start_server(workspace)
    assert devpi.simple_url in caught.value.hint


def test_credentials_are_for_the_user_alone(
    workspace: Workspace, devpi: server.RunningServer
) -> None:
    path = workspace.data / "devpi" / "credentials.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    arguments = Path(f"/proc/{devpi.server.pid}/cmdline").read_bytes()
    assert devpi.server.password.encode() not in arguments


def test_a_first_start_that_was_killed_is_completed(tmp_path: Path) -> None:
    workspace = _make_workspace(tmp_path)
    home = workspace.data / "devpi"
    home.mkdir(parents=True)
    for delay in (0.3, 0.7, 1.1, 1.6, 2.2):
        command = [sys.executable, "-m", "freewheel.publish.server", str(home), "0"]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as child:
            time.sleep(delay)
            child.kill()
    wheel = _wheel(tmp_path / "w", "fwdemo", "1.0+ft.1")
    running = server.start_server(workspace, port=0)
    try:
        destination = resolve_destination(workspace)
        assert upload.publish([wheel], destination)[0].uploaded
        os.kill(running.server.pid, signal.SIGKILL)
    finally:
        running.stop()
    assert server.local_server(workspace) is None
    again = server.start_server(workspace)
    try:
        assert again.server.port == running.server.port
        destination = resolve_destination(workspace)
        assert not upload.publish([wheel], destination)[0].uploaded
    finally:
        again.stop()


_STARTER = """
import sys
from pathlib import Path
from freewheel.publish import server
from freewheel.base.workspace import Workspace
root = Path(sys.argv[1])
workspace = Workspace(root=root, cache=root / "cache", data=root / "data")
getattr(server, sys.argv[2])(workspace, port=0)
"""


def test_a_server_whose_starter_was_killed_is_found_and_usable(tmp_path: Path) -> None:
    workspace = _make_workspace(tmp_path)
    command = [sys.executable, "-c", _STARTER, str(tmp_path), "start_server"]
    with subprocess.Popen(command) as starter:
        deadline = time.monotonic() + 60
        while not (workspace.data / "devpi" / "state.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        starter.kill()
    found = None
    while found is None:
        assert time.monotonic() < deadline
        found = server.local_server(workspace)
        time.sleep(0.05)
    try:
        with pytest.raises(BusyError, match="is running already"):
            server.start_server(workspace)
        wheel = _wheel(tmp_path / "w", "fwdemo", "1.0+ft.1")
        assert upload.publish([wheel], resolve_destination(workspace))[0].uploaded
    finally:
        os.kill(found.pid, signal.SIGTERM)


def test_a_password_may_begin_with_a_dash(tmp_path: Path) -> None:
    workspace = _make_workspace(tmp_path)
    keys = {"username": "freewheel", "password": "-one", "root_password": "-two"}
    files.write_text(workspace.data / "devpi" / "credentials.json", json.dumps(keys))

    running = server.start_server(workspace, port=0)
    try:
        assert server.local_server(workspace)
    finally:
        running.stop()


def test_a_port_that_is_taken(tmp_path: Path, devpi: server.RunningServer) -> None:
    with pytest.raises(FreewheelError, match=f"port {devpi.server.port} is taken"):
        server.start_server(_make_workspace(tmp_path), port=devpi.server.port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_runs_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    workspace = _make_workspace(tmp_path)
    command = [sys.executable, "-c", _STARTER, str(tmp_path), "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        said = [child.stdout.readline() for _ in range(5)]
        found = server.local_server(workspace)
        assert found
        assert found.address in said[0]
        assert found.simple_url in said[1]
        assert found.simple_url in said[2]
        child.send_signal(number)
        try:
            assert child.wait(timeout=30) == 0
        finally:
            child.kill()  # where the signal was ignored, as a shell does for what it starts in "&"
    assert server.local_server(workspace) is None
    assert not Path(f"/proc/{found.pid}").exists()
