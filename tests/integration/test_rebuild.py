"""A wheel from the index is built again from what it records, and comes out identical."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from freewheel.base import files
from freewheel.base.errors import VerifyError
from freewheel.base.workspace import share_cache
from freewheel.build import buildinfo
from freewheel.machine.host import free_port
from tests.integration.conftest import Builder, Checkout, copy_wheels, make_checkout

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def web(built: Builder) -> Iterator[str]:
    """The static index on a plain web server."""
    built.patched("httptools")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=built.workspace.simple,
        stderr=subprocess.DEVNULL,
    )
    while server.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()


@pytest.fixture
def fresh(built: Builder, tmp_path: Path) -> Checkout:
    """A checkout that has built nothing, with a cache of its own."""
    checkout = make_checkout(
        tmp_path / "mine", cache=tmp_path / "cache", data=tmp_path / "data", copy=True
    )
    share_cache(built.workspace.cache, checkout.workspace.cache, ("engine", "interpreters"))
    return checkout


def test_a_wheel_from_the_index_is_rebuilt_identically(
    built: Builder, fresh: Checkout, web: str
) -> None:
    record = built.patched("httptools")
    url = f"{web}/httptools/{quote(record.wheel.name, safe='')}"

    said = fresh.freewheel("rebuild", url)

    assert f"{record.wheel.name}: identical, {record.sha256}" in said
    assert not fresh.workspace.wheels.exists()


def test_a_checkout_with_another_patch_names_it(built: Builder, fresh: Checkout) -> None:
    record = built.patched("httptools")
    patch = next((fresh.workspace.patches / "httptools" / "0.9.0").iterdir())
    before = files.sha256(patch)
    patch.write_text(patch.read_text().replace("Forwarded: no", "Forwarded: not-needed"))

    said = fresh.freewheel("rebuild", str(record.wheel), code=23)

    assert f"patch {patch.name}: {before} then, {files.sha256(patch)} here" in said


def revise(checkout: Checkout) -> None:
    """Give httptools' wheels in a checkout's recipe another revision than they have."""
    recipe = checkout.workspace.recipes / "httptools.toml"
    recipe.write_text(re.sub(r"(?m)^revision = \d+$", "revision = 99", recipe.read_text()))


def test_a_checkout_with_another_revision_says_so(built: Builder, fresh: Checkout) -> None:
    record = built.patched("httptools")
    revise(fresh)

    said = fresh.freewheel("rebuild", str(record.wheel), code=23)

    assert "0.9.0+ft.99" in said


def test_a_wheel_whose_bytes_are_not_the_recorded_ones(
    built: Builder, fresh: Checkout, tmp_path: Path
) -> None:
    record = built.patched("httptools")
    for suffix in ("", buildinfo.SUFFIX):
        shutil.copy(record.wheel.with_name(record.wheel.name + suffix), tmp_path)
    changed = tmp_path / record.wheel.name
    changed.write_bytes(changed.read_bytes() + b"x")

    assert "not about these bytes" in fresh.freewheel("rebuild", str(changed), code=23)


def test_without_its_buildinfo_a_wheel_cannot_be_rebuilt(fresh: Checkout, web: str) -> None:
    said = fresh.freewheel("rebuild", f"{web}/httptools/none-1.0-py3-none-any.whl", code=23)

    assert "cannot be downloaded" in said
    assert "buildinfo" in said


def test_the_lock_of_known_good_wheels_is_kept(built: Builder, fresh: Checkout) -> None:
    record = built.patched("httptools")
    copy_wheels(built, fresh, f"httptools-{record.version}-*")
    assert "1 entries" in fresh.freewheel("lock-wheels", "httptools")
    assert "known-good" not in fresh.freewheel("build", "httptools")

    # As if these inputs had once given other bytes.
    lock = json.loads(fresh.workspace.known_good.read_text())
    lock["wheels"][0]["sha256"] = "0" * 64
    fresh.workspace.known_good.write_text(json.dumps(lock))
    said = fresh.freewheel("build", "httptools", code=24)

    assert "the same inputs gave other bytes" in said
    assert record.sha256 in said


def test_a_wheel_of_an_earlier_revision_is_left_out(built: Builder, fresh: Checkout) -> None:
    record = built.patched("httptools")
    copy_wheels(built, fresh, f"httptools-{record.version}-*")
    assert "1 entries" in fresh.freewheel("lock-wheels", "httptools")
    revise(fresh)

    said = fresh.freewheel("lock-wheels", "httptools", code=VerifyError.exit_code)

    assert f"{record.wheel.name}: left out" in said


def test_verify_finds_a_wheel_good(built: Builder) -> None:
    said = built.freewheel("verify", str(built.patched("httptools").wheel))

    assert said.count(": good, evidence that nobody signed") == 1
