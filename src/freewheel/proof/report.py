"""Stage *report*: a page made from the certificates, for the person who decides and for checkers.

It is one HTML file without scripts and without anything from elsewhere, so that it can be sent
around. What it says of a wheel is in its certificate, or in what its last proof found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from statistics import median

from jinja2 import Environment, PackageLoader, StrictUndefined
from packaging.version import Version

from freewheel.base import files
from freewheel.base.redaction import without_places
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo
from freewheel.build.patches import read_series
from freewheel.proof import certificate, form, judgement
from freewheel.proof.judgement import JudgedDefect
from freewheel.proof.programs import load_programs
from freewheel.recipe.recipe import Recipe, Release

_TEMPLATE = "report.html.jinja"
_WIDEST = 1.5  # times the time without patches: the whole width of a plot


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertified:
    """A wheel without a certificate that holds: the reasons, and what is known of each defect."""

    name: str
    project: str
    version: str
    reasons: tuple[str, ...]
    defects: tuple[JudgedDefect, ...] = ()

    @property
    def abi(self) -> str:
        """The tag of the ABI that the wheel is for, such as ``cp314t``."""
        return self.name.split("-")[-2]


def write(workspace: Workspace, recipes: Iterable[Recipe]) -> Path:
    """Make ``wheels/report/index.html`` from the certificates beside the wheels in ``wheels/``.

    It speaks of what the recipes build, and not of the revisions before.
    """
    built = {
        (recipe.name, release.local_version): (recipe, release)
        for recipe in recipes
        for release in recipe.releases
    }
    certificates: list[form.Certificate] = []
    uncertified: list[Uncertified] = []
    for record in buildinfo.read_records(workspace.wheels):
        recipe, release = built.get((record.project, record.version), (None, None))
        if recipe is None or release is None:
            continue
        found, wrong = certificate.beside(record.wheel)
        if found:
            certificates.append(found)
            continue
        reasons, defects = _why(workspace, recipe, release, record)
        uncertified.append(
            Uncertified(
                name=record.wheel.name,
                project=record.project,
                version=record.version,
                reasons=(*(f"its certificate does not hold: {one}" for one in wrong), *reasons),
                defects=defects,
            )
        )
    uncertified += [
        Uncertified(
            name=record.wheel.name,
            project=record.project,
            version=record.version,
            reasons=(f"unproven: {record.details.get('unproven', 'it fills the gap of a lock')}",),
        )
        for record in buildinfo.read_records(workspace.filled)
    ]
    page = workspace.report / "index.html"
    # What a crash printed may name directories of this machine.
    files.write_text(page, without_places(render(certificates, uncertified)))
    return page


def _why(
    workspace: Workspace, recipe: Recipe, release: Release, record: buildinfo.Record
) -> tuple[tuple[str, ...], tuple[JudgedDefect, ...]]:
    """Why a wheel has no certificate, and what is known of each defect that its patches fix."""
    found = judgement.recall(workspace, record.sha256)
    if found and found.blocked:
        when = f"the {found.kind} proof of {found.finished:%Y-%m-%d} ended without a certificate"
        return (when, *found.others), found.defects
    target = record.inputs.get("target", "")
    reason = recipe.targets.why_unproven(target, release.version)
    if reason:
        first = f"the proof does not run on {target}: {reason}"
    elif found:
        first = f"the {found.kind} proof of {found.finished:%Y-%m-%d} succeeded; repeat it"
    else:
        first = "no proof of it has ended on this machine yet"
    again = f"to prove it: nox -s prove-{recipe.name} -- --release {release.version}"
    return (first, again), tuple(_untested(workspace, release))


def _untested(workspace: Workspace, release: Release) -> Iterator[JudgedDefect]:
    claimed = {code for patch in read_series(release) for code in patch.defects}
    for probe in load_programs(workspace.probes, release.project).probes:
        if probe.defect in claimed:
            yield JudgedDefect(
                id=probe.defect,
                title=probe.title,
                verdict="not tested",
                explanation="",
                blocks=True,
            )


def render(certificates: Sequence[form.Certificate], uncertified: Sequence[Uncertified]) -> str:
    """The page's text; projects by name, of each the newest release first."""
    environment = Environment(
        loader=PackageLoader("freewheel.proof", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "chance": chance, "figure": figure}
    environment.globals |= {"failed_runs": failed_runs, "times": times}
    ordered = sorted(certificates, key=lambda one: Version(one.wheel.release), reverse=True)
    ordered.sort(key=lambda one: one.wheel.project)
    return environment.get_template(_TEMPLATE).render(
        certificates=ordered,
        mark=1 / _WIDEST,
        uncertified=uncertified,
        style=(resources("freewheel.proof") / "report.css").read_text("utf-8"),
    )


# -------------------------------------------------------------------------------- what is plotted


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A line of a small plot: ``share`` of its width is filled, and ``text`` says how much."""

    name: str
    share: float
    text: str


def failed_runs(one: form.Certificate) -> list[Bar]:
    """How many of all runs of the probes failed, without the patches and with them."""
    proven = [defect for defect in one.defects if defect.verdict == "proven"]

    def bar(name: str, tallies: Sequence[form.Tally]) -> Bar:
        runs, failures = sum(t.runs for t in tallies), sum(t.failures for t in tallies)
        share = failures / runs if runs else 0.0
        return Bar(name=name, share=share, text=f"{failures:,} of {runs:,} runs fail")

    return [
        bar("without", [defect.baseline for defect in proven]),
        bar("with", [defect.patched for defect in proven]),
    ]


def times(one: form.Certificate) -> list[Bar]:
    """The time of a call, as a multiple of that without patches: median and extremes of all cases.

    There is a line for calls in one thread and one for several threads, and none without figures.
    """
    if not one.figures:
        return []
    workers = max(figure.workers for figure in one.figures)
    of_one = [1 / figure.one.median for figure in one.figures]
    of_several = [1 / figure.several.median for figure in one.figures]
    return [
        Bar(
            name=name,
            share=min(1.0, median(ratios) / _WIDEST),
            text=f"{figure(median(ratios))} ({figure(min(ratios))} to {figure(max(ratios))})",
        )
        for name, ratios in (("1 thread", of_one), (f"{workers} threads", of_several))
    ]


def percent(share: float) -> str:
    """A share as a person reads it: two digits that count."""
    return f"{share * 100:.2g} %" if share < 1 else "100 %"


def figure(value: float) -> str:
    """A ratio or a rate with three digits that count, and its thousands apart."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def chance(value: float) -> str:
    """A small probability in words: ``1 in 5 million``."""
    if value >= 1:
        return "certain"
    odds = 1 / value
    for size, name in ((1e12, "million million"), (1e9, "thousand million"), (1e6, "million")):
        if odds >= size:
            return f"1 in {odds / size:.3g} {name}"
    return f"1 in {odds:,.0f}"
