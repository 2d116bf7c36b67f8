"""Check a finished wheel again, wherever it came from: its archive, and what lies beside it.

Nothing of the wheel is run. ``<wheel>.buildinfo.json`` must be beside it; where there is a bundle
of attestations too, a trusted key must have signed it, and a certificate must be this wheel's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import files
from freewheel.base.errors import AttestationError, VerifyError
from freewheel.build import buildinfo, static_checks
from freewheel.proof import certificate, form
from freewheel.trust import provenance

# Codes are stable: a number is never used again.
CHECKS = {
    "FW301": "the buildinfo is beside the wheel and can be read",
    "FW302": "the buildinfo is about this wheel: its name, digest and size",
    "FW303": "the attestation, if there is one, is signed by a trusted key and is about this wheel",
    "FW304": "the certificate, if there is one, is about this wheel, and its numbers "
    "support its verdicts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found good about a wheel.

    ``signers`` is empty where no bundle lies beside it, ``certified`` None without a certificate.
    """

    record: buildinfo.Record
    signers: tuple[str, ...]
    certified: form.Certificate | None


def verify_file(path: Path) -> Verified:
    """Check the wheel at ``path``. Raises VerifyError with every problem that was found."""
    if not path.is_file():
        raise VerifyError(f"there is no wheel at {path}", hint="name a file that ends in .whl")
    record = buildinfo.read_record(path.with_name(path.name + buildinfo.SUFFIX))
    problems = list(_record_problems(path, record))
    if record is not None:
        # Records of before this was kept are of projects whose package has the project's name.
        named = str(record.details.get("import name") or record.project.replace("-", "_"))
        expected = static_checks.Expected(
            project=record.project,
            version=record.version,
            target=record.inputs.get("target", ""),
            import_name=named,
            pure=bool(record.details.get("pure")),
            grafts=tuple(map(str, record.details.get("grafts") or ())),
        )
        problems += map(str, static_checks.static_failures(path, expected))
    signers: list[str] = []
    bundle = path.with_name(path.name + provenance.SUFFIX)
    if bundle.exists():
        try:
            certified_path = certificate.path_of(path)
            beside = [files.sha256(certified_path)] if certified_path.is_file() else []
            signers = provenance.signers(
                bundle, files.sha256(path), provenance.trusted_keys(), beside=beside
            )
        except AttestationError as error:
            told = "; ".join([error.summary, *error.problems])
            problems.append(f"FW303 {CHECKS['FW303']}: {told}")
    certified, wrong = certificate.beside(path)
    problems += [f"FW304 {CHECKS['FW304']}: {problem}" for problem in wrong]
    if problems or record is None:
        raise VerifyError(
            f"{path.name} is not what it should be",
            problems=problems,
            hint="do not use it; fetch it again with the files beside it, or build it",
        )
    return Verified(record=record, signers=tuple(signers), certified=certified)


def _record_problems(path: Path, record: buildinfo.Record | None) -> Iterator[str]:
    beside = path.with_name(path.name + buildinfo.SUFFIX)
    if record is None:
        state = "cannot be read, or was cut short" if beside.exists() else "is not there"
        yield f"FW301 {CHECKS['FW301']}: {beside.name} {state}"
        return
    found = (path.name, files.sha256(path), path.stat().st_size)
    for what, named, real in zip(
        ("name", "SHA-256", "size"),
        (record.wheel.name, record.sha256, record.size),
        found,
        strict=True,
    ):
        if named != real:
            yield f"FW302 {CHECKS['FW302']}: its {what} is {real}, the buildinfo says {named}"
