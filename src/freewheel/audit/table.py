"""The audit as a person reads it in a terminal, and on the page of a workflow's run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from freewheel.audit.outcome import Audit, Crash
from freewheel.audit.verdicts import MEANING, Finding, KnownDefect, Verdict
from freewheel.base import console

_LISTED = 6  # defects that are listed with their titles; the others by identifier


def show(audit: Audit, failing: Sequence[Finding], *, everything: bool = False) -> None:
    """Print the findings, grouped by verdict, the worst first, and a line that sums them up."""
    for crash in audit.crashes:
        for line in _crash(crash):
            console.say(line)
    for verdict in Verdict:
        findings = audit.of(verdict)
        if not findings:
            continue
        console.say()
        console.say(f"{verdict.value} ({len(findings)}): {MEANING[verdict]}")
        if verdict is Verdict.PURE and not everything:
            console.say("  (--all lists them)")
            continue
        for finding in findings:
            for line in _lines(finding):
                console.say(line)
    console.say()
    _show_end(audit, failing)


def _show_end(audit: Audit, failing: Sequence[Finding]) -> None:
    """The notes, the sums, and what to install."""
    for given in audit.inputs:
        for note in given.notes:
            console.note(f"{given.path}: {note}")
    for note in audit.notes:
        console.warn(note)
    console.say(summary(audit))
    if installs := [finding.install for finding in audit.findings if finding.install]:
        console.say(f"From our index: {' '.join(dict.fromkeys(installs))}")
    for crash in audit.crashes:
        console.say()
        console.say(f"{crash.path}: {crash.advice}")
    if failing:
        console.say(f"Fails for: {', '.join(f'{f.name} ({f.verdict.value})' for f in failing)}")


def _crash(crash: Crash) -> Iterator[str]:
    """What a dump says, before what is known of the distributions in it."""
    where = " on ".join(filter(None, (crash.python and f"Python {crash.python}", crash.platform)))
    yield f"{crash.path}: {crash.wording or 'no signal named'} ({crash.signal or '?'}), {where}"
    count = f"{crash.modules} extension modules of {len(crash.distributions)} distributions"
    cut = "" if crash.complete else "; the list was cut off, there may be more"
    yield f"  {count}{cut}"
    for frame in crash.deepest:
        yield f"  in {frame}"
    for one in crash.distributions:
        stack = ", on the stack" if one.on_stack else ""
        like = f": {', '.join(one.defects)} end like this" if one.defects else ""
        yield f"  {one.name} {one.version or '?'}{stack}{like}"


def summary(audit: Audit) -> str:
    """The counts in one line."""
    counts = [f"{count} {verdict.value}" for verdict, count in audit.summary.items() if count]
    total = sum(audit.summary.values())
    return f"{audit.target}: {total} distributions: {', '.join(counts) or 'nothing'}"


def _lines(finding: Finding) -> Iterator[str]:
    development = "  (development)" if finding.development else ""
    counts = _counts(finding)
    yield f"  {finding.name} {finding.version}{counts}{development}"
    if finding.culprits:
        yield f"      turned on by {_some(finding.culprits)}"
    for line in _defects(finding.defects):
        yield f"      {line}"
    for line in finding.evidence:
        yield f"      {line}"
    if finding.advice:
        yield f"      -> {finding.advice}"


def _counts(finding: Finding) -> str:
    modules = finding.modules
    if not modules.own and not modules.apart:
        return ""
    own = f"{modules.own_imported} of {modules.own} modules imported"
    if not modules.apart:
        return f"  {own}"
    return f"  {own}, and {modules.apart_imported} of {modules.apart} of tests and plugins"


def _defects(defects: Sequence[KnownDefect]) -> Iterator[str]:
    for defect in defects[:_LISTED]:
        misuse = " (misuse)" if defect.use == "misuse" else ""
        fixed = f"; fixed in {defect.fixed_in}" if defect.fixed_in else "; not fixed yet"
        yield f"{defect.id}: {defect.title}{misuse}{fixed}"
    if rest := defects[_LISTED:]:
        yield f"and {', '.join(defect.id for defect in rest)}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def markdown(audit: Audit, failing: Sequence[Finding]) -> str:
    """The summary of a step in a workflow: what is wrong, and what to do."""
    lines = [f"### Audit for {audit.target}", "", summary(audit), ""]
    shown = [f for f in audit.findings if f.verdict.badness < Verdict.UNPROVEN.badness]
    if shown:
        lines += ["| distribution | verdict | what to do |", "|---|---|---|"]
        for finding in shown:
            failed = "**" if finding in failing else ""
            name = f"{failed}{finding.name} {finding.version}{failed}"
            advice = finding.advice.replace("|", "\\|")
            lines.append(f"| {name} | {finding.verdict.value} | {advice} |")
    lines += ["", *(f"- {crash.path}: {crash.advice}" for crash in audit.crashes)]
    lines += [f"- {note}" for note in audit.notes]
    return "\n".join(lines).rstrip() + "\n\n"
