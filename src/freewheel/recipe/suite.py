"""Stage *load*: what a recipe says of the test suite in upstream's sdist, and how it is run."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Literal

from packaging.specifiers import SpecifierSet
from pydantic import BaseModel, Field, StringConstraints

from freewheel.recipe.tables import STRICT, ImportName, Specifiers, TreePath

# The programs for a suite that starts servers of its own; or a server that runs already.
Need = Literal["postgresql-programs", "postgresql-server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Tests of which something is known, such as why they fail, in the releases that are named.

    ``message`` is a pattern that a failure's message must fit.
    """

    tests: tuple[str, ...]
    reason: str
    message: str = "*"
    releases: SpecifierSet = field(default_factory=SpecifierSet)

    def matches(self, test: str) -> bool:
        """Whether one of ``tests``, patterns as for file names, fits the identifier of a test."""
        return any(fnmatch.fnmatchcase(test, pattern) for pattern in self.tests)

    def fits(self, message: str) -> bool:
        return fnmatch.fnmatchcase(message, self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One way to run a suite: each test once, or each in several ``threads`` at the same time.

    ``tests`` are patterns of the tests that are run; ``skip`` are taken away from them, each with
    the reason. ``failing`` tells why tests fail, with patches and without; ``expects_defect`` which
    ones fail with the patches alone, since they expect what these fix. pytest-run-parallel runs a
    test in one thread where its source does what may be unsafe in several; ``thread_safe_because``
    says why this suite's tests are safe all the same, "" where they are not. ``warm_up`` names a
    function that each thread calls before any of them sets a test case up, "" for none.
    """

    threads: int
    thread_safe_because: str
    warm_up: str
    tests: tuple[str, ...]
    needs: tuple[Need, ...]
    environment: Mapping[str, str]
    skip: tuple[Known, ...]
    failing: tuple[Known, ...]
    expects_defect: tuple[Known, ...]

    def of_release(self, version: str) -> Pass:
        """The same, with only what concerns that release."""

        def concerning(all_of_them: tuple[Known, ...]) -> tuple[Known, ...]:
            return tuple(known for known in all_of_them if version in known.releases)

        return dataclasses.replace(
            self,
            skip=concerning(self.skip),
            failing=concerning(self.failing),
            expects_defect=concerning(self.expects_defect),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Upstream's own tests: the directory ``tests`` of the sdist.

    It is copied out, so that nothing but the installed wheel can be imported; or, where it is a
    ``package`` of the wheel itself, run from there. ``seconds`` is the longest that one test may
    take before it counts as hanging. An ``unprivileged`` suite is not run as root. ``parallel`` is
    None where no part of it allows that.
    """

    tests: PurePosixPath
    package: str
    unprivileged: bool
    seconds: float
    ordinary: Pass
    parallel: Pass | None


# ------------------------------------------------------------------------- the shape of the tables

Reason = Annotated[str, StringConstraints(min_length=10, max_length=160, pattern=r"^[^\n]+$")]
Pattern = Annotated[str, StringConstraints(min_length=1, pattern=r"^\S+$")]
Patterns = Annotated[list[Pattern], Field(min_length=1)]
DottedName = Annotated[str, StringConstraints(pattern=r"^\w+(\.\w+)+$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]


class _Table(BaseModel):
    model_config = STRICT


class KnownTable(_Table):
    """Why tests are left out, or fail."""

    tests: Patterns
    reason: Reason
    releases: Specifiers = ""


class OutdatedTable(KnownTable):
    """Why tests fail that expect a defect, and with which words."""

    message: Annotated[str, StringConstraints(min_length=10, pattern=r"^[^\n]+$")]


class ParallelTable(_Table):
    """The part of a suite that runs again in several threads."""

    threads: Annotated[int, Field(ge=2)]
    thread_safe_because: Reason | None = None
    warm_up: DottedName | None = None
    tests: Patterns
    needs: list[Need] = []
    environment: dict[Variable, str] = {}
    skip: list[KnownTable] = []
    failing: list[KnownTable] = []
    expects_defect: list[OutdatedTable] = []


class SuiteTable(_Table):
    """``[suite]`` of a recipe."""

    tests: TreePath
    package: ImportName | None = None
    needs: list[Need] = []
    unprivileged: bool = False
    seconds: Annotated[float, Field(gt=0, strict=False)]
    environment: dict[Variable, str] = {}
    skip: list[KnownTable] = []
    failing: list[KnownTable] = []
    expects_defect: list[OutdatedTable] = []
    parallel: ParallelTable | None = None


def to_suite(table: SuiteTable) -> Suite:
    """The tables as what the proof works with."""
    return Suite(
        tests=PurePosixPath(table.tests),
        package=table.package or "",
        unprivileged=table.unprivileged,
        seconds=table.seconds,
        ordinary=Pass(
            threads=1,
            thread_safe_because="",
            warm_up="",
            tests=("*",),
            needs=tuple(table.needs),
            environment=table.environment,
            skip=_to_known(table.skip),
            failing=_to_known(table.failing),
            expects_defect=_to_known(table.expects_defect),
        ),
        parallel=_to_parallel(table, table.parallel) if table.parallel else None,
    )


def _to_parallel(table: SuiteTable, parallel: ParallelTable) -> Pass:
    """What is left out once, and the environment, hold here too."""
    return Pass(
        threads=parallel.threads,
        thread_safe_because=parallel.thread_safe_because or "",
        warm_up=parallel.warm_up or "",
        tests=tuple(parallel.tests),
        needs=tuple(parallel.needs),
        environment={**table.environment, **parallel.environment},
        skip=_to_known([*table.skip, *parallel.skip]),
        failing=_to_known(parallel.failing),
        expects_defect=_to_known(parallel.expects_defect),
    )


def _to_known(tables: Sequence[KnownTable]) -> tuple[Known, ...]:
    return tuple(
        Known(
            tests=tuple(table.tests),
            reason=table.reason,
            message=table.message if isinstance(table, OutdatedTable) else "*",
            releases=SpecifierSet(table.releases),
        )
        for table in tables
    )
