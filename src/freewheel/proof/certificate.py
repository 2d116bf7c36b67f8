"""Stage *certify*: the record of what a wheel was put through and survived.

``<wheel>.certificate.json`` lies beside the wheel. There is one only for a wheel that stood the
proof; CertifiedWheel, the only kind that is published, is made here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from freewheel.base import files
from freewheel.base.errors import CertificateError
from freewheel.build.check import VerifiedWheel
from freewheel.proof import control
from freewheel.proof.form import Certificate
from freewheel.proof.programs import Programs

SUFFIX = ".certificate.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedWheel(VerifiedWheel):
    """A verified wheel whose full certificate lies beside it."""

    certified: datetime


def path_of(wheel: Path) -> Path:
    """Where the certificate of a wheel lies."""
    return wheel.with_name(wheel.name + SUFFIX)


def write(wheel: Path, certificate: Certificate) -> Path:
    """Put a certificate beside its wheel, in one step."""
    path = path_of(wheel)
    content = certificate.model_dump(mode="json", by_alias=True)
    files.write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return path


def withdraw(wheel: Path) -> bool:
    """Take the certificate of a wheel away; whether there was one."""
    path = path_of(wheel)
    was_there = path.exists()
    path.unlink(missing_ok=True)
    return was_there


def read(path: Path) -> Certificate:
    """The certificate in a file. Raises CertificateError."""
    try:
        return Certificate.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise CertificateError(
            f"there is no certificate {path.name}", hint="prove the wheel: `nox -s prove`"
        ) from error
    except (OSError, ValidationError) as error:
        problems = (
            [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            if isinstance(error, ValidationError)
            else [str(error)]
        )
        raise CertificateError(
            f"{path.name} cannot be read, or is no certificate",
            problems=problems,
            hint="prove the wheel again: `nox -s prove`",
        ) from error


def all_certified(
    wheels: Iterable[tuple[VerifiedWheel, Programs]],
) -> list[CertifiedWheel]:
    """Those wheels, if each one's certificate holds. Raises CertificateError for all at once."""
    found: list[CertifiedWheel] = []
    problems: list[str] = []
    for wheel, programs in wheels:
        try:
            found.append(certified(wheel, programs))
        except CertificateError as error:
            problems.append("; ".join([error.summary, *error.problems]))
    if problems:
        raise CertificateError(
            "no wheel without a certificate",
            problems=problems,
            hint="put them to the proof: `nox -s prove -- --all-releases`",
        )
    return found


def certified(wheel: VerifiedWheel, programs: Programs) -> CertifiedWheel:
    """The wheel, if its certificate holds: full, for these bytes, and by the probes as they are.

    Raises CertificateError with everything that is wrong.
    """
    certificate = read(path_of(wheel.path))
    problems = list(mismatches(wheel.path, certificate))
    problems += _unfounded(certificate)
    problems += _outdated(certificate, programs)
    if certificate.kind != "full":
        problems.append(f"it records a {certificate.kind} proof; publishing needs a full one")
    if problems:
        raise CertificateError(
            f"the certificate of {wheel.path.name} does not hold",
            problems=problems,
            hint=f"prove it: `nox -s prove-{wheel.project} -- --release "
            f"{certificate.wheel.release}`",
        )
    verified = {field.name: getattr(wheel, field.name) for field in fields(VerifiedWheel)}
    return CertifiedWheel(**verified, certified=certificate.finished)


def mismatches(wheel: Path, certificate: Certificate) -> Iterator[str]:
    """In what a wheel is not the one that a certificate is about."""
    about = certificate.wheel
    if about.name != wheel.name:
        yield f"it is about {about.name}"
    digest = files.sha256(wheel)
    if about.sha256 != digest:
        yield f"it is about other bytes: SHA-256 {about.sha256}, the wheel's is {digest}"


def _unfounded(certificate: Certificate) -> Iterator[str]:
    """The programs whose runs do not bear out that the wheel stood the proof."""
    for defect in certificate.defects:
        if defect.verdict == "proven":
            chance = control.chance_of(defect.baseline, defect.patched)
            limit = control.QUICK_CHANCE if certificate.kind == "quick" else control.FULL_CHANCE
            stood = control.stood(defect.patched, control.PROBES_AGAIN)
            if not stood or not defect.baseline.failures or chance > limit:
                yield f"the runs of {defect.id} do not bear out that it is proven"
        elif defect.verdict == "moot" and (defect.baseline.failures or not defect.baseline.runs):
            yield f"the runs of {defect.id} do not bear out that it is moot"
    for stress in certificate.stress:
        if not control.stood(stress.patched, control.STRESS_AGAIN):
            yield f"the runs of {stress.name} do not bear out that the wheel stood it"


def _outdated(certificate: Certificate, programs: Programs) -> Iterator[str]:
    """The programs that are not any more, or not yet, what the certificate was made with."""
    used = {defect.id: defect.probe_sha256 for defect in certificate.defects}
    used |= {stress.name: stress.program_sha256 for stress in certificate.stress}
    release = certificate.wheel.release
    concerned = [probe for probe in programs.probes if release in probe.releases]
    for program in (*concerned, *programs.stress):
        if used.get(program.name) != program.sha256:
            yield f"it was made without {program.project}/{program.path.name} as that is now"
