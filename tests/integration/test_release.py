"""The release workflow, walked through: every step, with a real wheel of this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from freewheel.build import index
from freewheel.proof import certificate
from freewheel.trust import provenance
from tests.integration.conftest import Checkout
from tests.rehearsal.release import Rehearsed, rehearse

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def rehearsed(proven: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Rehearsed:
    """From the matrix to four environments; results of the proof are kept from ``proven``."""
    return rehearse(proven.workspace, "httptools", "0.9.0", tmp_path_factory.mktemp("rehearsal"))


def test_the_wheel_is_the_one_that_a_person_builds_here(
    proven: Checkout, rehearsed: Rehearsed
) -> None:
    record = proven.patched("httptools", "0.9.0")

    assert rehearsed.digests == {record.wheel.name: record.sha256}


def test_it_installs_with_both_installers_from_both_indexes(rehearsed: Rehearsed) -> None:
    assert rehearsed.installed.keys() == {
        f"{installer} from {where}"
        for installer in ("pip", "uv")
        for where in ("the server", "Pages")
    }
    for version in rehearsed.installed.values():
        assert re.fullmatch(r"0\.9\.0\+ft\.\d+", version)


def test_what_is_deployed_is_whole_and_has_everything_beside_it(rehearsed: Rehearsed) -> None:
    assert index.check(rehearsed.pages) == []
    (wheel,) = rehearsed.pages.glob("*/*.whl")
    assert certificate.read(certificate.path_of(wheel)).kind == "full"
    envelope = json.loads(wheel.with_name(wheel.name + provenance.SUFFIX).read_text())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"


def test_two_builders_made_it_and_nobody_else(rehearsed: Rehearsed) -> None:
    logs = list(Path(rehearsed.pages).parent.glob("jobs/*/cache/logs/httptools-0.9.0+ft*.log"))

    assert sorted(path.parents[2].name.rpartition("-httptools")[0] for path in logs) == [
        "builder-a",
        "builder-b",
    ]
