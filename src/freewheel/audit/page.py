"""The audit as a page: one HTML file without scripts and without anything from elsewhere."""

from __future__ import annotations

from importlib.resources import files as resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from freewheel.audit import table
from freewheel.audit.outcome import Audit
from freewheel.audit.verdicts import MEANING, Verdict

_TEMPLATE = "audit.html.jinja"


def render(audit: Audit) -> str:
    """The page's text."""
    environment = Environment(
        loader=PackageLoader("freewheel.audit", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        audit=audit,
        verdicts=list(Verdict),
        meaning=MEANING,
        summary=table.summary(audit),
        installs=list(dict.fromkeys(f.install for f in audit.findings if f.install)),
        style=(resources("freewheel.proof") / "report.css").read_text("utf-8"),
    )
