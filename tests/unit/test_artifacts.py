"""From job to job: what two builders agree on, and nothing that is not on that list."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.errors import ReproduceError, VerifyError
from freewheel.build import buildinfo
from freewheel.proof import certificate
from freewheel.release import artifacts
from tests.unit.wheelmaker import make_record, make_wheel


def built(directory: Path, version: str = "1.0+ft.1", **changes: str) -> Path:
    """A wheel with its buildinfo, as a builder hands it on."""
    members = {f"speedy/{name}.py": text for name, text in (changes or {"core": "1"}).items()}
    wheel = make_wheel(directory, "speedy", version, members=members)
    make_record(wheel)
    return wheel


def test_equal_wheels_are_known_by_their_digests(tmp_path: Path) -> None:
    first = built(tmp_path / "a" / "deep" / "in")
    built(tmp_path / "b")

    assert artifacts.compare_builders(tmp_path / "a", tmp_path / "b") == {
        first.name: files.sha256(first)
    }


def test_every_difference_is_named(tmp_path: Path) -> None:
    built(tmp_path / "a")
    built(tmp_path / "b", core="2")
    built(tmp_path / "b", "2.0+ft.1")

    with pytest.raises(ReproduceError) as caught:
        artifacts.compare_builders(tmp_path / "a", tmp_path / "b")

    told = "\n".join(caught.value.problems)
    assert "speedy-2.0+ft.1-cp314-cp314t-manylinux_2_17_x86_64.whl: only in b" in told
    assert "the builders differ" in told
    assert "speedy/core.py" in told


def test_nothing_is_no_agreement(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    with pytest.raises(VerifyError, match="there is no wheel"):
        artifacts.compare_builders(tmp_path / "a", tmp_path / "b")


def test_a_wheel_is_received_with_what_lies_beside_it(tmp_path: Path) -> None:
    wheel = built(tmp_path / "a" / "artifact")
    certificate.path_of(wheel).write_text("{}")
    wheel.with_name("noise.txt").write_text("")
    wheels = tmp_path / "wheels"

    taken = artifacts.collect(tmp_path / "a", wheels, {wheel.name: files.sha256(wheel)})

    assert taken == [wheels / wheel.name]
    assert {path.name for path in wheels.iterdir()} - {".lock"} == {
        wheel.name,
        wheel.name + buildinfo.SUFFIX,
        wheel.name + certificate.SUFFIX,
    }


@pytest.mark.parametrize("came", [b"{}", b'{"changed": 1}', None])
def test_a_certificate_on_the_list_is_the_one_that_was_issued(
    tmp_path: Path, came: bytes | None
) -> None:
    wheel = built(tmp_path / "a")
    certified = certificate.path_of(wheel)
    certified.write_bytes(b"{}")
    digests = {path.name: files.sha256(path) for path in (wheel, certified)}
    if came is None:
        certified.unlink()
    else:
        certified.write_bytes(came)

    if came == b"{}":
        assert artifacts.collect(tmp_path / "a", tmp_path / "wheels", digests)
    else:
        with pytest.raises(VerifyError, match="is not the certificate that was issued"):
            artifacts.collect(tmp_path / "a", tmp_path / "wheels", digests)


@pytest.mark.parametrize("known", [{}, {"of-another.whl": "0" * 64}, "other bytes"])
def test_what_is_not_on_the_list_is_not_received(
    tmp_path: Path, known: dict[str, str] | str
) -> None:
    wheel = built(tmp_path / "a")
    digests = known if isinstance(known, dict) else {wheel.name: "0" * 64}

    with pytest.raises(VerifyError) as caught:
        artifacts.collect(tmp_path / "a", tmp_path / "wheels", digests)

    assert "the builders agreed on" in str(caught.value)
    assert not (tmp_path / "wheels").exists()


def test_a_wheel_without_its_own_buildinfo_is_not_received(tmp_path: Path) -> None:
    wheel = built(tmp_path / "a")
    shutil.copyfile(built(tmp_path / "b", core="2"), wheel)

    with pytest.raises(VerifyError, match="no buildinfo that is about it"):
        artifacts.collect(tmp_path / "a", tmp_path / "wheels", None)


def test_two_wheels_of_one_name_are_refused(tmp_path: Path) -> None:
    built(tmp_path / "a" / "one")
    built(tmp_path / "a" / "two")

    with pytest.raises(VerifyError, match="twice"):
        artifacts.collect(tmp_path / "a", tmp_path / "wheels", None)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"x.whl": "abc"}', "${{ needs }}"])
def test_a_damaged_list_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(artifacts.DIGESTS, text)

    with pytest.raises(VerifyError, match="not a list of digests"):
        artifacts.named_digests()


def test_what_one_job_prints_another_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = tmp_path / "outputs"
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    digests = {"a-1.0+ft.1-py3-none-any.whl": "0" * 64}
    artifacts.set_output("digests", digests)
    artifacts.set_output("more", [])

    name, _, text = outputs.read_text().splitlines()[0].partition("=")
    monkeypatch.setenv(artifacts.DIGESTS, text)

    assert name == "digests"
    assert artifacts.named_digests() == digests
    assert json.loads(outputs.read_text().splitlines()[1].removeprefix("more=")) == []
    monkeypatch.delenv(artifacts.DIGESTS)
    assert artifacts.named_digests() is None
