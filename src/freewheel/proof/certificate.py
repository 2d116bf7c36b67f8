"""Stage *certify*: the record of what a wheel was put through and survived.

``<wheel>.certificate.json`` lies beside the wheel. There is one only for a wheel that stood the
proof; CertifiedWheel, the only kind that is published, is made here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from freewheel.base import decoding, files
from freewheel.base.errors import CertificateError
from freewheel.base.redaction import without_places
from freewheel.build.check import KnownWheel
from freewheel.proof.evidence import Expected, problems
from freewheel.proof.form import Certificate

SUFFIX = ".certificate.json"
_CERTIFICATE = TypeAdapter(Certificate)


_SEAL = object()  # only this module has it, so only ``certified`` makes a CertifiedWheel


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedWheel(KnownWheel):
    """A known wheel whose full certificate lies beside it, and holds."""

    certified: datetime

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("a CertifiedWheel is made by its certificate alone")


def path_of(wheel: Path) -> Path:
    """Where the certificate of a wheel lies."""
    return wheel.with_name(wheel.name + SUFFIX)


def write(wheel: Path, certificate: Certificate) -> Path:
    """Put a certificate beside its wheel, in one step."""
    path = path_of(wheel)
    content = certificate.model_dump(mode="json", by_alias=True)
    # It is served beside the wheel; what a crash printed may name directories of this machine.
    text = without_places(json.dumps(content, indent=1, sort_keys=True))
    with files.writing_to(wheel.parent):
        files.write_text(path, text + "\n")
    return path


def withdraw(wheel: Path) -> bool:
    """Take the certificate of a wheel away; whether there was one."""
    path = path_of(wheel)
    with files.writing_to(wheel.parent):
        was_there = path.exists()
        path.unlink(missing_ok=True)
    return was_there


def read(path: Path) -> Certificate:
    """The certificate in a file. Raises CertificateError."""
    if not path.exists():
        raise CertificateError(
            f"there is no certificate {path.name}", hint="prove the wheel: `nox -s prove`"
        )
    try:
        content = decoding.from_json(decoding.read_bytes(path), path.name)
        return decoding.checked(_CERTIFICATE, content, path.name)
    except decoding.DecodeError as error:
        raise CertificateError(
            f"{path.name} cannot be read, or is no certificate",
            problems=error.problems or [error.summary],
            hint="prove the wheel again: `nox -s prove`",
        ) from error


def beside(wheel: Path) -> tuple[Certificate | None, list[str]]:
    """The certificate that lies beside a wheel and holds, or all reasons why it does not hold.

    Where there is no certificate, there are no reasons either.
    """
    path = path_of(wheel)
    if not path.exists():
        return None, []
    try:
        found = read(path)
        wrong = problems_of(wheel, found)
    except CertificateError as error:
        return None, [error.summary, *error.problems]
    except OSError as error:  # the wheel itself is gone
        return None, [str(error)]
    return (None, wrong) if wrong else (found, [])


def all_certified(wheels: Iterable[tuple[KnownWheel, Expected]]) -> list[CertifiedWheel]:
    """Those wheels, if each one's certificate holds. Raises CertificateError for all at once."""
    found: list[CertifiedWheel] = []
    wrong: list[str] = []
    for wheel, expected in wheels:
        try:
            found.append(certified(wheel, expected))
        except CertificateError as error:
            wrong.append("; ".join([error.summary, *error.problems]))
    if wrong:
        raise CertificateError(
            "no wheel without a certificate",
            problems=wrong,
            hint="put them to the proof: `nox -s prove -- --all-releases`",
        )
    return found


def certified(wheel: KnownWheel, expected: Expected) -> CertifiedWheel:
    """The wheel, if its certificate holds: full, for these bytes, and by the checkout as it is.

    Raises CertificateError with everything that is wrong.
    """
    found = read(path_of(wheel.path))
    wrong = problems_of(wheel.path, found, expected)
    if found.kind != "full":
        wrong.append(f"it records a {found.kind} proof; publishing needs a full one")
    if wrong:
        raise CertificateError(
            f"the certificate of {wheel.path.name} does not hold",
            problems=wrong,
            hint=f"prove it: `nox -s prove-{wheel.project} -- --release {found.wheel.release}`",
        )
    return CertifiedWheel(
        path=wheel.path,
        project=wheel.project,
        version=wheel.version,
        sha256=wheel.sha256,
        size=wheel.size,
        certified=found.finished,
        seal=_SEAL,
    )


def problems_of(wheel: Path, found: Certificate, expected: Expected | None = None) -> list[str]:
    """All reasons why a certificate does not hold for a wheel; see ``evidence.problems``."""
    about = found.wheel
    digest = files.sha256(wheel)
    wrong = []
    if about.name != wheel.name:
        wrong.append(f"it is about {about.name}")
    if about.sha256 != digest:
        wrong.append(f"it is about other bytes: SHA-256 {about.sha256}, the wheel's is {digest}")
    if about.size != wheel.stat().st_size and not wrong:
        wrong.append(f"it says {about.size} bytes, the wheel has {wheel.stat().st_size}")
    return [*wrong, *problems(found, expected)]
