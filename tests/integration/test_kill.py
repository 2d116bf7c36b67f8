"""kill -9 in each stage: nothing half-written is left, and the next run goes on as if alone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from freewheel.base import files
from freewheel.base.workspace import share_cache
from freewheel.build import buildinfo, index
from freewheel.machine.engine import OWNER_LABEL, find_engine, remove_leftovers
from tests.integration.conftest import Builder, Checkout, make_checkout

pytestmark = pytest.mark.integration

# The stage in whose middle the process dies, and how many seconds after it began.
MOMENTS = [
    ("fetch", 0.0),
    ("fetch", 0.3),
    ("patch", 0.0),
    ("sdist", 0.0),
    ("sdist", 0.5),
    ("wheel", 0.0),
    ("wheel", 2.0),
    ("wheel", 6.0),
    ("check", 0.0),
    ("check", 0.2),
    ("check", 0.3),
]


@pytest.fixture(scope="module")
def checkout(built: Builder, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with nothing built; the engine's settings and the interpreter are there."""
    root = tmp_path_factory.mktemp("kill")
    made = make_checkout(root / "mine", cache=root / "cache", data=root / "data", copy=True)
    share_cache(built.workspace.cache, made.workspace.cache, ("engine", "interpreters"))
    return made


def kill_in(checkout: Checkout, stage: str, delay: float) -> bool:
    """Start a build and kill it with all its children ``delay`` seconds into the stage.

    False when the build got to its end before that.
    """
    child = subprocess.Popen(
        checkout.command("build", "httptools"),
        cwd=checkout.workspace.root,
        env={**checkout.environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert child.stdout
    reached = any(f"{stage} ..." in line for line in child.stdout)
    assert reached
    time.sleep(delay)
    alive = child.poll() is None
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return alive


def forget(checkout: Checkout) -> None:
    """Make the next build start over, so that every stage is reached again."""
    for path in checkout.workspace.wheels.glob(f"*{buildinfo.SUFFIX}"):
        path.unlink()


def assert_nothing_half_written(checkout: Checkout) -> None:
    workspace = checkout.workspace
    if workspace.simple.exists():
        assert index.check(workspace.simple) == []
    for record in buildinfo.read_records(workspace.wheels):
        assert files.sha256(record.wheel) == record.sha256
    for archive in workspace.sources.glob("*/*.tar.gz"):
        assert files.sha256(archive) == archive.parent.name


def test_a_build_survives_kill_in_each_stage(checkout: Checkout, built: Builder) -> None:
    killed = 0
    for stage, delay in MOMENTS:
        killed += kill_in(checkout, stage, delay)
        assert_nothing_half_written(checkout)
        forget(checkout)
    # The last moments may come too late on a fast machine; the others may not.
    assert killed >= len(MOMENTS) - 3

    checkout.freewheel("build", "httptools")

    assert_nothing_half_written(checkout)
    ours = checkout.patched("httptools")
    assert ours.sha256 == built.patched("httptools").sha256
    assert list(checkout.workspace.work.iterdir()) == []
    assert list(checkout.workspace.wheels.rglob("*.partial")) == []


def test_containers_of_killed_builds_are_removed(checkout: Checkout) -> None:
    forget(checkout)
    assert kill_in(checkout, "wheel", 4.0)

    engine = find_engine(checkout.workspace, may_install=False)
    remove_leftovers(engine)

    left = engine.call("ps", "--all", "--quiet", "--filter", f"label={OWNER_LABEL}")
    assert left.stdout.strip() == ""
