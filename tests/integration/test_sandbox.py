"""Foreign code that looks for planted tokens, files, sockets and other programs."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from freewheel.base import files
from freewheel.base.workspace import find_workspace
from freewheel.build.workshop import OnThisMachine
from freewheel.machine.engine import find_engine
from freewheel.machine.image import find_or_make_image
from freewheel.machine.interpreter import find_interpreter
from freewheel.machine.requirements import build_lock, fetch_requirements
from freewheel.machine.sandbox import Mount, Sandbox, running_sandbox
from freewheel.recipe.pythons import python_of
from freewheel.recipe.targets import PLATFORMS, runs_here
from tests.integration.conftest import make_checkout
from tests.unit.indexmaker import make_index, make_sdist

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
    for name in ("FTP_PROXY", "ftp_proxy"):  # which engines hand on, and nothing here uses
        monkeypatch.setenv(name, f"http://user:{TOKEN}@127.0.0.1:9/")
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


LOOK = """
def look():
    import glob, os, pathlib, socket
    token = b"planted" + b"-4711"
    found = [name for name, value in os.environ.items() if token in value.encode()]
    for address in %(addresses)s:
        kind = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        try:
            with socket.socket(kind) as client:
                client.settimeout(1)
                client.connect(address)
            found.append(str(address))
        except OSError:
            pass
    for place in (%(home)r, os.path.expanduser("~"), "/root", "/home", "/run", "/proc/[0-9]*"):
        for name in glob.glob(place + "/**", recursive=place[1] != "p", include_hidden=True):
            try:
                content = pathlib.Path(name).read_bytes() if os.path.isfile(name) else b""
            except OSError:
                continue
            if token in content and not os.path.samefile(name, __file__):
                found.append(name)
    if found:
        print("FOUND", found, flush=True)
        os._exit(99)
look()
"""
MODULE = """
#include <Python.h>
static PyModuleDef_Slot slots[] = {{Py_mod_gil, Py_MOD_GIL_NOT_USED}, {0, NULL}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "speedy._speed", .m_slots = slots};
PyMODINIT_FUNC PyInit__speed(void) { return PyModuleDef_Init(&module); }
"""
SETTINGS = """
from setuptools import Extension, setup
setup(
    name="speedy", version="%(version)s", packages=["speedy"],
    ext_modules=[Extension("speedy._speed", ["speedy/_speed.c"])],
)
"""
PATCH = """\
Description: Count each thing once
 Two threads counted it twice.
Origin: vendor
Forwarded: no
Author: The Freewheel authors
Last-Update: 2026-11-30
X-Defect: S1
X-Release: 1.0
---
diff --git a/speedy/count.py b/speedy/count.py
--- a/speedy/count.py
+++ b/speedy/count.py
@@ -1 +1 @@
-TIMES = 2
+TIMES = 1
"""
PROBE = """\
# /// script
# requires-python = ">=3.14"
# dependencies = ["speedy==1.0"]
#
# [tool.freewheel.probe]
# defect = "S1"
# title = "two threads count a thing twice"
# releases = "<=1.1"
# use = "supported"
# passes = "each thing was counted once"
# fails-by = ["wrong answer"]
# runs = { baseline = 8, patched = 20 }
# seconds = 30
# ///
import sys
import speedy.count
sys.exit(0 if speedy.count.TIMES == 1 else 3)
"""
STRESS = """\
# /// script
# requires-python = ">=3.14"
# dependencies = ["speedy==1.0"]
#
# [tool.freewheel.stress]
# title = "counts again and again"
# use = "supported"
# work = { quick = 1, full = 1 }
# seconds = 60
# ///
import speedy
if __name__ == "__main__":
    pass
"""
TESTS = """
import unittest
import speedy
class Counting(unittest.TestCase):
    def test_counting(self): self.assertTrue(speedy.__version__)
"""


def speedy(version: str, planted: dict[str, Any]) -> dict[str, str]:
    """A release of a project that looks for secrets wherever its code is run."""
    addresses = [("127.0.0.1", planted["ports"][0]), *planted["sockets"]]
    look = LOOK % {"addresses": addresses, "home": planted["home"]}
    return {
        "setup.py": look + SETTINGS % {"version": version},
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\n'
        'build-backend = "setuptools.build_meta"\n',
        "speedy/__init__.py": f'__version__ = "{version}"\n{look}',
        "LICENSE": "Do with it what you like.\n",
        "speedy/count.py": "TIMES = 2\n",
        "speedy/_speed.c": MODULE,
        "tests/test_counting.py": TESTS,
    }


def test_a_project_that_looks_for_secrets_in_each_step_finds_none(
    cache: Path, tmp_path: Path, planted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = subprocess.run([find_uv_bin(), "cache", "dir"], check=True, capture_output=True)
    monkeypatch.setenv("UV_CACHE_DIR", kept.stdout.decode().strip())
    monkeypatch.setenv("HOME", planted["home"])
    sdists = [make_sdist(tmp_path, "speedy", v, speedy(v, planted)) for v in ("1.0", "1.1")]
    contents = {path.name: path.read_bytes() for path in sdists}
    index = make_index(tmp_path / "index", "speedy", contents)
    checkout = make_checkout(tmp_path / "checkout", cache=cache, data=tmp_path / "data", copy=True)
    ours = {"UV_DEFAULT_INDEX": str(index)}
    root = checkout.workspace.root

    said = checkout.freewheel("new-recipe", "speedy", "1.0", env=ours)

    recipe = root / "recipes" / "speedy.toml"
    text = recipe.read_text(encoding="utf-8")
    text = text.replace("patches = []", 'patches = ["0001-count-once.patch"]')
    recipe.write_text(text, encoding="utf-8")
    for name, content in {
        "patches/speedy/1.0/0001-count-once.patch": PATCH,
        "probes/speedy/S1.py": PROBE,
        "probes/speedy/stress.py": STRESS,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    said += checkout.freewheel("build", "speedy", env=ours)
    said += checkout.freewheel("prove", "speedy")  # what its suite needs comes from elsewhere
    said += checkout.freewheel("watch", "speedy", "--output", str(tmp_path / "report"), env=ours)

    (seen,) = json.loads((tmp_path / "report" / "report.json").read_text())["projects"]
    verdicts = [one["verdict"] for one in seen["newer"]["evidence"]]
    assert verdicts == ["still there"], seen
    logs = [path.read_text() for path in checkout.workspace.logs.rglob("*.log")]
    assert "FOUND" not in "".join([said, *logs])
    written = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []


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
