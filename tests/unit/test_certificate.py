"""The certificate: for these bytes, by the probes as they are, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from freewheel.base.errors import CertificateError
from freewheel.proof import certificate, form
from freewheel.proof.programs import Programs
from tests.unit.proofmaker import certify, make_evidence, make_probe, programs_of

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

    wheel = certificate.certified(evidence.patched, programs_of(evidence))

    assert (wheel.path, wheel.sha256) == (evidence.patched.path, evidence.patched.sha256)
    assert wheel.certified == issued.finished
    assert certificate.read(certificate.path_of(wheel.path)) == issued


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
        certificate.certified(evidence.patched, programs_of(evidence))


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path)
    certify(evidence)
    with evidence.patched.path.open("ab") as file:
        file.write(b"\0")

    with pytest.raises(CertificateError) as caught:
        certificate.certified(evidence.patched, programs_of(evidence))
    (problem,) = caught.value.problems
    assert problem.startswith(f"it is about other bytes: SHA-256 {evidence.patched.sha256}")


def test_a_quick_proof_is_not_enough(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path, quick=True)
    certify(evidence)
    with pytest.raises(CertificateError, match="does not hold") as caught:
        certificate.certified(evidence.patched, programs_of(evidence))
    assert caught.value.problems == ("it records a quick proof; publishing needs a full one",)


def test_a_quick_one_cannot_be_called_full(tmp_path: Path) -> None:
    evidence = make_evidence(tmp_path, quick=True)
    certify(evidence)
    change(certificate.path_of(evidence.patched.path), "kind", value="full")
    with pytest.raises(CertificateError) as caught:
        certificate.certified(evidence.patched, programs_of(evidence))
    assert caught.value.problems == ("the runs of D1 do not bear out that it is proven",)


@pytest.mark.parametrize(("again", "stands"), [(6, False), (7, True)])
def test_a_failure_is_excused_by_enough_runs_alone_and_not_hidden(
    tmp_path: Path, again: int, *, stands: bool
) -> None:
    evidence = make_evidence(tmp_path)
    certify(evidence)
    path = certificate.path_of(evidence.patched.path)
    flaky = {"runs": 1 + again, "failures": 1, "again": again, "endings": {"hang": 1}}
    for name, value in flaky.items():
        change(path, "stress", 0, "patched", name, value=value)

    if stands:
        certificate.certified(evidence.patched, programs_of(evidence))
        assert certificate.read(path).stress[0].patched.failures == 1
    else:
        with pytest.raises(CertificateError) as caught:
            certificate.certified(evidence.patched, programs_of(evidence))
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
        certificate.certified(
            evidence.patched,
            Programs(probes=(*programs.probes, added), stress=programs.stress),
        )
    assert [problem.split()[4] for problem in caught.value.problems] == [
        "demo/D1.py",
        "demo/D2.py",
        "demo/stress.py",
    ]


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
            (evidence.patched, programs_of(evidence)) for evidence in (first, second)
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
