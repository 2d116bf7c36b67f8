"""Several writers of one index, any of them killed: none fails, and nothing is half done."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.build import index, index_pages
from tests.unit.wheelmaker import as_verified, make_wheel

ROUNDS = 200
WRITERS = 4
BUDGET = 45.0  # seconds
BESIDE = (".buildinfo.json", ".certificate.json", index_pages.PROVENANCE)


def write(simple: Path, wheels: list[Path], seed: int, reports: Path) -> None:
    """Add and attach in any order until killed; what goes wrong is reported to a file."""
    shaken = random.Random(seed)
    try:
        while True:
            wheel = shaken.choice(wheels)
            index.add(simple, as_verified(wheel))
            suffix = shaken.choice(BESIDE)
            files.write_text(wheel.with_name(wheel.name + suffix), "{}" * shaken.randint(1, 500))
            index.attach(simple, wheel.name.partition("-")[0], wheel, suffix)
            if shaken.random() < 0.2:
                index.yank(simple, wheel.name, reason=shaken.choice([None, "why"]))
            if shaken.random() < 0.05:
                index.renew(simple)
    except BaseException:  # noqa: BLE001  whatever it is, the test is to see it
        (reports / str(seed)).write_text(traceback.format_exc())
        os._exit(1)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL and no fork")
def test_writers_that_are_killed_at_random_moments(tmp_path: Path) -> None:
    simple = tmp_path / "wheels" / "simple"
    reports = tmp_path / "reports"
    reports.mkdir()
    wheels = [
        make_wheel(tmp_path / "built", name, f"1.0+ft.{revision}")
        for name in ("demo", "other")
        for revision in (1, 2, 3)
    ]
    shaken = random.Random(5)
    fork = multiprocessing.get_context("fork")
    seeds = iter(range(10**6))

    def started() -> ForkProcess:
        child = fork.Process(target=write, args=(simple, wheels, next(seeds), reports))
        child.start()
        return child

    running = [started() for _ in range(WRITERS)]
    finish = time.monotonic() + BUDGET
    rounds = 0
    while rounds < ROUNDS and time.monotonic() < finish:
        time.sleep(shaken.uniform(0.0, 0.1))
        victim = running.pop(shaken.randrange(WRITERS))
        os.kill(victim.pid or 0, signal.SIGKILL)
        victim.join()
        running.append(started())
        rounds += 1
    for child in running:
        child.kill()
        child.join()

    assert [path.read_text() for path in reports.iterdir()] == []
    assert rounds > 20
    for wheel in wheels:
        index.add(simple, as_verified(wheel))
    index.renew(simple)
    assert index.check(simple) == []
    assert list(simple.rglob("*.partial")) == []


def test_a_partial_file_of_a_living_writer_stays_and_of_a_dead_one_goes(tmp_path: Path) -> None:
    simple = tmp_path / "wheels" / "simple"
    wheel = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
    index.add(simple, as_verified(wheel))
    dead = multiprocessing.get_context("spawn").Process(target=int)
    dead.start()
    dead.join()
    mine = simple / "demo" / f"index.json.{os.getpid()}-abcd{files.PARTIAL}"
    left = simple / "demo" / f"index.json.{dead.pid}-abcd{files.PARTIAL}"
    old = simple / "demo" / f"x{files.PARTIAL}"
    for path in (mine, left, old):
        path.write_text("half")
    os.utime(old, (0, 0))

    index.add(simple, as_verified(wheel))

    assert mine.exists()
    assert not left.exists()
    assert not old.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no umask")
@pytest.mark.parametrize("umask", [0o077, 0o000, 0o027])
def test_what_is_served_can_be_read_by_a_web_server_and_written_by_nobody(
    tmp_path: Path, umask: int
) -> None:
    simple = tmp_path / "wheels" / "simple"
    before = os.umask(umask)
    try:
        wheel = make_wheel(tmp_path / "built", "demo", "1.0+ft.1")
        wheel.with_name(wheel.name + BESIDE[0]).write_text("{}")
        index.add(simple, as_verified(wheel))
        index.attach(simple, "demo", wheel, BESIDE[0])
    finally:
        os.umask(before)

    modes = {path.stat().st_mode & 0o777 for path in simple.rglob("*") if path.is_file()}
    assert modes == {0o644}
    assert {path.stat().st_mode & 0o777 for path in (simple, simple / "demo")} == {0o755}
