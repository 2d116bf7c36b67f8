"""Stage *verify*: coded checks on a finished wheel; what passes all of them leaves quarantine.

The static checks read the archive; the dynamic ones install it into a fresh environment and import
it, in a container wherever it was built in one. All failures are gathered.
VerifiedWheel is made here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass, replace
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from freewheel.base import decoding, files
from freewheel.base.errors import CommandFailed, VerifyError
from freewheel.build.static_checks import (
    CHECKS,
    Expected,
    Failure,
    extension_modules,
    static_failures,
)
from freewheel.build.wheel import Wheel
from freewheel.build.workshop import Workshop
from freewheel.recipe.recipe import Recipe


class _Report(BaseModel):
    """What importing.py says."""

    failures: dict[str, str]
    gil_turned_on_by: str | None
    module_version: str | None
    metadata_version: str


_REPORT = TypeAdapter(_Report)


_SEAL = object()  # only this module has it, so only its functions make these wheels


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownWheel:
    """A wheel whose bytes somebody answers for, identified by its digest; ``size`` is in bytes.

    There are only its kinds: a wheel that passed the checks here (VerifiedWheel), one that a record
    vouches for (RecordedWheel), and one that was proven. ``seal`` keeps others from making one,
    also by ``dataclasses.replace``.
    """

    path: Path
    project: str
    version: str
    sha256: str
    size: int
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL or type(self) is KnownWheel:
            raise TypeError(f"a {type(self).__name__} is made by its checks alone")


class VerifiedWheel(KnownWheel):
    """A wheel that passed every check, in this process."""

    __slots__ = ()

    def moved_to(self, path: Path) -> VerifiedWheel:
        """The wheel at another path, where its bytes must lie. Raises VerifyError."""
        if files.sha256(path) != self.sha256:
            raise VerifyError(
                f"{path} is not the wheel that was verified", hint="run the same command again"
            )
        return VerifiedWheel(
            path=path,
            project=self.project,
            version=self.version,
            sha256=self.sha256,
            size=self.size,
            seal=_SEAL,
        )


class RecordedWheel(KnownWheel):
    """A wheel with the bytes that its record names; the record vouches for the checks."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineWheel:
    """An unpatched wheel, built for comparison; it is not verified, and nothing publishes it.

    Its archive is sound. ``failures`` are the checks that it failed when it was imported, which
    may be the very defects that the patches mend.
    """

    path: Path
    project: str
    version: str
    sha256: str
    size: int
    failures: tuple[str, ...]

    def moved_to(self, path: Path) -> BaselineWheel:
        """The wheel at another path, where its bytes lie."""
        return replace(self, path=path)


def check_wheel(wheel: Wheel, recipe: Recipe, *, place: Workshop, scratch: Path) -> VerifiedWheel:
    """Run all checks; raises VerifyError that lists every failure with its code.

    ``place`` is where the wheel is imported. ``scratch`` is an empty directory for the environment
    that it is installed into.
    """
    failures = _static(wheel, recipe)
    failures += dynamic_failures(wheel, recipe, place, scratch)
    if failures:
        raise _refusal(wheel, failures)
    return _verified(wheel.path, recipe.name, wheel.version)


def check_baseline(
    wheel: Wheel, recipe: Recipe, *, place: Workshop, scratch: Path
) -> BaselineWheel:
    """Run the same checks on a baseline; only a fault of the archive raises VerifyError."""
    failures = _static(wheel, recipe)
    if failures:
        raise _refusal(wheel, failures)
    return BaselineWheel(
        path=wheel.path,
        project=recipe.name,
        version=wheel.version,
        sha256=files.sha256(wheel.path),
        size=wheel.path.stat().st_size,
        failures=tuple(map(str, dynamic_failures(wheel, recipe, place, scratch))),
    )


def _static(wheel: Wheel, recipe: Recipe) -> list[Failure]:
    expected = Expected(
        project=recipe.name,
        version=wheel.version,
        target=wheel.target,
        import_name=recipe.import_name,
        pure=recipe.build.pure,
        grafts=recipe.build.graft_names,
    )
    return list(static_failures(wheel.path, expected))


def _refusal(wheel: Wheel, failures: Sequence[Failure]) -> VerifyError:
    return VerifyError(
        f"{wheel.path.name} failed {len({failure.code for failure in failures})} "
        f"of {len(CHECKS)} checks",
        problems=[str(failure) for failure in failures],
        hint=f"the wheel stays in quarantine at {wheel.path}; mend the cause, not the check",
    )


def recall(path: Path, *, project: str, version: str, sha256: str) -> RecordedWheel | None:
    """A wheel that a record vouches for, if its bytes are still those; None if they are not."""
    if not path.is_file() or files.sha256(path) != sha256:
        return None
    size = path.stat().st_size
    names = {"project": project, "version": version, "sha256": sha256}
    return RecordedWheel(path=path, **names, size=size, seal=_SEAL)


def recall_baseline(
    path: Path, *, project: str, version: str, sha256: str, failures: Sequence[str]
) -> BaselineWheel | None:
    """A baseline that an earlier run made, if its bytes are still those; None if they are not."""
    if not path.is_file() or files.sha256(path) != sha256:
        return None
    return BaselineWheel(
        path=path,
        project=project,
        version=version,
        sha256=sha256,
        size=path.stat().st_size,
        failures=tuple(failures),
    )


def _verified(path: Path, project: str, version: str) -> VerifiedWheel:
    return VerifiedWheel(
        path=path,
        project=project,
        version=version,
        sha256=files.sha256(path),
        size=path.stat().st_size,
        seal=_SEAL,
    )


# ------------------------------------------------------------------------------ dynamic checks


def dynamic_failures(
    wheel: Wheel, recipe: Recipe, place: Workshop, scratch: Path
) -> Iterator[Failure]:
    """Install the wheel into a fresh environment and import all of it."""
    words = [recipe.name, recipe.import_name, *extension_modules(wheel.path)]
    try:
        done = place.import_wheel(wheel.path, words, scratch)
    except CommandFailed as error:
        yield Failure(code="FW201", detail=error.output.strip() or str(error))
        return
    if done.returncode != 0:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        yield Failure(code="FW202", detail=f"importing ended with {ended}: {done.stderr[-2000:]}")
        return
    try:
        report = decoding.checked(_REPORT, decoding.from_json(done.stdout, "the report"), "it")
    except decoding.DecodeError as error:
        yield Failure(code="FW202", detail=f"importing told nothing: {error.summary}")
        return
    for module, problem in report.failures.items():
        yield Failure(code="FW202", detail=f"{module}: {problem}")
    if report.gil_turned_on_by:
        yield Failure(code="FW203", detail=f"{report.gil_turned_on_by} turned it on")
    # Not every package has a __version__; where there is one, it must be right.
    if report.module_version not in recipe.build.module_versions(
        wheel.release.version, wheel.version
    ):
        yield Failure(code="FW204", detail=f"__version__ is {report.module_version}")
    if report.metadata_version != wheel.version:
        yield Failure(code="FW204", detail=f"installed as {report.metadata_version}")
