"""Stage *report*: a page made from the certificates, for who decides and for who checks.

It is one HTML file without scripts and without anything from elsewhere, so that it can be sent
around. It says nothing that is not in a certificate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from packaging.version import Version

from freewheel.base import files
from freewheel.base.errors import CertificateError
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo
from freewheel.proof import certificate, form
from freewheel.recipe.recipe import Recipe, versions_of

_TEMPLATE = "report.html.jinja"
_NO_CERTIFICATE = "it was not put to the proof, or did not stand it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertified:
    """A wheel that the report cannot speak for, and why."""

    name: str
    reason: str


def write(workspace: Workspace, recipes: Iterable[Recipe]) -> Path:
    """Make ``wheels/report/index.html`` from the certificates beside the wheels in ``wheels/``.

    It speaks of what the recipes build, and not of the revisions before.
    """
    built = versions_of(recipes)
    certificates: list[form.Certificate] = []
    uncertified: list[Uncertified] = []
    for record in buildinfo.read_records(workspace.wheels):
        if (record.project, record.version) not in built:
            continue
        path = certificate.path_of(record.wheel)
        if not path.exists():
            uncertified.append(Uncertified(name=record.wheel.name, reason=_NO_CERTIFICATE))
            continue
        try:
            found = certificate.read(path)
            problems = certificate.problems_of(record.wheel, found)
        except (CertificateError, OSError) as error:
            problems = [str(error).splitlines()[0]]
        if problems:
            uncertified.append(Uncertified(name=record.wheel.name, reason="; ".join(problems)))
        else:
            certificates.append(found)
    page = workspace.report / "index.html"
    files.write_text(page, render(certificates, uncertified))
    return page


def render(certificates: Sequence[form.Certificate], uncertified: Sequence[Uncertified]) -> str:
    """The page's text; projects by name, of each the newest release first."""
    environment = Environment(
        loader=PackageLoader("freewheel.proof", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["chance"] = chance
    environment.filters["figure"] = figure
    ordered = sorted(certificates, key=lambda one: Version(one.wheel.release), reverse=True)
    ordered.sort(key=lambda one: one.wheel.project)
    return environment.get_template(_TEMPLATE).render(
        certificates=ordered,
        uncertified=uncertified,
        style=(resources("freewheel.proof") / "report.css").read_text("utf-8"),
    )


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
