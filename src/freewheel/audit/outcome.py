"""What an audit found: the form in which it is written down and compared with an earlier one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from freewheel.audit.verdicts import Finding, Verdict
from freewheel.base.errors import AuditError

SCHEMA_ID: Literal["urn:freewheel:audit:1"] = "urn:freewheel:audit:1"
FAILING = (Verdict.NO_WHEEL, Verdict.GIL)


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )


class Input(_Part):
    """One thing that was audited; ``notes`` are what its reader must know."""

    path: str
    form: str
    distributions: int
    notes: list[str]


class CrashedDistribution(_Part):
    """A distribution that a crash dump names.

    ``assumed`` says how its version was found where no lock names it. ``known`` says that a lock
    has it. ``defects`` are those that end like the dump.
    """

    name: str
    version: str
    assumed: str
    modules: list[str]
    on_stack: bool
    known: bool
    defects: list[str]


class Crash(_Part):
    """What a crash dump says, and what follows from it.

    ``deepest`` are frames in extension modules. ``modules`` is how many extension modules it
    names, ``total`` how many it counts itself; it is ``complete`` where these agree.
    """

    path: str
    signal: str
    wording: str
    python: str
    platform: str
    deepest: list[str]
    modules: int
    total: int | None
    complete: bool
    distributions: list[CrashedDistribution]
    install: list[str]
    advice: str


class Audit(_Part):
    """What was found about all distributions, the worst first.

    ``target`` is a build identifier. ``summary`` counts by verdict. ``notes`` say what kept the
    audit from looking everywhere. ``crashes`` are what crash dumps among the inputs say.
    """

    form: Literal["urn:freewheel:audit:1"] = Field(
        default=SCHEMA_ID, validation_alias="schema", serialization_alias="schema"
    )
    target: str
    inputs: list[Input]
    summary: dict[Verdict, int]
    findings: list[Finding]
    notes: list[str] = []
    crashes: list[Crash] = []

    def of(self, verdict: Verdict) -> list[Finding]:
        """The findings with that verdict."""
        return [finding for finding in self.findings if finding.verdict is verdict]


def make(
    target: str,
    inputs: Sequence[Input],
    findings: Iterable[Finding],
    *,
    notes: Sequence[str] = (),
    crashes: Sequence[Crash] = (),
) -> Audit:
    """An audit of these findings, in order."""
    ordered = sorted(findings, key=lambda f: (f.verdict.badness, not f.smoke, f.name, f.version))
    return Audit(
        target=target,
        inputs=list(inputs),
        summary={v: sum(f.verdict is v for f in ordered) for v in Verdict},
        findings=ordered,
        notes=list(notes),
        crashes=list(crashes),
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of an audit (2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **Audit.model_json_schema(by_alias=True, mode="serialization"),
    }


def to_json(audit: Audit) -> str:
    """The audit as JSON that ``schema`` describes."""
    return json.dumps(audit.model_dump(mode="json", by_alias=True), indent=1)


def read(path: Path) -> Audit:
    """An audit that was written with ``--json``. Raises AuditError."""
    try:
        return Audit.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise AuditError(
            f"{path} is no audit that `--json` wrote: {why}",
            hint="write it: `freewheel audit PATH --json > audit.json`",
        ) from error


def failing(audit: Audit, threshold: Verdict | None, earlier: Audit | None) -> tuple[Finding, ...]:
    """The findings for which the audit fails: by default, no wheel, and the GIL turned on.

    With a ``threshold``, that verdict and all that are worse. What ``earlier`` has with the same
    verdict, or a worse one, is not new and does not count.
    """
    failing_verdicts: tuple[Verdict, ...] = FAILING
    if threshold is not None:
        failing_verdicts = tuple(v for v in Verdict if v.badness <= threshold.badness)
    findings = earlier.findings if earlier else []
    known = {finding.name: finding.verdict.badness for finding in reversed(findings)}
    return tuple(
        finding
        for finding in audit.findings
        if finding.verdict in failing_verdicts
        and finding.verdict.badness < known.get(finding.name, len(Verdict))
    )
