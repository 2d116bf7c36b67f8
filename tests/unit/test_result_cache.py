"""Results that are kept between proofs."""

from pathlib import Path

from pydantic import TypeAdapter

from freewheel.proof.result_cache import ResultCache, Subject, harness_digest

NUMBERS = TypeAdapter(list[int])


def subject(**facts: str) -> Subject:
    return Subject(kind="demo-D1", facts={"wheel": "1", "program": "2", **facts})


def test_a_result_belongs_to_its_subject_alone(tmp_path: Path) -> None:
    kept = ResultCache(tmp_path)
    kept.write(subject(), NUMBERS, [1])

    assert kept.read(subject(), NUMBERS) == [1]
    assert kept.read(subject(wheel="other"), NUMBERS) is None
    assert kept.read(Subject(kind="demo-D2", facts=subject().facts), NUMBERS) is None
    # Another process finds it too.
    assert ResultCache(tmp_path).read(subject(), NUMBERS) == [1]
    assert kept.read(subject(), TypeAdapter(dict[str, int])) is None


def test_what_is_damaged_is_not_there(tmp_path: Path) -> None:
    kept = ResultCache(tmp_path)
    kept.write(subject(), NUMBERS, [1])
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text(encoding="utf-8")[:-10], encoding="utf-8")
    assert kept.read(subject(), NUMBERS) is None


def test_the_harness_is_part_of_what_a_result_depends_on() -> None:
    assert len(harness_digest()) == 64
