"""Gaps of a lock filled for real: an sdist that builds, one that fails, one that does harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from freewheel.base.wheel_archive import open_wheel
from freewheel.base.workspace import find_workspace
from freewheel.build import buildinfo, sbom
from freewheel.fill import environment
from freewheel.fill.shelf import UNPROVEN
from tests.integration.conftest import ROOT, Checkout, make_checkout

pytestmark = pytest.mark.integration

SETUP = """
from setuptools import Extension, setup
{before}
setup(name="{name}", version="1.0", ext_modules=[Extension("{name}", ["{name}.c"])])
"""
SOURCE = """
#include <Python.h>
{head}
static PyModuleDef_Slot slots[] = {{{{Py_mod_gil, Py_MOD_GIL_NOT_USED}}, {{0, NULL}}}};
static struct PyModuleDef definition = {{PyModuleDef_HEAD_INIT, "{name}", NULL, 0, NULL, slots}};
PyMODINIT_FUNC PyInit_{name}(void) {{ return PyModuleDef_Init(&definition); }}
"""
HARM = """
import os, time
try:
    open("/freewheel/job/setup.py", "w")
except OSError:
    pass
while True:
    if os.fork() == 0:
        time.sleep(600)
"""


def make_sdist(directory: Path, name: str, *, head: str = "", before: str = "") -> str:
    """A tiny sdist with one extension module; the line that requires it with its digest."""
    members = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        "setup.py": SETUP.format(name=name, before=before),
        f"{name}.c": SOURCE.format(name=name, head=head),
    }
    path = directory / f"{name}-1.0.tar.gz"
    # Without the time of day, so that a second run of the tests finds its wheel fresh.
    with gzip.GzipFile(path, "wb", mtime=0) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for member, text in members.items():
            info = tarfile.TarInfo(f"{name}-1.0/{member}")
            info.size, info.mtime = len(text), 1_700_000_000
            tar.addfile(info, io.BytesIO(text.encode()))
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def sdists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of sdists, and the requirements file that names them."""
    directory = tmp_path_factory.mktemp("gaps")
    lines = [
        make_sdist(directory, "fwgood"),
        make_sdist(directory, "fwheader", head="#include <mysql.h>"),
        make_sdist(directory, "fwharm", before=HARM),
    ]
    (directory / "requirements.txt").write_text("".join(lines))
    return directory


@pytest.fixture(scope="module")
def checkout(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose filled wheels are kept between runs."""
    root = find_workspace(ROOT).cache / "tests" / "gaps"
    return make_checkout(root, cache=cache, data=tmp_path_factory.mktemp("data"), copy=False)


@pytest.fixture(scope="module")
def first(checkout: Checkout, sdists: Path) -> str:
    """What the first run printed."""
    return fill(checkout, sdists)


def fill(checkout: Checkout, sdists: Path) -> str:
    requirements = str(sdists / "requirements.txt")
    return checkout.freewheel("fill", requirements, code=1, env={"PIP_FIND_LINKS": str(sdists)})


def test_what_builds_is_in_the_environment_and_what_does_not_costs_only_itself(
    first: str, checkout: Checkout
) -> None:
    assert "fwgood 1.0: built, unproven" in first
    assert "the compiler lacks the header mysql.h" in first
    assert "--system-packages adds libmariadb-dev" in first
    assert "fwharm 1.0: not in the environment" in first
    assert "it started more processes than the container allows" in first
    assert "1 of 1 compiled distributions imported, GIL off: yes" in first
    installed = checkout.workspace.filled / "environment" / "lib"
    assert list(installed.glob("*/site-packages/fwgood.*.so"))


@pytest.mark.usefixtures("first")
def test_the_wheel_says_that_it_is_unproven(checkout: Checkout) -> None:
    records = buildinfo.read_records(checkout.workspace.filled)
    (record,) = (record for record in records if record.project == "fwgood")

    with open_wheel(record.wheel) as wheel:
        (member,) = (name for name in wheel.names if name.endswith(sbom.MEMBER))
        content = wheel.read(member)
    assert sbom.problems(content, "fwgood", "1.0") == []
    properties = json.loads(content)["metadata"]["component"]["properties"]
    assert UNPROVEN in [item["name"] for item in properties]
    pinned = (checkout.workspace.filled / environment.REQUIREMENTS).read_text()
    assert f"fwgood==1.0 --hash=sha256:{record.sha256}" in pinned


@pytest.mark.usefixtures("first")
def test_a_second_run_builds_nothing(checkout: Checkout, sdists: Path) -> None:
    second = fill(checkout, sdists)

    assert "by an earlier run" in second
    assert "fwgood 1.0: build ..." not in second
    assert "fwheader 1.0: build ..." not in second
    assert "mysql.h" in second
