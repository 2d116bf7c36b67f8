"""The demonstration: which probe shows most."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from freewheel.base.errors import ProbeError
from freewheel.base.workspace import Workspace
from freewheel.proof import demo
from freewheel.proof.programs import Outcome
from freewheel.recipe.recipe import Release
from tests.unit.proofmaker import make_probe

ROOT = Path(__file__).parents[2]
WORKSPACE = Workspace(root=ROOT, cache=ROOT / "cache", data=ROOT / "data")


def release(project: str, version: str) -> Release:
    return Release(
        project=project,
        version=version,
        sha256="1" * 64,
        released=datetime(2026, 1, 1, tzinfo=UTC),
        revision=1,
        patches=(),
    )


def test_a_crash_in_supported_use_shows_most(tmp_path: Path) -> None:
    wrong = make_probe(tmp_path, "D1")
    crash = make_probe(tmp_path, "D2", fails_by=(Outcome.CRASH,))
    misuse = replace(make_probe(tmp_path, "D0", fails_by=(Outcome.CRASH,)), use="misuse")

    assert sorted([wrong, misuse, crash], key=demo._order) == [crash, wrong, misuse]


def test_a_probe_is_chosen_by_its_defect() -> None:
    assert demo.choose_probe(WORKSPACE, release("greenlet", "3.5.6"), "G1").defect == "G1"


@pytest.mark.parametrize(("version", "defect"), [("3.5.6", "G99"), ("3.5.6", "G7"), ("99.0", "")])
def test_a_release_without_the_defect_is_answered_with_those_it_has(
    version: str, defect: str
) -> None:
    with pytest.raises(ProbeError, match="there are"):
        demo.choose_probe(WORKSPACE, release("greenlet", version), defect)
