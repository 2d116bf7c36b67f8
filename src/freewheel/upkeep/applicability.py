"""How the patches of a release fit the sources of another: which hunk does not, and which is in."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from freewheel.base import git
from freewheel.build.patches import Patch

_OFFSET = re.compile(r"Hunk #(\d+) succeeded at (\d+) \(offset (-?\d+) lines?\)")
_GONE = re.compile(r"^error: (?P<file>\S+): No such file or directory$", re.MULTILINE)
_VERDICT = re.compile(
    r"^(?:Applying patch (?P<file>\S+) with \d+ rejects?|Rejected hunk #(?P<hunk>\d+))",
    re.MULTILINE,
)


class State(StrEnum):
    """How one patch fits."""

    APPLIES = "applies"
    MOVED = "applies, at other lines"
    UPSTREAM = "is in the release already"
    CONFLICTS = "does not apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a patch fits a tree; ``hunks`` are those that moved or do not apply, with their file."""

    patch: str
    summary: str
    defects: tuple[str, ...]
    state: State
    hunks: tuple[str, ...]


def fit_series(tree: Path, series: Sequence[Patch]) -> list[Fit]:
    """How each patch fits, after those before it that do; ``tree`` is changed by those."""
    return [_fit(tree, patch) for patch in series]


def _fit(tree: Path, patch: Patch) -> Fit:
    checked = git.run_outside(tree, ["apply", "--check", "--verbose", patch.path])
    hunks: tuple[str, ...] = ()
    if checked.returncode == 0:
        moved = _OFFSET.findall(checked.stderr)
        hunks = tuple(f"hunk {n} at line {at}, {by} lines away" for n, at, by in moved)
        state = State.MOVED if moved else State.APPLIES
        git.run_outside(tree, ["apply", patch.path])
    elif git.run_outside(tree, ["apply", "--check", "--reverse", patch.path]).returncode == 0:
        state = State.UPSTREAM
    else:
        state = State.CONFLICTS
        hunks = _rejected(tree, patch)
    return Fit(
        patch=patch.name, summary=patch.summary, defects=patch.defects, state=state, hunks=hunks
    )


def _rejected(tree: Path, patch: Patch) -> tuple[str, ...]:
    """The hunks that do not apply, found on a copy: git applies the others while it looks."""
    with tempfile.TemporaryDirectory(prefix="freewheel-") as directory:
        copy = Path(directory) / "tree"
        shutil.copytree(tree, copy, symlinks=True)
        said = git.run_outside(copy, ["apply", "--reject", "--verbose", patch.path]).stderr
    found = [f"{match['file']}: is not there any more" for match in _GONE.finditer(said)]
    file = ""
    for match in _VERDICT.finditer(said):
        file = match["file"] or file
        if match["hunk"]:
            found.append(f"{file}: hunk {match['hunk']}")
    return tuple(found)
