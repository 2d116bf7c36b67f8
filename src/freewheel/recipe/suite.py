"""Stage *load*: what a recipe says of the test suite in upstream's sdist, and how it is run."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from freewheel.recipe.tables import (
    EVERY,
    ImportName,
    Many,
    Message,
    ProjectName,
    Reason,
    Some,
    Specifiers,
    Table,
    TreePath,
    Variable,
    Word,
)

# The programs for a suite that starts servers of its own; or a server that runs already.
Need = Literal["postgresql-programs", "postgresql-server"]
DottedName = Annotated[str, StringConstraints(pattern=r"^\w+(\.\w+)+$")]


class Known(Table):
    """Tests of which something is known, such as why they fail, in the releases that are named.

    ``requires_python`` names the CPython with which it is so. ``message`` is a pattern that a
    failure's message must fit.
    """

    tests: Some[Word]
    reason: Reason
    releases: Specifiers = EVERY
    requires_python: Specifiers = EVERY
    message: Message = "*"

    def matches(self, test: str) -> bool:
        """Whether one of ``tests``, patterns as for file names, fits the identifier of a test."""
        return any(fnmatch.fnmatchcase(test, pattern) for pattern in self.tests)

    def fits(self, message: str) -> bool:
        """Whether a failure with that message is the one that is known."""
        return fnmatch.fnmatchcase(message, self.message)


class Expecting(Known):
    """Tests that expect a defect, and so fail without it, with these words."""

    message: Message


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

    def concerning(self, release: str, python: str) -> Pass:
        """The same, with only what concerns that release with that CPython, such as 3.14."""

        def concerning(all_of_them: tuple[Known, ...]) -> tuple[Known, ...]:
            return tuple(
                known
                for known in all_of_them
                if release in known.releases and python in known.requires_python
            )

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
    ``package`` of the wheel itself, run from there. ``requires`` are projects that the tests
    import. ``link`` is where, beside them, they look for what is installed, and ``files`` are
    what else of the sdist they read there. ``seconds`` is the longest that one test may take before
    it counts as hanging. An ``unprivileged`` suite is not run as root. ``parallel`` is None where
    no part of it allows that.
    """

    tests: PurePosixPath
    package: str
    unprivileged: bool
    seconds: float
    ordinary: Pass
    parallel: Pass | None
    requires: tuple[str, ...] = ()
    link: str = ""
    files: tuple[str, ...] = ()


# ------------------------------------------------------------------------- the shape of the tables


class Parallel(Table):
    """The part of a suite that runs again in several threads."""

    threads: Annotated[int, Field(ge=2)]
    thread_safe_because: Reason = ""
    warm_up: DottedName = ""
    tests: Some[Word]
    needs: Many[Need] = ()
    environment: dict[Variable, str] = Field(default_factory=dict)
    skip: Many[Known] = ()
    failing: Many[Known] = ()
    expects_defect: Many[Expecting] = ()


class SuiteTable(Table):
    """``[suite]`` of a recipe."""

    tests: TreePath
    package: ImportName = ""
    link: ImportName = ""
    files: Many[TreePath] = ()
    requires: Many[ProjectName] = ()
    needs: Many[Need] = ()
    unprivileged: bool = False
    seconds: Annotated[float, Field(gt=0, strict=False)]
    environment: dict[Variable, str] = Field(default_factory=dict)
    skip: Many[Known] = ()
    failing: Many[Known] = ()
    expects_defect: Many[Expecting] = ()
    parallel: Parallel | None = None


def to_suite(table: SuiteTable) -> Suite:
    """The tables as what the proof works with."""
    return Suite(
        tests=PurePosixPath(table.tests),
        package=table.package,
        requires=table.requires,
        link=table.link,
        files=table.files,
        unprivileged=table.unprivileged,
        seconds=table.seconds,
        ordinary=Pass(
            threads=1,
            thread_safe_because="",
            warm_up="",
            tests=("*",),
            needs=table.needs,
            environment=table.environment,
            skip=table.skip,
            failing=table.failing,
            expects_defect=table.expects_defect,
        ),
        parallel=_to_parallel(table, table.parallel) if table.parallel else None,
    )


def _to_parallel(table: SuiteTable, parallel: Parallel) -> Pass:
    """What is left out once, and the environment, hold here too."""
    return Pass(
        threads=parallel.threads,
        thread_safe_because=parallel.thread_safe_because,
        warm_up=parallel.warm_up,
        tests=parallel.tests,
        needs=parallel.needs,
        environment={**table.environment, **parallel.environment},
        skip=(*table.skip, *parallel.skip),
        failing=parallel.failing,
        expects_defect=parallel.expects_defect,
    )
