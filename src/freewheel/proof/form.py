"""The form of a certificate, and of its parts: each is filled in by whoever finds it out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from freewheel.proof.programs import Outcome

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
        from_attributes=True,
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

    @property
    def abi(self) -> str:
        """The tag of the ABI that the wheel is for, such as ``cp314t``."""
        return self.name.split("-")[-2]


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
    """The interpreter; ``build`` is its ``sys.version``, ``note`` what else has to be known."""

    version: str
    build: str
    origin: str
    note: str = ""


class Tally(_Part):
    """Runs of one program on one wheel; ``seconds`` is the time of all of them together.

    ``again`` of them were made alone because others had failed; where none of these failed, and
    they are enough to exclude the rate of the others, the program is flaky. ``load`` is the highest
    number of threads for each processor of the machine under which a run was made, and ``stacks``
    are those of all threads in the first run that hung.
    """

    runs: Count
    failures: Count
    endings: dict[str, Count]
    seconds: float
    said: str
    again: Count = 0
    failures_again: Count = 0
    load: Annotated[float, Field(ge=0)] = 0.0
    stacks: str = ""

    @property
    def not_run(self) -> int:
        """How many could not run, because a condition of the program did not hold."""
        return self.endings.get(Outcome.NOT_RUN, 0)


class Defect(_Part):
    """One defect: what happened without the patch, and what happens with it.

    ``chance`` is the probability that a patch which does nothing would have given the same runs;
    ``bound`` the upper bound, at 95 % confidence, on the rate at which the patched wheel may fail.
    ``verdict`` is "proven" where a patch fixes the defect, "open" where none claims to, "moot"
    where the interpreter does not have it: the baseline passes, and ``bound`` is the baseline's;
    "not run" where the probe is not for this interpreter, and cannot run.
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
    verdict: Literal["proven", "moot", "not run", "open"]


class Stress(_Part):
    """Supported use under load; ``work`` is for how many seconds each run had to work."""

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
    expect a defect that it no longer has; all others would block the certificate. ``skipped`` and
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
    the baseline failed, for it may die of what the patches fix, and were repeated.
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


def schema() -> dict[str, Any]:
    """The JSON Schema of a certificate (2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **Certificate.model_json_schema(by_alias=True),
    }
