"""Several writers of one index, any of them killed: none fails, and nothing is half done."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sys
import time
import traceback
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo, check, index, index_pages, pipeline
from freewheel.proof import certificate
from freewheel.publish.install_lines import write_requirements
from freewheel.release import artifacts
from tests.unit.wheelmaker import as_verified, make_record, make_wheel

ROUNDS = 200
WRITERS = 4
BUDGET = 45.0  # seconds
BESIDE = (".buildinfo.json", ".certificate.json", index_pages.PROVENANCE)


def change_index(workspace: Workspace, wheel: Path, shaken: random.Random) -> None:
    """What proofs, releases and their undoing do to the index."""
    simple, wheel = workspace.simple, wheel.parents[1] / "proven" / wheel.name
    index.add(simple, as_verified(wheel))
    suffix = shaken.choice(BESIDE)
    files.write_text(wheel.with_name(wheel.name + suffix), "{}" * shaken.randint(1, 500))
    index.attach(simple, wheel.name.partition("-")[0], wheel, suffix)
    if shaken.random() < 0.2:
        index.yank(simple, wheel.name, reason=shaken.choice([None, "why"]))
    if shaken.random() < 0.2:
        index.detach(simple, wheel.name.partition("-")[0], wheel.name, suffix)
    if shaken.random() < 0.05:
        index.renew(simple)


def build(workspace: Workspace, wheel: Path, shaken: random.Random) -> None:
    """What a build does with a wheel that has passed, and a proof with its certificate."""
    placed = pipeline.hand_out(workspace, as_verified(wheel), record_of(wheel))
    if shaken.random() < 0.3:
        certificate.withdraw(placed.path)


def receive(workspace: Workspace, wheel: Path, shaken: random.Random) -> None:
    """What the next job of a release does; of this project, builders have two wheels."""
    builder = wheel.parents[1] / shaken.choice(["one", "other"])
    artifacts.collect(builder, workspace.wheels, None)


def publish(workspace: Workspace, _wheel: Path, _shaken: random.Random) -> None:
    """What a publisher reads and writes: a wheel is what its record says, or none at all."""
    found = []
    with files.writing_to(workspace.wheels):
        for record in buildinfo.read_records(workspace.wheels):
            known_as = {"project": record.project, "version": record.version}
            found.append(check.recall(record.wheel, **known_as, sha256=record.sha256))
    write_requirements(workspace.wheels / "requirements.txt", [one for one in found if one])


def record_of(wheel: Path) -> buildinfo.Record:
    record = buildinfo.read_record(wheel.with_name(wheel.name + buildinfo.SUFFIX))
    assert record
    return record


def write(workspace: Workspace, wheels: list[Path], seed: int, reports: Path) -> None:
    """Do what writers do, in any order, until killed; what goes wrong is reported to a file."""
    shaken = random.Random(seed)
    try:
        while True:
            work = shaken.choice((change_index, change_index, build, receive, publish))
            work(workspace, shaken.choice(wheels), shaken)
    except BaseException:  # noqa: BLE001  whatever it is, the test is to see it
        (reports / str(seed)).write_text(traceback.format_exc())
        os._exit(1)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL and no fork")
def test_writers_that_are_killed_at_random_moments(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")
    simple = workspace.simple
    reports = tmp_path / "reports"
    reports.mkdir()
    wheels = [
        make_wheel(tmp_path / "built", name, f"1.0+ft.{revision}")
        for name in ("demo", "other")
        for revision in (1, 2, 3)
    ]
    for builder, text in (("one", "1"), ("other", "2")):
        members = {"third/core.py": text}
        wheels_of_one = make_wheel(tmp_path / builder, "third", "1.0+ft.1", members=members)
        make_record(wheels_of_one)
    for wheel in wheels:
        make_record(wheel)
    shutil.copytree(tmp_path / "built", tmp_path / "proven")
    shaken = random.Random(5)
    fork = multiprocessing.get_context("fork")
    seeds = iter(range(10**6))

    def started() -> ForkProcess:
        child = fork.Process(target=write, args=(workspace, wheels, next(seeds), reports))
        child.start()
        return child

    running = [started() for _ in range(WRITERS)]
    finish = time.monotonic() + BUDGET
    rounds = 0
    while rounds < ROUNDS and time.monotonic() < finish:
        time.sleep(shaken.uniform(0.0, 0.1))
        victim = running.pop(shaken.randrange(WRITERS))
        victim.kill()
        victim.join()
        running.append(started())
        rounds += 1
    for child in running:
        child.kill()
        child.join()

    assert [path.read_text() for path in reports.iterdir()] == []
    assert rounds > 20
    for wheel in wheels:
        pipeline.hand_out(workspace, as_verified(wheel), record_of(wheel))
    artifacts.collect(tmp_path / "one", workspace.wheels, None)
    index.renew(simple)
    assert index.check(simple) == []
    assert list(simple.rglob("*.partial")) == []
    records = list(buildinfo.read_records(workspace.wheels))
    assert len(records) == len(wheels) + 1
    assert [r.wheel.name for r in records if files.sha256(r.wheel) != r.sha256] == []


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
