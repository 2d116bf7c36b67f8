"""What a certificate's own numbers say: judged when one is issued, and wherever one is read.

A certificate may come from anywhere and be changed by anybody, so its verdicts count for nothing:
each follows from runs that it tells, and is made of them again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isclose

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from freewheel.base.names import wheel_name
from freewheel.build.patches import Patch
from freewheel.proof import control
from freewheel.proof.form import Certificate, Defect, Stress, Suite, Tally
from freewheel.proof.programs import Outcome, Programs
from freewheel.recipe.pythons import Python
from freewheel.recipe.recipe import Recipe, Release

_SKEW = timedelta(hours=24)  # that two clocks may differ by
_PASSED = "passed"  # the outcome of a test


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a checkout knows of a release; a certificate must say the same.

    ``source_sha256`` is that of the sdist, ``patches`` are the digests of the series by name,
    ``programs`` those of the programs. ``elsewhere`` are the defects that the interpreter does not
    have, by their probes. ``suite`` says whether upstream's suite is run.
    """

    source_sha256: str
    patches: Mapping[str, str]
    programs: Mapping[str, str]
    suite: bool
    elsewhere: Collection[str] = ()


def expected_of(
    recipe: Recipe, release: Release, series: Iterable[Patch], programs: Programs, python: Python
) -> Expected:
    """What a certificate of that release must say, by the checkout and for an interpreter."""
    concerned = [probe for probe in programs.probes if release.version in probe.releases]
    return Expected(
        source_sha256=release.sha256,
        patches={patch.name: patch.sha256 for patch in series},
        programs={p.name: p.sha256 for p in (*concerned, *programs.stress)},
        suite=recipe.suite is not None,
        elsewhere=[p.defect for p in concerned if not p.pythons.contains(python.version)],
    )


def problems(certificate: Certificate, expected: Expected | None = None) -> list[str]:
    """All reasons not to believe a certificate; without ``expected``, by itself alone."""
    return [
        *_about_the_wheel(certificate),
        *(problem for defect in certificate.defects for problem in _of_defect(certificate, defect)),
        *_of_the_series(certificate),
        *(problem for stress in certificate.stress for problem in _of_stress(stress)),
        *_of_suites(certificate, wanted=expected.suite if expected else True),
        *_of_the_sanitizer(certificate),
        *(_unexpected(certificate, expected) if expected else ()),
    ]


def _about_the_wheel(certificate: Certificate) -> Iterator[str]:
    wheel, baseline = certificate.wheel, certificate.baseline
    try:
        project, version, _, tags = parse_wheel_filename(wheel_name(wheel.name))
        other, base_version, _, base_tags = parse_wheel_filename(wheel_name(baseline.name))
    except ValueError as error:
        yield f"it does not name two wheels: {error}"
        return
    if (project, str(version)) != (wheel.project, wheel.version):
        yield f"it says {wheel.project} {wheel.version} of {wheel.name}"
    if version.public != wheel.release or not (version.local or "").startswith("ft."):
        yield f"{wheel.version} is no patched build of {wheel.release}"
    if other != wheel.project or base_version != Version(wheel.release):
        yield f"its baseline {baseline.name} is not {wheel.project} {wheel.release}"
    if baseline.sha256 == wheel.sha256:
        yield "its baseline is the wheel itself"
    pythons = {tag.interpreter for tag in tags}
    if pythons != {tag.interpreter for tag in base_tags}:
        yield f"its baseline {baseline.name} is for another interpreter"
    if certificate.started > certificate.finished:
        yield "it was finished before it was started"
    if certificate.finished > datetime.now(UTC) + _SKEW:
        yield f"it was finished on {certificate.finished:%Y-%m-%d}, which is to come"


def _of_tally(tally: Tally, whose: str) -> Iterator[str]:
    harmless = (str(Outcome.PASS), str(Outcome.NOT_RUN))
    failures = sum(count for ending, count in tally.endings.items() if ending not in harmless)
    counted = sum(tally.endings.values()) == tally.runs > 0 and failures == tally.failures
    # Of those that were made again, and of the others, no more failed than there were.
    first, failed_first = tally.runs - tally.again, tally.failures - tally.failures_again
    if not counted or tally.failures_again > tally.again or failed_first > first or first < 0:
        yield f"the runs of {whose} do not add up"


def _of_defect(certificate: Certificate, defect: Defect) -> Iterator[str]:
    """The verdict must be what the runs say, and its figures what they come to."""
    yield from _of_tally(defect.baseline, f"{defect.id} on the baseline")
    yield from _of_tally(defect.patched, f"{defect.id} on the wheel")
    verdicts = ("proven", "moot", "not run") if defect.patches else ("open", "moot", "not run")
    if defect.verdict not in verdicts:
        yield f"{defect.id} is called {defect.verdict}, and its patches are {defect.patches}"
    absent = defect.verdict in ("moot", "not run")
    chance = 1.0 if absent else control.chance_of(defect.baseline, defect.patched)
    bound = control.bound_of(defect.baseline if absent else defect.patched)
    limit = control.QUICK_CHANCE if certificate.kind == "quick" else control.FULL_CHANCE
    not_run = bool(defect.baseline.not_run or defect.patched.not_run)
    stood = control.stood(defect.patched, control.PROBES_AGAIN)
    borne_out = {
        "proven": stood and defect.baseline.failures and chance <= limit and not not_run,
        "moot": stood and not defect.baseline.failures and not not_run,
        "not run": not_run,
        "open": True,
    }
    if not borne_out[defect.verdict]:
        yield f"the runs of {defect.id} do not bear out that it is {defect.verdict}"
    told, due = (defect.chance, defect.bound), (chance, bound)
    if not all(isclose(a, b, rel_tol=1e-6, abs_tol=1e-12) for a, b in zip(told, due, strict=True)):
        yield f"the chance or the bound of {defect.id} does not follow from its runs"


def _of_the_series(certificate: Certificate) -> Iterator[str]:
    """Each patch is proven by a defect, and each defect names patches that the wheel has."""
    series = [patch.name for patch in certificate.wheel.patches]
    named = {name for defect in certificate.defects for name in defect.patches}
    ids = [defect.id for defect in certificate.defects]
    for name in sorted(set(series) - named):
        yield f"no defect in it proves {name}"
    for name in sorted(named - set(series)):
        yield f"the wheel does not have the patch {name}"
    if len(set(series)) != len(series) or len(set(ids)) != len(ids):
        yield "it has a patch or a defect twice"


def _of_stress(stress: Stress) -> Iterator[str]:
    yield from _of_tally(stress.baseline, f"{stress.name} on the baseline")
    yield from _of_tally(stress.patched, f"{stress.name} on the wheel")
    stood = control.stood(stress.patched, control.STRESS_AGAIN)
    if not stood or stress.patched.not_run or stress.work <= 0:
        yield f"the runs of {stress.name} do not bear out that the wheel stood it"


def _of_suites(certificate: Certificate, *, wanted: bool) -> Iterator[str]:
    if certificate.kind == "full" and wanted and not certificate.suites:
        yield "it has no results of upstream's suite"
    for suite in certificate.suites:
        yield from _of_suite(suite)


def _of_suite(suite: Suite) -> Iterator[str]:
    if not suite.patched.get(_PASSED):
        yield f"no test of the {suite.name} suite passed on the wheel"


def _of_the_sanitizer(certificate: Certificate) -> Iterator[str]:
    found = certificate.sanitizer
    if found is None:
        return
    if found.races:
        yield f"ThreadSanitizer saw {len(found.races)} races in the project's code"


def _unexpected(certificate: Certificate, expected: Expected) -> Iterator[str]:
    """In what it differs from what the checkout has."""
    if certificate.wheel.source_sha256 != expected.source_sha256:
        yield "it is about another sdist than the recipe's"
    series = {patch.name: patch.sha256 for patch in certificate.wheel.patches}
    for name in sorted(series.keys() | expected.patches.keys()):
        if series.get(name) != expected.patches.get(name):
            yield f"it was made without {name} as that is now"
    for defect in certificate.defects:
        if defect.verdict in ("moot", "not run") and defect.id not in expected.elsewhere:
            yield f"{defect.id} is called {defect.verdict}, but its probe is for this interpreter"
    used = {defect.id: defect.probe_sha256 for defect in certificate.defects}
    used |= {stress.name: stress.program_sha256 for stress in certificate.stress}
    for name, digest in sorted(expected.programs.items()):
        if used.get(name) != digest:
            yield f"it was made without {name} as that is now"
