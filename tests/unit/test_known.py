"""The lock of known-good wheels: same inputs, same bytes; new inputs, a proposal."""

from dataclasses import replace
from pathlib import Path

import pytest

from freewheel import files, known
from freewheel.errors import KnownGoodError
from freewheel.inputs import Record
from tests.unit.wheelmaker import make_record, make_wheel


@pytest.fixture
def record(tmp_path: Path) -> Record:
    wheel = make_wheel(tmp_path / "wheels", "speedy", "1.0+ft.1")
    return make_record(wheel, image="local:1", **{"source archive": "2"})


def test_an_accepted_wheel_is_known(tmp_path: Path, record: Record) -> None:
    lock = tmp_path / "known-good.json"

    assert not known.judge(known.read(lock), record, at_hand=[])
    assert known.accept(lock, [record]) == [known.entry_of(record)]
    assert known.judge(known.read(lock), record, at_hand=[])
    assert known.accept(lock, [record]) == []


@pytest.mark.parametrize("name", ["source archive", "image", "target"])
def test_new_inputs_are_not_an_error(tmp_path: Path, record: Record, name: str) -> None:
    lock = tmp_path / "known-good.json"
    known.accept(lock, [record])
    other = replace(record, sha256="f" * 64, inputs={**record.inputs, name: "other"})

    assert not known.judge(known.read(lock), other, at_hand=[])


def test_other_bytes_of_the_same_inputs_are_an_error_that_names_them(
    tmp_path: Path, record: Record
) -> None:
    lock = tmp_path / "known-good.json"
    known.accept(lock, [record])
    changed = make_wheel(
        tmp_path / "new", "speedy", "1.0+ft.1", members={"speedy/__init__.py": "x = 2\n"}
    )
    other = replace(record, wheel=changed, sha256=files.sha256(changed))

    with pytest.raises(KnownGoodError) as caught:
        known.judge(known.read(lock), other, at_hand=[changed, record.wheel])

    assert record.sha256 in str(caught.value)
    assert other.sha256 in str(caught.value)
    assert "speedy/__init__.py" in str(caught.value)


def test_without_the_known_wheel_the_digests_still_tell(tmp_path: Path, record: Record) -> None:
    lock = tmp_path / "known-good.json"
    known.accept(lock, [record])

    with pytest.raises(KnownGoodError, match="not at hand"):
        known.judge(known.read(lock), replace(record, sha256="f" * 64), at_hand=[])


def test_another_builder_has_an_entry_of_its_own(tmp_path: Path, record: Record) -> None:
    lock = tmp_path / "known-good.json"
    other = replace(record, sha256="f" * 64, inputs={**record.inputs, "image": "official"})
    known.accept(lock, [record, other])

    assert [entry.builder for entry in known.read(lock)] == ["local:1", "official"]


def test_new_inputs_replace_the_entry(tmp_path: Path, record: Record) -> None:
    lock = tmp_path / "known-good.json"
    other = replace(record, inputs={**record.inputs, "source archive": "3"})
    known.accept(lock, [record])
    known.accept(lock, [other])

    assert [entry.inputs["source archive"] for entry in known.read(lock)] == ["3"]


def test_the_file_does_not_depend_on_the_order(tmp_path: Path, record: Record) -> None:
    other = replace(record, project="another")
    known.accept(tmp_path / "a.json", [record, other])
    known.accept(tmp_path / "b.json", [other, record])

    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 9, "wheels": []}', '{"schema": 1}'])
def test_a_damaged_lock_is_an_error(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "known-good.json"
    lock.write_text(text)

    with pytest.raises(KnownGoodError, match=r"known-good\.json"):
        known.read(lock)
