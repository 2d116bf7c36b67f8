"""What ThreadSanitizer must not report: CPython's own list, and ours with its reasons."""

from __future__ import annotations

import re
from pathlib import Path

from freewheel.base import files
from freewheel.base.errors import ProofError

_ENTRY = re.compile(r"^(?:race|race_top|thread|mutex|signal|deadlock|called_from_lib):\S.*$")
_WORDS = 4  # in a reason; fewer are no sentence


def read_suppressions(path: Path) -> tuple[str, ...]:
    """The entries of a file of ours. Raises ProofError for one without a reason right above it."""
    entries: list[str] = []
    problems: list[str] = []
    reason: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if text.startswith("#"):
            reason.append(text.lstrip("# "))
            continue
        if text and not _ENTRY.match(text):
            problems.append(f"line {number}: {text}: not a suppression")
        elif text and len(" ".join(reason).split()) < _WORDS:
            problems.append(f"line {number}: {text}: has no reason in a comment right above it")
        elif text:
            entries.append(text)
        reason = []
    if problems:
        raise ProofError(
            f"{path.name} is not right",
            problems=problems,
            hint="docs/tsan.md says how a suppression is added",
        )
    return tuple(entries)


def merge_suppressions(theirs: Path, ours: Path, target: Path) -> None:
    """Write a file with CPython's suppressions and ours, which must have their reasons."""
    entries = read_suppressions(ours)
    files.write_text(target, theirs.read_text(encoding="utf-8") + "\n".join(["", *entries, ""]))
