"""What an index has of a project: final releases alone, each with its sdist, time and wheels."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from freewheel.base.errors import UpstreamError
from freewheel.upkeep.upstream import fits, offer_of, offers
from tests.unit.indexmaker import make_index


@pytest.fixture
def _index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        *("speedy-1.0.tar.gz", "speedy-1.10.tar.gz", "speedy-1.9.tar.gz"),
        *("speedy-2.0rc1.tar.gz", "speedy-1.11.tar.gz", "speedy-1.10.zip"),
        "speedy-1.10-cp314-cp314t-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "speedy-1.12-cp314-cp314t-win_amd64.whl",
    )
    files = {name: name.encode() for name in names}
    make_index(tmp_path / "index", "speedy", files, yanked=["speedy-1.11.tar.gz"])
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "index").as_uri())
    monkeypatch.setenv("PIP_INDEX_URL", str(tmp_path / "nothing"))


@pytest.mark.usefixtures("_index")
def test_final_releases_newest_first() -> None:
    assert [offer.version for offer in offers("speedy")] == ["1.12", "1.10", "1.9", "1.0"]


@pytest.mark.usefixtures("_index")
def test_an_offer_is_a_release_for_a_recipe() -> None:
    release = offer_of("speedy", "1.10").as_release()

    assert release.version == "1.10"
    assert len(release.sha256) == 64
    assert release.released == datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert release.patches == ()


@pytest.mark.usefixtures("_index")
def test_what_is_missing_is_said() -> None:
    with pytest.raises(UpstreamError, match=r"no sdist of speedy 1\.12"):
        offer_of("speedy", "1.12").as_release()
    with pytest.raises(UpstreamError, match=r"no speedy 3") as caught:
        offer_of("speedy", "3")
    assert "1.12, 1.10" in caught.value.hint
    with pytest.raises(UpstreamError, match="knows unheard-of"):
        offers("unheard-of")


@pytest.mark.usefixtures("_index")
def test_which_targets_upstream_serves() -> None:
    offer = offer_of("speedy", "1.10")

    assert offer.serves("cp314t-manylinux_x86_64")
    assert not offer.serves("cp314t-manylinux_aarch64")
    assert not offer.serves("cp314t-win_amd64")


@pytest.mark.parametrize(
    ("tag", "target", "served"),
    [
        ("cp314-cp314t-macosx_10_15_universal2", "cp314t-macosx_arm64", True),
        ("cp314-cp314t-macosx_11_0_arm64", "cp314t-macosx_x86_64", False),
        ("cp314-cp314t-win_arm64", "cp314t-win_arm64", True),
        ("cp314-cp314t-musllinux_1_2_x86_64", "cp314t-manylinux_x86_64", False),
        ("cp314-cp314-manylinux_2_17_x86_64", "cp314t-manylinux_x86_64", False),
        ("cp315-cp315t-manylinux_2_17_x86_64", "cp314t-manylinux_x86_64", False),
        ("cp314-abi3-manylinux_2_17_x86_64", "cp314t-manylinux_x86_64", False),
        ("cp315-abi3.abi3t-manylinux_2_28_x86_64", "cp315t-manylinux_x86_64", True),
        ("cp315-abi3.abi3t-manylinux_2_28_x86_64", "cp316t-manylinux_x86_64", True),
        ("cp315-abi3.abi3t-manylinux_2_28_x86_64", "cp314t-manylinux_x86_64", False),
        ("cp315-abi3-manylinux_2_28_x86_64", "cp315t-manylinux_x86_64", False),
    ],
)
def test_a_wheel_and_a_target(tag: str, target: str, served: bool) -> None:  # noqa: FBT001
    assert fits(f"speedy-1.0-{tag}.whl", target) is served


def test_what_is_no_wheel_fits_nothing() -> None:
    assert not fits("nonsense.whl", "cp314t-win_amd64")
