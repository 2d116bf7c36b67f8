"""The certificate: for these bytes, by the probes as they are, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from freewheel.base.errors import CertificateError, VerifyError
from freewheel.build.check import KnownWheel, RecordedWheel, VerifiedWheel
from freewheel.proof import certificate, form
from tests.unit.proofmaker import certify, expected_of, make_evidence, make_probe, programs_of

SCHEMA = Path(certificate.__file__).with_name("certificate.schema.json")


def change(path: Path, *keys: str | int, value: Any) -> None:  # noqa: ANN401  JSON
    """Set one value in a certificate's file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_certified_wheel_is_the_wheel_and_when(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path)
    issued = certify(evidence)

    wheel = certificate.certified(evidence.patched, expected_of(evidence))

    assert (wheel.path, wheel.sha256) == (evidence.patched.path, evidence.patched.sha256)
    assert wheel.certified == issued.finished
    assert certificate.read(certificate.path_of(wheel.path)) == issued


def test_what_lies_beside_a_wheel_is_the_certificate_or_why_it_does_not_hold(
    tmp_path: Path,
) -> None:
    evidence = make_evidence(tmp_path)
    wheel = evidence.patched.path
    assert certificate.beside(wheel) == (None, [])

    issued = certify(evidence)
    assert certificate.beside(wheel) == (issued, [])

    wheel.write_bytes(wheel.read_bytes() + b"?")
    found, (wrong, *_) = certificate.beside(wheel)
    assert found is None
    assert "other bytes" in wrong

    wheel.unlink()
    found, wrong_now = certificate.beside(wheel)
    assert found is None
    assert wheel.name in wrong_now[0]


def test_it_says_what_the_unpatched_build_did(tmp_path: Path) -> None:
    issued = certify(make_evidence(tmp_path, said="two threads got 7"))
    (defect,) = issued.defects

    assert (defect.baseline.failures, defect.baseline.runs) == (10, 10)
    assert defect.baseline.said == "two threads got 7"
    assert (defect.patched.failures, defect.patched.runs) == (0, 40)
    assert (issued.gil, issued.baseline_gil) == ("off", "on")


def test_without_one_there_is_no_certified_wheel(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path)
    with pytest.raises(CertificateError, match="there is no certificate demo"):
        certificate.certified(evidence.patched, expected_of(evidence))


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path)
    certify(evidence)
    with evidence.patched.path.open("ab") as file:
        file.write(b"\0")

    with pytest.raises(CertificateError) as caught:
        certificate.certified(evidence.patched, expected_of(evidence))
    (problem,) = caught.value.problems
    assert problem.startswith(f"it is about other bytes: SHA-256 {evidence.patched.sha256}")


def test_a_quick_proof_is_not_enough(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path, quick=True)
    certify(evidence)
    with pytest.raises(CertificateError, match="does not hold") as caught:
        certificate.certified(evidence.patched, expected_of(evidence))
    assert caught.value.problems == ("it records a quick proof; publishing needs a full one",)


def test_a_quick_one_cannot_be_called_full(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path, quick=True)
    certify(evidence)
    change(certificate.path_of(evidence.patched.path), "kind", value="full")
    with pytest.raises(CertificateError) as caught:
        certificate.certified(evidence.patched, expected_of(evidence))
    assert caught.value.problems == ("the runs of D1 do not bear out that it is proven",)


@pytest.mark.parametrize(("again", "stands"), [(6, False), (7, True)])
def test_a_failure_is_excused_by_enough_runs_alone_and_not_hidden(
    tmp_path: Path, again: int, *, stands: bool
) -> None:
    evidence = make_evidence(tmp_path)
    certify(evidence)
    path = certificate.path_of(evidence.patched.path)
    flaky = {"runs": 1 + again, "failures": 1, "again": again}
    flaky["endings"] = {"hang": 1, "pass": again}  # type: ignore[assignment]
    for name, value in flaky.items():
        change(path, "stress", 0, "patched", name, value=value)

    if stands:
        certificate.certified(evidence.patched, expected_of(evidence))
        assert certificate.read(path).stress[0].patched.failures == 1
    else:
        with pytest.raises(CertificateError) as caught:
            certificate.certified(evidence.patched, expected_of(evidence))
        told = "the runs of stress do not bear out that the wheel stood it"
        assert caught.value.problems == (told,)


def test_probes_that_changed_or_came_since_ask_for_a_new_proof(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path)
    certify(evidence)
    programs = programs_of(evidence)
    added = make_probe(tmp_path / "probes", "D2")
    programs.probes[0].path.write_text("sharper", encoding="utf-8")
    programs.stress[0].path.write_text("longer", encoding="utf-8")

    with pytest.raises(CertificateError) as caught:
        certificate.certified(evidence.patched, expected_of(evidence, added))
    assert [problem.split()[4] for problem in caught.value.problems] == ["D1", "D2", "stress"]


@pytest.mark.parametrize(
    ("keys", "value", "told"),
    [
        (("schema",), "urn:freewheel:certificate:0", "schema: "),
        (("wheel", "sha256"), "abc", "wheel.sha256: "),
        (("defects", 0, "verdict"), "unproven", "defects.0.verdict: "),
        (("gil",), "on", "gil: "),
        (("surplus",), 1, "surplus: Extra inputs"),
        (("finished",), "2026-11-25T12:00:00", "finished: "),
    ],
)
def test_what_is_not_a_certificate_is_not_read(
    tmp_path: Path, keys: tuple[str | int, ...], value: object, told: str
) -> None:
    evidence = make_evidence(tmp_path)
    certify(evidence)
    path = certificate.path_of(evidence.patched.path)
    change(path, *keys, value=value)

    with pytest.raises(CertificateError, match="cannot be read") as caught:
        certificate.read(path)
    assert any(problem.startswith(told) for problem in caught.value.problems)


def test_all_wheels_without_one_are_named_at_once(tmp_path: Path) -> None:
    first, second = make_evidence(tmp_path / "1"), make_evidence(tmp_path / "2")
    with pytest.raises(CertificateError) as caught:
        certificate.all_certified(
            (evidence.patched, expected_of(evidence)) for evidence in (first, second)
        )
    assert len(caught.value.problems) == 2


def test_a_certificate_can_be_withdrawn(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path)
    certify(evidence)
    assert certificate.withdraw(evidence.patched.path)
    assert not certificate.path_of(evidence.patched.path).exists()
    assert not certificate.withdraw(evidence.patched.path)


def test_the_schema_that_is_shipped_is_the_one_that_is_checked() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == form.schema(), (
        "renew it: python -m freewheel certificate-schema > "
        "src/freewheel/proof/certificate.schema.json"
    )


# ----------------------------------------------------------- evidence that somebody has changed

Change = Callable[[dict[str, Any]], object]
CHANGES: dict[str, Change] = {
    "the wheel failed": lambda c: c["defects"][0]["patched"].update(
        failures=3, endings={"pass": 37, "wrong answer": 3}
    ),
    "the wheel failed, and is called open": lambda c: (
        c["defects"][0]["patched"].update(failures=3, endings={"pass": 37, "wrong answer": 3}),
        c["defects"][0].update(verdict="open"),
    ),
    "the baseline passed": lambda c: c["defects"][0]["baseline"].update(
        failures=0, endings={"pass": 10}
    ),
    "called open to hide it": lambda c: c["defects"][0].update(verdict="open"),
    "failures that the endings deny": lambda c: c["defects"][0]["patched"].update(
        endings={"wrong answer": 40}
    ),
    "no runs at all": lambda c: c["defects"][0]["patched"].update(runs=0, endings={}),
    "the probe did not run": lambda c: c["defects"][0]["patched"].update(endings={"not run": 40}),
    "a chance of its own": lambda c: c["defects"][0].update(chance=1e-30),
    "a bound of its own": lambda c: c["defects"][0].update(bound=0.0),
    "no defect for the patch": lambda c: c.update(defects=[]),
    "a defect of no patch": lambda c: c["defects"][0].update(patches=[], verdict="open"),
    "a patch that there is not": lambda c: c["defects"][0]["patches"].append("0009-x.patch"),
    "a patch more": lambda c: c["wheel"]["patches"].append(
        {"name": "0009-x.patch", "summary": "x", "sha256": "1" * 64}
    ),
    "another patch": lambda c: c["wheel"]["patches"][0].update(sha256="1" * 64),
    "the same defect twice": lambda c: c["defects"].append(c["defects"][0]),
    "stress failed": lambda c: c["stress"][0]["patched"].update(
        failures=1, endings={"crash (SIGSEGV)": 1}
    ),
    "stress did not run": lambda c: c["stress"][0]["patched"].update(endings={"not run": 1}),
    "no stress": lambda c: c.update(stress=[]),
    "stress without work": lambda c: c["stress"][0].update(work=0),
    "races": lambda c: c["sanitizer"].update(races=["one"]),
    "no suite": lambda c: c.update(suites=[]),
    "a suite that passed nothing": lambda c: c["suites"][0].update(patched={"failed": 10}),
    "another version": lambda c: c["wheel"].update(version="1.0+ft.2"),
    "another release": lambda c: c["wheel"].update(release="2.0"),
    "another project": lambda c: c["wheel"].update(project="other"),
    "another sdist": lambda c: c["wheel"].update({"source-sha256": "1" * 64}),
    "another size": lambda c: c["wheel"].update(size=1),
    "a baseline of another project": lambda c: c["baseline"].update(
        name="other-1.0-cp314-cp314t-linux_x86_64.whl"
    ),
    "a baseline that is no wheel": lambda c: c["baseline"].update(name="made up"),
    "the wheel as its own baseline": lambda c: c["baseline"].update(sha256=c["wheel"]["sha256"]),
    "the year 2099": lambda c: c.update(finished="2099-01-01T00:00:00Z"),
    "finished before it started": lambda c: c.update(started="2026-11-26T12:00:00Z"),
    "another probe": lambda c: c["defects"][0].update({"probe-sha256": "1" * 64}),
}
# What only a checkout can tell.
NEED_A_CHECKOUT = {
    *("another patch", "no stress", "another sdist", "another probe"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_certificate_that_was_changed_is_not_believed(tmp_path: Path, kind: str) -> None:
    evidence = make_evidence(tmp_path)
    certify(evidence)
    path = certificate.path_of(evidence.patched.path)
    content = json.loads(path.read_text())
    CHANGES[kind](content)
    path.write_text(json.dumps(content))

    with pytest.raises(CertificateError, match="does not hold"):
        certificate.certified(evidence.patched, expected_of(evidence))

    alone = certificate.problems_of(evidence.patched.path, certificate.read(path))
    assert bool(alone) != (kind in NEED_A_CHECKOUT)


def test_a_certified_wheel_cannot_be_made_by_hand(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path)
    certify(evidence)
    wheel = certificate.certified(evidence.patched, expected_of(evidence))
    known = {field.name: getattr(wheel, field.name) for field in fields(wheel)}

    for made in (evidence.patched, wheel):
        with pytest.raises((TypeError, ValueError)):
            replace(made, path=tmp_path)  # type: ignore[call-arg]
    for seal in ({}, {"seal": None}, {"seal": object()}):
        with pytest.raises(TypeError):
            certificate.CertifiedWheel(**known, **seal)
        known.pop("certified", None)
        for kind in (VerifiedWheel, RecordedWheel, KnownWheel):
            with pytest.raises(TypeError):
                kind(**known, **seal)
        known["certified"] = wheel.certified


def test_a_verified_wheel_moves_with_its_bytes_alone(tmp_path: Path) -> None:
    wheel = make_evidence(tmp_path).patched
    assert isinstance(wheel, VerifiedWheel)
    copy = tmp_path / wheel.path.name
    copy.write_bytes(wheel.path.read_bytes())

    assert wheel.moved_to(copy).path == copy
    copy.write_bytes(b"other")
    with pytest.raises(VerifyError):
        wheel.moved_to(copy)


def test_a_certificate_names_no_directory_of_this_machine(tmp_path: Path) -> None:
    said = f"File {Path.home()}/.cache/freewheel/work/x.py, in https://me:secret@host/"
    issued = certify(make_evidence(tmp_path, said=said))
    text = certificate.path_of(tmp_path / "wheels" / issued.wheel.name).read_text()

    assert str(Path.home()) + "/" not in text
    assert "secret" not in text
    assert "~/.cache/freewheel/work/x.py" in text
