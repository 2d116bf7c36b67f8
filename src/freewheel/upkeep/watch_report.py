"""What the watch saw, for people (Markdown) and for programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from freewheel.base import files
from freewheel.upkeep.applicability import Fit
from freewheel.upkeep.watch import Newer, Watched

REPORT = "report.md"
DATA = "report.json"


def write(directory: Path, watched: Sequence[Watched]) -> None:
    """Write both forms into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    data = {
        "noteworthy": any(one.noteworthy for one in watched),
        "projects": [one.to_json() for one in watched],
    }
    files.write_text(directory / DATA, json.dumps(data, indent=1) + "\n")
    files.write_text(directory / REPORT, markdown(watched))


def markdown(watched: Sequence[Watched]) -> str:
    """The report as people read it."""
    lines = ["| project | carried | newest | upstream's wheels |", "|---|---|---|---|"]
    for one in watched:
        missing = [target for target, has in one.served.items() if not has]
        wheels = f"none for {', '.join(missing)}" if missing else "for every target"
        state = "up to date" if one.newer is None else one.newest
        lines.append(f"| {one.project} | {one.carried} | {state} | {wheels} |")
    for one in watched:
        if one.newer:
            lines += ["", *_newer(one, one.newer)]
    return "\n".join(lines) + "\n"


def _newer(one: Watched, newer: Newer) -> Iterator[str]:
    yield f"## {one.project} {newer.version}, released {newer.released}"
    if len(one.since) > 1:
        yield ""
        yield f"Released since {one.carried}: {', '.join(one.since)}."
    if newer.patches:
        yield ""
        yield f"| patch of {one.carried} | fixes | on {newer.version} | can be dropped |"
        yield "|---|---|---|---|"
        for fit in newer.patches:
            dropped = "yes" if fit.patch in newer.droppable else "no"
            yield f"| {fit.patch} | {', '.join(fit.defects)} | {_fitted(fit)} | {dropped} |"
    if newer.evidence:
        yield ""
        yield f"| defect, unpatched | on | {one.carried} | {newer.version} | by chance | so |"
        yield "|---|---|---|---|---|---|"
        for evidence in newer.evidence:
            why = f": {_cell(evidence.explanation)}" if evidence.explanation else ""
            yield (
                f"| {evidence.defect} {_cell(evidence.title)} | {evidence.python} "
                f"| {_counted(evidence.carried)} | {_counted(evidence.newer)} "
                f"| {evidence.chance:.1e} | {evidence.verdict}{why} |"
            )
    if newer.trouble:
        yield ""
        yield f"Not everything could be looked at: {newer.trouble}"
    yield ""
    yield _advice(one, newer)


def _advice(one: Watched, newer: Newer) -> str:
    if one.retire:
        return f"{one.retire[0].upper()}{one.retire[1:]}."
    return f"Carry it over: `nox -s refresh-{one.project} -- {newer.version}`."


def _fitted(fit: Fit) -> str:
    return f"{fit.state}: {_cell('; '.join(fit.hunks))}" if fit.hunks else str(fit.state)


def _counted(endings: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in endings.items())


def _cell(text: str) -> str:
    """Text that cannot end the cell of a table, or begin another line."""
    return " ".join(text.replace("|", "\\|").split())
