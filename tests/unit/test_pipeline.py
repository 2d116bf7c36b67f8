"""The pipeline: one job fails and the others go on, a stale input, a wheel the index refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from freewheel.base import console, files
from freewheel.base.errors import BuildError, FreewheelError, PackageIndexError, PatchError
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo, index, pipeline
from freewheel.build.job import Job
from tests.unit.test_buildinfo import RECIPE, RELEASE
from tests.unit.wheelmaker import as_verified, make_record, make_wheel

NAMES = ("first", "second", "third")
IMAGE = "local:1"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")


@pytest.fixture(autouse=True)
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[console.Board]:
    monkeypatch.setattr(pipeline, "acceptable_identities", lambda _: (IMAGE,))
    with console.Board() as board:
        yield board


def job(name: str) -> Job:
    release = replace(RELEASE, project=name)
    recipe = replace(RECIPE, name=name, releases=(release,))
    return Job(recipe=recipe, release=release, baseline=False, target=recipe.targets.served[0])


def prepare(_: Workspace, job: Job, *__: object) -> SimpleNamespace:
    """In the place of fetch, patch and sdist."""
    return SimpleNamespace(job=job)


def fail(name: str, error: FreewheelError) -> Callable[..., object]:
    """The same, but for one project it fails."""

    def stage(workspace: Workspace, job: Job, *rest: object) -> object:
        if job.recipe.name == name:
            raise error
        return prepare(workspace, job, *rest)

    return stage


def finish(workspace: Workspace, ready: SimpleNamespace, *_: object) -> pipeline.Outcome:
    """In the place of wheel, annotate and check."""
    wanted = ready.job
    path = make_wheel(workspace.wheels, wanted.recipe.name, wanted.version)
    return pipeline.Outcome(job=wanted, wheel=as_verified(path))


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The stages replaced by others that need no container."""
    monkeypatch.setattr(pipeline, "_prepare", prepare)
    monkeypatch.setattr(pipeline, "ready_builder", lambda *_: None)
    monkeypatch.setattr(pipeline, "_finish", finish)
    return monkeypatch


@pytest.mark.parametrize("late", [False, True])
def test_one_job_fails_and_the_others_go_on(
    workspace: Workspace,
    board: console.Board,
    stages: pytest.MonkeyPatch,
    *,
    late: bool,
) -> None:
    failing = fail("second", BuildError("the compiler failed"))

    def finish_or_fail(
        workspace: Workspace, ready: SimpleNamespace, *rest: object
    ) -> pipeline.Outcome:
        failing(workspace, ready.job)
        return finish(workspace, ready, *rest)

    stages.setattr(pipeline, *(("_finish", finish_or_fail) if late else ("_prepare", failing)))

    outcomes = pipeline.build(workspace, [job(name) for name in NAMES], board)

    assert [outcome.job.recipe.name for outcome in outcomes] == list(NAMES)
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
    assert [bool(outcome.wheel) for outcome in outcomes] == [True, False, True]


def test_where_every_sdist_fails_no_image_is_made(
    workspace: Workspace, board: console.Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_prepare", fail("first", PatchError("it does not apply")))

    (outcome,) = pipeline.build(workspace, [job("first")], board)

    assert isinstance(outcome.error, PatchError)


def record(workspace: Workspace, wanted: Job) -> buildinfo.Record:
    """A finished wheel of the job, with the buildinfo of its inputs."""
    wheel = as_verified(make_wheel(workspace.wheels, wanted.recipe.name, wanted.version))
    made = buildinfo.Record(
        wheel=wheel.path,
        project=wheel.project,
        version=wheel.version,
        sha256=wheel.sha256,
        size=wheel.size,
        inputs={**pipeline._inputs_of(workspace, wanted), "image": IMAGE},
        details={},
    )
    buildinfo.write_record(made)
    return made


def test_a_wheel_of_the_same_inputs_is_fresh(workspace: Workspace, board: console.Board) -> None:
    made = record(workspace, job("first"))

    (outcome,) = pipeline.build(workspace, [job("first")], board)

    assert outcome.fresh
    assert outcome.wheel
    assert outcome.wheel.sha256 == made.sha256


@pytest.mark.usefixtures("stages")
def test_a_stale_input_is_named_and_the_wheel_is_built(
    workspace: Workspace, board: console.Board
) -> None:
    made = record(workspace, job("first"))
    stale = {**made.inputs, "source archive": "f" * 64, "image": "local:0"}
    buildinfo.write_record(replace(made, inputs=stale))

    (outcome,) = pipeline.build(workspace, [job("first")], board)

    assert not outcome.fresh
    assert outcome.changed == ("source archive", "image")


def test_a_wheel_that_was_changed_is_built_again(
    workspace: Workspace, board: console.Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record(workspace, job("first"))
    made.wheel.write_bytes(made.wheel.read_bytes() + b"?")
    monkeypatch.setattr(pipeline, "_prepare", fail("first", PatchError("it is built")))

    (outcome,) = pipeline.build(workspace, [job("first")], board)

    assert outcome.changed == ("the wheel itself",)
    assert str(outcome.error) == "it is built"


def test_what_the_index_refuses_replaces_nothing(workspace: Workspace, tmp_path: Path) -> None:
    first = as_verified(make_wheel(workspace.wheels, "first", "1.0+ft.1"))
    index.add(workspace.simple, first)
    other = as_verified(make_wheel(tmp_path / "new", "first", "1.0+ft.1", members={"x.py": "1"}))

    with pytest.raises(PackageIndexError):
        pipeline.hand_out(workspace, other, make_record(other.path))

    assert files.sha256(first.path) == first.sha256
