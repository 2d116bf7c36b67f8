"""Targets on which the proof does not run: not proven, not published, and told so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from freewheel.base.errors import ProofError, UnprovenError
from freewheel.base.workspace import Workspace
from freewheel.build import finished
from freewheel.build.check import VerifiedWheel
from freewheel.build.job import Job
from freewheel.commands import proof
from freewheel.recipe.recipe import Recipe, load_recipes
from tests.unit.wheelmaker import as_verified, make_record, make_wheel

ROOT = Path(__file__).parents[2]
HTTPTOOLS = next(
    r for r in load_recipes(ROOT / "recipes", ROOT / "patches") if r.name == "httptools"
)
PROVEN, UNPROVEN = "cp314t-manylinux_x86_64", "cp314t-musllinux_x86_64"


def built(workspace: Workspace, target: str) -> VerifiedWheel:
    tag = f"cp314-cp314t-{target.partition('-')[2].replace('linux_', 'linux_1_2_')}"
    version = HTTPTOOLS.default_release.local_version
    wheel = as_verified(make_wheel(workspace.wheels, "httptools", version, tag=tag))
    make_record(wheel.path, target)
    return wheel


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")


def test_a_wheel_that_is_not_proven_is_left_out_with_the_reason(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    proven, unproven = built(workspace, PROVEN), built(workspace, UNPROVEN)

    left = finished.without_unproven(workspace, [HTTPTOOLS], [proven, unproven])

    assert left == [proven]
    said = capsys.readouterr().out
    assert (
        f"{unproven.path.name}: not proven, and so not published, on {UNPROVEN}: the proof" in said
    )


def test_where_none_is_left_nothing_is_published(workspace: Workspace) -> None:
    with pytest.raises(UnprovenError, match="no wheel of a target that is proven"):
        finished.without_unproven(workspace, [HTTPTOOLS], [built(workspace, UNPROVEN)])


def job(recipe: Recipe, target: str) -> Job:
    return Job(recipe=recipe, release=recipe.default_release, baseline=False, target=target)


def test_the_proof_refuses_what_it_does_not_run_on(capsys: pytest.CaptureFixture[str]) -> None:
    other = replace(HTTPTOOLS, name="other")
    proven, unproven = job(HTTPTOOLS, PROVEN), job(other, UNPROVEN)

    assert proof._provable([proven, unproven]) == [proven]
    version = other.default_release.local_version
    assert f"left out: other {version} on cp314t-musllinux_x86_64: the proof" in (
        capsys.readouterr().err
    )
    with pytest.raises(ProofError, match="does not run on this target") as caught:
        proof._provable([unproven])
    assert "none of the runners has musl" in str(caught.value)
