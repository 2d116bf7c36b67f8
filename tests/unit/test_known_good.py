"""The lock of known-good wheels: same inputs, same bytes; new inputs, a proposal."""

from dataclasses import replace
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.errors import KnownGoodError
from freewheel.build import known_good
from freewheel.build.buildinfo import Record
from freewheel.build.known_good import Judgement
from tests.unit.wheelmaker import make_record, make_wheel


@pytest.fixture
def record(tmp_path: Path) -> Record:
    wheel = make_wheel(tmp_path / "wheels", "speedy", "1.0+ft.1")
    return make_record(wheel, image="local:1", **{"source archive": "2"})


def test_an_accepted_wheel_is_known(tmp_path: Path, record: Record) -> None:
    lock = tmp_path / "known-good.json"

    assert not known_good.judge(known_good.read(lock), record, candidates=[]).known
    assert known_good.accept(lock, [record]) == [known_good.entry_of(record)]
    assert known_good.judge(known_good.read(lock), record, candidates=[]) == Judgement(known=True)
    assert known_good.accept(lock, [record]) == []


@pytest.mark.parametrize("name", ["source archive", "image", "target"])
def test_new_inputs_are_not_an_error(tmp_path: Path, record: Record, name: str) -> None:
    lock = tmp_path / "known-good.json"
    known_good.accept(lock, [record])
    other = replace(record, sha256="f" * 64, inputs={**record.inputs, name: "other"})

    assert not known_good.judge(known_good.read(lock), other, candidates=[]).known


@pytest.mark.parametrize("name", ["pipeline", "image", "recipe"])
def test_known_bytes_of_other_inputs_are_known_and_the_input_is_named(
    tmp_path: Path, record: Record, name: str
) -> None:
    lock = tmp_path / "known-good.json"
    known_good.accept(lock, [record])
    other = replace(record, inputs={**record.inputs, name: "other"})

    judged = known_good.judge(known_good.read(lock), other, candidates=[])
    assert judged == Judgement(known=True, differing=(name,))


def test_other_bytes_of_the_same_inputs_are_an_error_that_names_them(
    tmp_path: Path, record: Record
) -> None:
    lock = tmp_path / "known-good.json"
    known_good.accept(lock, [record])
    changed = make_wheel(
        tmp_path / "new", "speedy", "1.0+ft.1", members={"speedy/__init__.py": "x = 2\n"}
    )
    other = replace(record, wheel=changed, sha256=files.sha256(changed))

    with pytest.raises(KnownGoodError) as caught:
        known_good.judge(known_good.read(lock), other, candidates=[changed, record.wheel])

    assert record.sha256 in str(caught.value)
    assert other.sha256 in str(caught.value)
    assert "speedy/__init__.py" in str(caught.value)


def test_without_the_known_wheel_the_digests_still_tell(tmp_path: Path, record: Record) -> None:
    lock = tmp_path / "known-good.json"
    known_good.accept(lock, [record])

    with pytest.raises(KnownGoodError, match="not here"):
        known_good.judge(known_good.read(lock), replace(record, sha256="f" * 64), candidates=[])


def test_another_builder_has_an_entry_of_its_own(tmp_path: Path, record: Record) -> None:
    lock = tmp_path / "known-good.json"
    other = replace(record, sha256="f" * 64, inputs={**record.inputs, "image": "official"})
    known_good.accept(lock, [record, other])

    assert [entry.builder for entry in known_good.read(lock)] == ["local:1", "official"]


def test_new_inputs_replace_the_entry(tmp_path: Path, record: Record) -> None:
    lock = tmp_path / "known-good.json"
    other = replace(record, inputs={**record.inputs, "source archive": "3"})
    known_good.accept(lock, [record])
    known_good.accept(lock, [other])

    assert [entry.inputs["source archive"] for entry in known_good.read(lock)] == ["3"]


def test_the_file_does_not_depend_on_the_order(tmp_path: Path, record: Record) -> None:
    other = replace(record, project="another")
    known_good.accept(tmp_path / "a.json", [record, other])
    known_good.accept(tmp_path / "b.json", [other, record])

    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 9, "wheels": []}', '{"schema": 1}'])
def test_a_damaged_lock_is_an_error(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "known-good.json"
    lock.write_text(text)

    with pytest.raises(KnownGoodError, match=r"known-good\.json"):
        known_good.read(lock)
