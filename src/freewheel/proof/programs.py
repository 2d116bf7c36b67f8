"""Stage *load* of the proof: the programs in ``probes/`` and what each says of itself.

A program declares itself in a comment block of inline script metadata (the PyPA specification,
first PEP 723), in a table of its own below ``[tool.freewheel]``. So a probe is a bug report that
anybody can run as it is: ``uv run probes/greenlet/G1.py`` has the release with the defect.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.specifiers import SpecifierSet
from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from freewheel.base import files
from freewheel.base.errors import ProbeError
from freewheel.recipe.tables import Many, Sentence, Some, Specifiers, Table, describe, read


class Outcome(StrEnum):
    """How one run of a program ended. Exit codes and signals decide, never what it printed."""

    PASS = "pass"  # noqa: S105  not a password
    EXCEPTION = "exception"
    WRONG = "wrong answer"
    LEAK = "leak"
    HANG = "hang"
    CRASH = "crash"
    UNCLEAR = "unclear"  # no verdict: run it again
    NOT_RUN = "not run"


# What a program exits with. 1 is Python's own code for an exception that nobody caught, 77 that of
# Automake's tests for "skipped", 75 that of sysexits.h for "try again". Any other code means that
# the program is not what it should be, and counts as not run.
NOT_RUN = 77
EXIT_CODES = {
    0: Outcome.PASS,
    1: Outcome.EXCEPTION,
    3: Outcome.WRONG,
    4: Outcome.LEAK,
    5: Outcome.HANG,
    75: Outcome.UNCLEAR,
    NOT_RUN: Outcome.NOT_RUN,
}

LOAD = Path(__file__).with_name("load.py")
_MAIN = 'if __name__ == "__main__":'
Use = Literal["supported", "misuse"]
Need = Literal["postgresql"]

# The regular expression of the specification of inline script metadata.
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is common to probes and stress programs.

    ``seconds`` is the longest that one run may take before it counts as hanging, ``memory`` the
    most address space it may have, in MiB (0: no limit). ``exclusive`` says that it needs the
    processors for itself.
    """

    path: Path
    project: str
    title: str
    use: Use
    needs: tuple[Need, ...]
    seconds: float
    memory: int
    exclusive: bool

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def sha256(self) -> str:
        """The digest of the program, and of whatever else decides what it does."""
        return files.sha256(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Program):
    """A program that shows one defect: it fails on the baseline wheel and passes on the patched.

    ``releases`` are those that have the defect, with the CPython that is in ``pythons``, which the
    program's own ``requires-python`` says (all, where it says nothing). ``fails_by`` are the
    outcomes by which a build with the defect gives itself away; any other failure says that
    something else is wrong.
    ``baseline_runs`` and ``patched_runs`` are how often a full proof runs it on each.
    """

    defect: str
    releases: SpecifierSet
    pythons: SpecifierSet
    passes: str
    fails_by: tuple[Outcome, ...]
    baseline_runs: int
    patched_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stress(Program):
    """A longer program that does what applications do, and checks every answer.

    It works for ``quick_seconds`` or ``full_seconds``; ``seconds`` is what it may take on top of
    that before it counts as hanging.
    """

    quick_seconds: float
    full_seconds: float

    @property
    def driven(self) -> bool:
        """Whether load.py puts its KINDS to work; one with a main part does so itself."""
        text = self.path.read_text(encoding="utf-8")
        return "\nKINDS = " in text and _MAIN not in text

    @property
    def sha256(self) -> str:
        if not self.driven:
            return files.sha256(self.path)
        both = files.sha256(self.path) + files.sha256(LOAD)
        return hashlib.sha256(both.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark(Program):
    """A program whose functions can be measured; ``cases`` says what each does, by its name.

    ``seconds`` is what one measurement may take on top of the time that it measures.
    """

    cases: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """All programs of a project, by name."""

    probes: tuple[Probe, ...]
    stress: tuple[Stress, ...]
    benchmarks: tuple[Benchmark, ...] = ()

    def probe(self, defect: str) -> Probe | None:
        """The probe of that defect, if there is one."""
        return next((probe for probe in self.probes if probe.defect == defect), None)


# ------------------------------------------------------------------------- the shape of the table


def _failure(value: str) -> str:
    failures = [
        str(o) for o in Outcome if o not in (Outcome.PASS, Outcome.UNCLEAR, Outcome.NOT_RUN)
    ]
    if value not in failures:
        raise ValueError(f"must be one of {', '.join(failures)}")
    return value


Failure = Annotated[str, AfterValidator(_failure)]
_CaseName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _ProgramTable(Table):
    title: Sentence
    use: Use
    needs: Many[Need] = ()
    seconds: Seconds
    memory: Annotated[int, Field(ge=0)] = 4096
    exclusive: bool = False


class _Runs(Table):
    baseline: Annotated[int, Field(ge=1)]
    patched: Annotated[int, Field(ge=1)]


class _ProbeTable(_ProgramTable):
    defect: Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,3}[0-9]+[A-Z]?$")]
    releases: Specifiers
    pythons: Specifiers  # from above the table
    passes: Sentence
    fails_by: Some[Failure]
    runs: _Runs


class _Work(Table):
    quick: Seconds
    full: Seconds


class _StressTable(_ProgramTable):
    work: _Work


class _BenchmarkTable(_ProgramTable):
    cases: Annotated[dict[_CaseName, Sentence], Field(min_length=1)]


_TABLES: Mapping[str, type[_ProbeTable | _StressTable | _BenchmarkTable]] = {
    "probe": _ProbeTable,
    "stress": _StressTable,
    "benchmark": _BenchmarkTable,
}


# ------------------------------------------------------------------------------------- loading


def load_programs(directory: Path, project: str) -> Programs:
    """The programs in ``directory/<project>/``; none where there is no such directory.

    Raises ProbeError with the problems of all files.
    """
    programs: list[Probe | Stress | Benchmark] = []
    problems: list[str] = []
    for path in sorted((directory / project).glob("*.py")):
        try:
            programs.append(_load(path, project))
        except ProbeError as error:
            problems += error.problems
    if problems:
        raise _invalid(problems)
    return Programs(
        probes=tuple(program for program in programs if isinstance(program, Probe)),
        stress=tuple(program for program in programs if isinstance(program, Stress)),
        benchmarks=tuple(program for program in programs if isinstance(program, Benchmark)),
    )


def _load(path: Path, project: str) -> Probe | Stress | Benchmark:
    where = f"{project}/{path.name}"
    blocks = [m for m in _BLOCK.finditer(path.read_text(encoding="utf-8")) if m["type"] == "script"]
    if len(blocks) != 1:
        raise _invalid([f"{where}: {len(blocks)} blocks `# /// script`; there must be one"])
    text = "".join(
        line[2:] if line.startswith("# ") else line[1:]
        for line in blocks[0]["content"].splitlines(keepends=True)
    )
    try:
        declared: object = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _invalid([f"{where}: its declaration is not valid TOML: {error}"]) from error
    pythons = declared.get("requires-python", "") if isinstance(declared, dict) else ""
    for name in ("tool", "freewheel"):
        declared = declared.get(name) if isinstance(declared, dict) else None
    if not isinstance(declared, dict) or len(declared.keys() & _TABLES.keys()) != 1:
        kinds = ", ".join(f"[tool.freewheel.{kind}]" for kind in _TABLES)
        raise _invalid([f"{where}: needs one of {kinds}, and no other"])
    (kind,) = declared.keys() & _TABLES.keys()
    try:
        raw = declared[kind]
        if kind == "probe" and isinstance(raw, dict):
            raw = {**raw, "pythons": pythons}
        table = read(_TABLES[kind], raw)
    except ValidationError as error:
        raise _invalid(
            [f"{where}: {problem}" for problem in describe(error, _TABLES[kind])]
        ) from error
    match table:
        case _ProbeTable():
            return _to_probe(path, project, table)
        case _StressTable():
            return _to_stress(path, project, table)
        case _:
            return Benchmark(**_common(path, project, table), cases=table.cases)


def _common(path: Path, project: str, table: _ProgramTable) -> dict[str, Any]:
    """What every program has: where it is, and the keys that the tables of all kinds share."""
    declared = {name: getattr(table, name) for name in _ProgramTable.model_fields}
    return {"path": path, "project": project, **declared}


def _to_probe(path: Path, project: str, table: _ProbeTable) -> Probe:
    if path.stem != table.defect:
        raise _invalid([f"{project}/{path.name}: is about {table.defect}, so call it by that name"])
    return Probe(
        **_common(path, project, table),
        defect=table.defect,
        releases=table.releases,
        pythons=table.pythons,
        passes=table.passes,
        fails_by=tuple(map(Outcome, table.fails_by)),
        baseline_runs=table.runs.baseline,
        patched_runs=table.runs.patched,
    )


def _to_stress(path: Path, project: str, table: _StressTable) -> Stress:
    return Stress(
        **_common(path, project, table),
        quick_seconds=table.work.quick,
        full_seconds=table.work.full,
    )


def _invalid(problems: Sequence[str]) -> ProbeError:
    return ProbeError(
        "the programs in probes/ are not valid",
        problems=problems,
        hint="docs/probes.md explains the declaration, key by key",
    )
