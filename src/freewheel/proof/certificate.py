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
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from freewheel.base import files
from freewheel.base.errors import CertificateError
from freewheel.build.check import VerifiedWheel
from freewheel.proof import control
from freewheel.proof.programs import Programs

SUFFIX = ".certificate.json"
SCHEMA_ID: Literal["urn:freewheel:certificate:1"] = "urn:freewheel:certificate:1"

Kind = Literal["quick", "full"]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )


class Patch(_Part):
    """One patch of the series, by the first line of its description."""

    name: str
    summary: str
    sha256: Digest


class Wheel(_Part):
    """The wheel that the certificate is about; ``release`` is upstream's version of it."""

    name: str
    project: str
    version: str
    release: str
    sha256: Digest
    size: Count
    source_sha256: Digest
    patches: list[Patch]


class Baseline(_Part):
    """The unpatched wheel that it was compared with; ``failed_checks`` as it was imported."""

    name: str
    sha256: Digest
    failed_checks: list[str]


class Machine(_Part):
    """Where the proof ran; ``memory`` is in MiB."""

    system: str
    kernel: str
    processor: str
    processors: Count
    memory: Count


class Python(_Part):
    """The interpreter; ``build`` is its ``sys.version``."""

    version: str
    build: str
    origin: str


class Tally(_Part):
    """Runs of one program on one wheel; ``seconds`` is the time of all of them together."""

    runs: Count
    failures: Count
    endings: dict[str, Count]
    seconds: float
    said: str


class Defect(_Part):
    """One defect: what happened without the patch, and what happens with it.

    ``chance`` is the probability that a patch which does nothing would have given the same runs;
    ``bound`` the upper bound, at 95 % confidence, on the rate at which the patched wheel may fail.
    ``verdict`` is "proven" where a patch mends the defect, "open" where none claims to.
    """

    id: str
    title: str
    use: Literal["supported", "misuse"]
    passes: str
    patches: list[str]
    probe_sha256: Digest
    baseline: Tally
    patched: Tally
    chance: Share
    bound: Share
    verdict: Literal["proven", "open"]


class Stress(_Part):
    """Supported use under load; ``work`` is how many seconds each run was told to work."""

    name: str
    title: str
    program_sha256: Digest
    work: float
    baseline: Tally
    patched: Tally


class Explained(_Part):
    """A test that fails, and why; ``reason`` "" where nobody knows yet."""

    test: str
    outcome: str
    reason: str


class Flaky(_Part):
    """A test that does not always end the same way: failures of runs on either wheel."""

    test: str
    baseline_failures: Count
    baseline_runs: Count
    patched_failures: Count
    patched_runs: Count


class Suite(_Part):
    """Upstream's own tests on both wheels: none fails on the patched wheel alone.

    ``baseline`` and ``patched`` are numbers of tests by outcome; ``threads`` says in how many each
    of ``in_parallel`` tests ran at once. ``outdated`` fail on the patched wheel alone because they
    expect a defect that it has no more; all others would stand in the way. ``skipped`` and
    ``left_out`` are numbers by reason.
    ``baseline_gil`` is the module that turned the GIL on with the baseline, "" if none did.
    """

    name: Literal["ordinary", "parallel"]
    threads: Count
    in_parallel: Count
    baseline: dict[str, Count]
    patched: dict[str, Count]
    baseline_gil: str
    newly_passing: list[str]
    failing_on_both: list[Explained]
    outdated: list[Explained]
    flaky: list[Flaky]
    skipped: dict[str, Count]
    left_out: dict[str, Count]


class Ratio(_Part):
    """A ratio of rates: its median and extremes over all rounds."""

    median: Positive
    lowest: Positive
    highest: Positive


class Figure(_Part):
    """A case of a benchmark, measured on both wheels in turn.

    ``one`` and ``several`` are the patched wheel's rate by the baseline's, in one thread and in
    ``workers`` threads; ``baseline_scaling`` and ``patched_scaling`` the rate of ``workers``
    threads by that of as many processes. ``rates`` are operations per second, medians over the
    rounds, by wheel and then by how the work was shared out. ``failed`` is how many measurements of
    the baseline failed, for it may die of what the patches mend, and were taken again.
    """

    program: str
    case: str
    title: str
    workers: Count
    rounds: Count
    one: Ratio
    several: Ratio
    baseline_scaling: Ratio
    patched_scaling: Ratio
    rates: dict[Literal["baseline", "patched"], dict[str, Positive]]
    failed: Count = 0


class SanitizedProgram(_Part):
    """One program under ThreadSanitizer."""

    name: str
    outcome: str
    seconds: float


class Sanitizer(_Part):
    """What ThreadSanitizer saw of the same source with the same patches.

    ``races`` are those in the project's own code, described; ``elsewhere`` is how many were seen in
    CPython itself. ``suppressed`` are numbers of reports that were kept out, by suppression.
    """

    python: str
    compiler: str
    programs: list[SanitizedProgram]
    races: list[str]
    elsewhere: Count
    suppressed: dict[str, Count]


class Certificate(_Part):
    """What a wheel was put through and survived.

    ``kind`` is "full", or "quick" for a shorter proof, with which nothing is published. ``gil``
    and ``baseline_gil`` say what the GIL is after everything in the wheel was imported.
    """

    form: Literal["urn:freewheel:certificate:1"] = Field(
        validation_alias="schema", serialization_alias="schema"
    )
    kind: Kind
    wheel: Wheel
    baseline: Baseline
    gil: Literal["off"]
    baseline_gil: Literal["off", "on"]
    python: Python
    machine: Machine
    started: AwareDatetime
    finished: AwareDatetime
    freewheel: str
    commit: str
    defects: list[Defect]
    stress: list[Stress]
    suites: list[Suite]
    sanitizer: Sanitizer | None
    figures: list[Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedWheel(VerifiedWheel):
    """A verified wheel whose full certificate lies beside it."""

    certified: datetime


def schema() -> dict[str, Any]:
    """The JSON Schema of a certificate (2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **Certificate.model_json_schema(by_alias=True),
    }


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
    """The defects whose verdict their own numbers do not bear out."""
    for defect in certificate.defects:
        if defect.verdict == "proven":
            chance = control.chance_of(defect.baseline, defect.patched)
            limit = control.QUICK_CHANCE if certificate.kind == "quick" else control.FULL_CHANCE
            if defect.patched.failures or not defect.baseline.failures or chance > limit:
                yield f"the runs of {defect.id} do not bear out that it is proven"


def _outdated(certificate: Certificate, programs: Programs) -> Iterator[str]:
    """The programs that are not any more, or not yet, what the certificate was made with."""
    used = {defect.id: defect.probe_sha256 for defect in certificate.defects}
    used |= {stress.name: stress.program_sha256 for stress in certificate.stress}
    release = certificate.wheel.release
    concerned = [probe for probe in programs.probes if release in probe.releases]
    for program in (*concerned, *programs.stress):
        if used.get(program.name) != files.sha256(program.path):
            yield f"it was made without {program.project}/{program.path.name} as that is now"
