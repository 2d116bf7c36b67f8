"""The audit on real extension modules, compiled here: imported in a container, and put to smoke."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Protocol

import pytest
from uv import find_uv_bin

from freewheel.machine.interpreter import Interpreter
from tests.integration.conftest import ROOT
from tests.unit.wheelmaker import make_wheel

pytestmark = pytest.mark.integration

SOURCE = """
#include <Python.h>
#include <stdlib.h>
static int times = 0;
static int execute(PyObject *module) {
    times++;
    if (times > 1 && CRASHES) abort();
    if (NEEDS[0]) {
        PyObject *needed = PyImport_ImportModule(NEEDS);
        if (needed == NULL) { if (NEEDED) return -1; PyErr_Clear(); }
        Py_XDECREF(needed);
    }
    return 0;
}
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if QUIET
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL}
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, NAME, NULL, 0, NULL, slots};
PyMODINIT_FUNC INIT(void) { return PyModuleDef_Init(&definition); }
"""


def compiled(
    directory: Path,
    interpreter: Interpreter,
    name: str,
    *,
    quiet: bool = True,
    crashes: bool = False,
    needs: str = "",
    needed: bool = False,
) -> bytes:
    """An extension module; it crashes when it is imported again, or imports another one."""
    prefix = interpreter.path.parents[1]
    source, built = directory / f"{name}.c", directory / f"{name}.so"
    source.write_text(SOURCE)
    macros = {
        "NAME": f'"{name}"',
        "INIT": f"PyInit_{name}",
        "QUIET": int(quiet),
        "CRASHES": int(crashes),
        "NEEDS": f'"{needs}"',
        "NEEDED": int(needed),
    }
    subprocess.run(
        [
            *("cc", "-shared", "-fPIC", "-O1", "-DPy_GIL_DISABLED=1"),
            *(f"-D{macro}={value}" for macro, value in macros.items()),
            *(f"-I{path}" for path in sorted((prefix / "include").glob("python3.14t*"))),
            *(str(source), "-o", str(built)),
        ],
        check=True,
    )
    return built.read_bytes()


@pytest.fixture(scope="module")
def index(interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of files with a wheel for each way to behave."""
    directory = tmp_path_factory.mktemp("index")
    kinds: dict[str, dict[str, Any]] = {
        "fwquiet": {},
        "fwloud": {"quiet": False},
        "fwvictim": {"needs": "fwloud"},
        "fwcrashes": {"crashes": True},
        "fwlonely": {"needs": "fwabsent", "needed": True},
    }
    for name, behaviour in kinds.items():
        extension = compiled(directory, interpreter, name, **behaviour)
        needs = [behaviour["needs"]] if "needs" in behaviour else None
        make_wheel(
            directory,
            name,
            "1.0",
            members={f"{name}.cpython-314t-x86_64-linux-gnu.so": extension},
            metadata={"Requires-Dist": needs},
        )
    make_wheel(directory, "fwpure", "1.0", tag="py3-none-any")
    return directory


class Audit(Protocol):
    """Runs the audit with those words; ``source`` is where the package is."""

    def __call__(
        self, *words: str | Path, cwd: Path, source: Path = ROOT / "src"
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="module")
def audit(index: Path, cache: Path) -> Audit:
    """The audit, with that index alone and with the cache of the tests."""

    def run(
        *words: str | Path, cwd: Path, source: Path = ROOT / "src"
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "freewheel", "audit", *map(str, words)],
            cwd=cwd,
            env={
                **os.environ,
                "PYTHONPATH": str(source),
                "FREEWHEEL_CACHE": str(cache),
                "PIP_INDEX_URL": index.as_uri(),
                "PIP_EXTRA_INDEX_URL": "",
                "PIP_FIND_LINKS": "",
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def audited(audit: Audit, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The findings on all those wheels, by name."""
    directory = tmp_path_factory.mktemp("application")
    names = ("quiet", "loud", "victim", "crashes", "lonely", "pure")
    requirements = directory / "requirements.txt"
    requirements.write_text("".join(f"fw{name}==1.0\n" for name in names))
    done = audit(requirements, "--json", cwd=directory)
    assert done.returncode == 1, done.stderr
    return {found["name"]: found for found in json.loads(done.stdout)["findings"]}


def test_verdicts_come_from_behaviour(audited: dict[str, dict[str, Any]]) -> None:
    assert {name: found["verdict"] for name, found in audited.items()} == {
        "fwloud": "turns the GIL on",
        "fwlonely": "not imported",
        "fwcrashes": "unproven",
        "fwquiet": "unproven",
        "fwvictim": "unproven",
        "fwpure": "pure Python",
    }
    assert audited["fwloud"]["culprits"] == ["fwloud"]


def test_a_victim_is_distinguished_from_its_culprit(audited: dict[str, dict[str, Any]]) -> None:
    (line,) = audited["fwvictim"]["evidence"]

    assert "imports fwloud of fwloud 1.0, which turns the GIL on" in line


def test_smoke_finds_what_an_import_does_not(audited: dict[str, dict[str, Any]]) -> None:
    assert audited["fwcrashes"]["smoke"] == ["fails smoke: re-import of fwcrashes, SIGABRT 3 of 3"]
    assert audited["fwquiet"]["smoke"] == []
    assert "fwabsent" in audited["fwlonely"]["evidence"][0]


@pytest.mark.usefixtures("audited")
def test_a_second_audit_imports_nothing(audit: Audit, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("fwquiet==1.0\n")

    done = audit(requirements, "--html", tmp_path / "page.html", cwd=tmp_path)

    assert done.returncode == 0
    assert "importing: 1 of 1" not in done.stdout
    assert "1 unproven" in done.stdout
    assert "fwquiet" in (tmp_path / "page.html").read_text()


@pytest.mark.usefixtures("audited")
def test_a_baseline_and_a_threshold_decide_what_fails(audit: Audit, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("fwloud==1.0\nfwcrashes==1.0\n")
    written = tmp_path / "audit.json"
    written.write_text(audit(requirements, "--json", cwd=tmp_path).stdout)

    with_baseline = audit(requirements, "--baseline", written, cwd=tmp_path)
    stricter = audit(requirements, "--fail-on", "unproven", cwd=tmp_path)

    assert with_baseline.returncode == 0
    assert stricter.returncode == 1
    assert "fwcrashes (unproven)" in stricter.stdout


def test_a_wheel_with_other_bytes_than_the_lock_is_not_touched(
    audit: Audit, index: Path, tmp_path: Path
) -> None:
    lock = tmp_path / "pylock.toml"
    (wheel,) = index.glob("fwquiet-*.whl")
    lock.write_text(
        'lock-version = "1.0"\ncreated-by = "a test"\n[[packages]]\nname = "fwquiet"\n'
        f'version = "1.0"\n[[packages.wheels]]\nname = "{wheel.name}"\n'
        f'url = "{wheel.as_uri()}"\nhashes = {{ sha256 = "{"0" * 64}" }}\n'
    )

    done = audit(lock, cwd=tmp_path)

    assert done.returncode == 45
    assert "SHA-256 differs" in done.stdout
    assert "do not install it" in done.stdout


def test_it_works_as_an_installed_package_outside_a_checkout(audit: Audit, tmp_path: Path) -> None:
    subprocess.run(
        [find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("freewheel-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    crash = tmp_path / "crash.txt"
    crash.write_text(
        "2026-11-02\nFatal Python error: Segmentation fault\n\n"
        "Extension modules: greenlet._greenlet, asyncpg.protocol.protocol (total: 2)\n"
        'File "/a/lib/python3.14t/site-packages/asyncpg/x86_64-linux-gnu.py", line 1 in f\n'
    )

    done = audit(crash, cwd=tmp_path, source=tmp_path / "installed")

    assert "install asyncpg " in done.stdout, done.stderr
    assert "crash like this" in done.stdout
