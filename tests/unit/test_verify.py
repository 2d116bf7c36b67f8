"""A wheel and what lies beside it: good ones pass, and each fault has its own words."""

import json
import subprocess
from pathlib import Path

import pytest

from freewheel.base.errors import AttestationError, VerifyError
from freewheel.build import buildinfo
from freewheel.proof import certificate
from freewheel.proof.make_certificate import issue
from freewheel.trust import provenance, verify
from tests.unit.proofmaker import make_evidence
from tests.unit.wheelmaker import make_record, make_wheel

VERSION = "1.0+ft.1"
MEMBERS: dict[str, bytes | str] = {
    "speedy/__init__.py": "",
    "speedy/core.cpython-314t-x86_64-linux-gnu.so": b"\x7fELF",
}


@pytest.fixture
def record(tmp_path: Path) -> buildinfo.Record:
    wheel = make_wheel(tmp_path, "speedy", VERSION, members=MEMBERS)
    more = {"source archive": "a" * 64, "patch 0001-first.patch": "b" * 64}
    return make_record(wheel, image="local:1", **more)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key to sign with, which is trusted as well."""
    directory = tmp_path / "keys"
    directory.mkdir()
    make_key(tmp_path / "signing.key", directory / "builder.pem")
    monkeypatch.setenv(provenance.SIGNING_KEY, str(tmp_path / "signing.key"))
    monkeypatch.setenv(provenance.TRUSTED_KEYS, str(directory))
    return directory


def make_key(private: Path, public: Path) -> None:
    generate: list[str | Path] = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", private]
    subprocess.run(generate, check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)


def archive_problems(error: VerifyError) -> list[str]:
    """The problems but those about an SBOM, which a wheel made for a test has not got."""
    return [problem for problem in error.problems if not problem.startswith(("FW108", "FW109"))]


def problems(wheel: Path) -> list[str]:
    try:
        verify.verify_file(wheel)
    except VerifyError as error:
        return archive_problems(error)
    return []


def test_a_wheel_with_its_buildinfo_is_good(record: buildinfo.Record) -> None:
    assert problems(record.wheel) == []


def test_a_missing_wheel(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="there is no wheel"):
        verify.verify_file(tmp_path / "absent.whl")


def test_a_missing_buildinfo(record: buildinfo.Record) -> None:
    record.wheel.with_name(record.wheel.name + buildinfo.SUFFIX).unlink()

    (problem,) = problems(record.wheel)
    assert problem.startswith("FW301")
    assert "is not there" in problem


def test_a_truncated_buildinfo(record: buildinfo.Record) -> None:
    path = record.wheel.with_name(record.wheel.name + buildinfo.SUFFIX)
    path.write_text(path.read_text()[:-20])

    (problem,) = problems(record.wheel)
    assert "was cut short" in problem


def test_a_truncated_wheel(record: buildinfo.Record) -> None:
    record.wheel.write_bytes(record.wheel.read_bytes()[:-200])

    codes = {problem.split()[0] for problem in problems(record.wheel)}
    assert codes == {"FW105", "FW302"}


def test_other_bytes_than_the_buildinfo_names(record: buildinfo.Record, tmp_path: Path) -> None:
    other = make_wheel(
        tmp_path / "other", "speedy", VERSION, members={**MEMBERS, "speedy/x.py": ""}
    )
    record.wheel.write_bytes(other.read_bytes())

    assert {problem.split()[0] for problem in problems(record.wheel)} == {"FW302"}


@pytest.mark.usefixtures("keys")
def test_a_signed_wheel_names_its_signer(record: buildinfo.Record) -> None:
    bundle = provenance.attest(record)

    assert problems(record.wheel) == []
    assert provenance.signers(bundle, record.sha256, provenance.trusted_keys()) == ["builder"]


@pytest.mark.usefixtures("keys")
def test_the_statement_is_the_same_for_the_same_build(record: buildinfo.Record) -> None:
    first = provenance.attest(record).read_bytes()

    assert provenance.attest(record).read_bytes() == first
    payload = provenance.statement(record)
    assert payload["subject"][0]["digest"] == {"sha256": record.sha256}
    named = [
        item["name"] for item in payload["predicate"]["buildDefinition"]["resolvedDependencies"]
    ]
    assert named == ["patch 0001-first.patch", "source archive"]


@pytest.mark.usefixtures("keys")
def test_a_changed_statement_is_refused(record: buildinfo.Record) -> None:
    bundle = provenance.attest(record)
    envelope = json.loads(bundle.read_text())
    envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
    bundle.write_text(json.dumps(envelope))

    (problem,) = problems(record.wheel)
    assert problem.startswith("FW303")
    assert "not signed by a key that is trusted" in problem


def test_a_stranger_is_not_trusted(record: buildinfo.Record, keys: Path, tmp_path: Path) -> None:
    provenance.attest(record)
    make_key(tmp_path / "another.key", keys / "builder.pem")

    (problem,) = problems(record.wheel)
    assert "not signed by a key that is trusted" in problem


@pytest.mark.usefixtures("keys")
def test_a_bundle_of_another_wheel_is_refused(record: buildinfo.Record) -> None:
    bundle = provenance.attest(record)

    with pytest.raises(AttestationError, match="about another wheel"):
        provenance.signers(bundle, "f" * 64, provenance.trusted_keys())


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"payload": 1}'])
def test_a_damaged_bundle_is_refused(record: buildinfo.Record, text: str) -> None:
    provenance.attest(record).write_text(text)

    (problem,) = problems(record.wheel)
    assert problem.startswith("FW303")


def test_without_a_key_nothing_is_signed(
    record: buildinfo.Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(provenance.SIGNING_KEY, raising=False)

    with pytest.raises(AttestationError, match="no key to sign with"):
        provenance.attest(record)


def test_a_file_that_is_no_key(
    record: buildinfo.Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "no.key").write_text("not a key")
    monkeypatch.setenv(provenance.SIGNING_KEY, str(tmp_path / "no.key"))

    with pytest.raises(AttestationError, match="no private key"):
        provenance.attest(record)


def test_a_key_can_be_handed_over_as_text(
    record: buildinfo.Record, keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pem = (tmp_path / "signing.key").read_text()
    monkeypatch.setenv(provenance.SIGNING_KEY, pem)
    provenance.attest(record)
    assert problems(record.wheel) == []
    assert keys.is_dir()

    monkeypatch.setenv(provenance.SIGNING_KEY, pem.replace("M", "m"))
    with pytest.raises(AttestationError, match="no private key") as caught:
        provenance.attest(record)
    assert pem.splitlines()[1][:20].replace("M", "m") not in str(caught.value)


def test_a_certificate_of_another_wheel_and_one_cut_short(
    record: buildinfo.Record, tmp_path: Path
) -> None:
    issued = issue(make_evidence(tmp_path / "evidence"))
    named = {"name": record.wheel.name, "sha256": record.sha256, "size": record.size}
    about = issued.wheel.model_copy(update={**named, "project": record.project})
    name = record.wheel.name.replace(VERSION, "1.0")
    baseline = issued.baseline.model_copy(update={"name": name})
    changes = {"wheel": about, "baseline": baseline}
    path = certificate.write(record.wheel, issued.model_copy(update=changes))
    assert problems(record.wheel) == []

    certificate.write(record.wheel, issued)
    assert [problem.split()[0] for problem in problems(record.wheel)] == ["FW304", "FW304"]

    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert {problem.split()[0] for problem in problems(record.wheel)} == {"FW304"}


@pytest.mark.usefixtures("keys")
def test_a_signature_speaks_of_the_certificate(record: buildinfo.Record, tmp_path: Path) -> None:
    issued = issue(make_evidence(tmp_path / "evidence"))
    named = {"name": record.wheel.name, "sha256": record.sha256, "size": record.size}
    about = issued.wheel.model_copy(update={**named, "project": record.project})
    baseline = issued.baseline.model_copy(
        update={"name": record.wheel.name.replace(VERSION, "1.0")}
    )
    path = certificate.write(
        record.wheel, issued.model_copy(update={"wheel": about, "baseline": baseline})
    )
    provenance.attest(record)
    assert problems(record.wheel) == []

    # Believable by its own numbers, but not the one that was signed.
    path.write_text(path.read_text().replace("CPython", "Cpython").replace('"Debian"', '"Ubuntu"'))
    (problem,) = problems(record.wheel)
    assert problem.startswith("FW303")
    assert "does not speak of the certificate" in problem

    path.unlink()
    assert problems(record.wheel) == []
