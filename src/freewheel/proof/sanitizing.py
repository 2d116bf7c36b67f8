"""Whether a release has data races: looked for with ThreadSanitizer, kept for its certificate."""

from __future__ import annotations

from collections.abc import Sequence

from freewheel import files
from freewheel.console import Board
from freewheel.patches import Patch, read_series
from freewheel.proof.kept import Kept, Subject
from freewheel.proof.programs import Programs, load_programs
from freewheel.proof.sanitizer import SUPPRESSIONS, SanitizerResult, sanitize
from freewheel.recipe import Recipe, Release
from freewheel.workspace import Workspace


def look_for_races(
    workspace: Workspace,
    recipe: Recipe,
    release: Release,
    board: Board,
    *,
    baseline: bool,
    seconds: float | None,
) -> SanitizerResult:
    """Run a release's programs under ThreadSanitizer; kept for the certificate if it is patched.

    ``seconds`` is how long stress programs work, None for as long as they call quick.
    """
    programs = load_programs(workspace.probes, recipe.name)
    with files.locked(workspace.locks / "proof.lock", what="a proof"):
        found = sanitize(
            workspace,
            recipe,
            release,
            programs,
            board,
            baseline=baseline,
            stress_seconds=seconds,
        )
    if not baseline:
        about = subject(release, read_series(release), programs)
        Kept(workspace.proof).write(about, found.to_json())
    return found


def known_races(
    workspace: Workspace, release: Release, series: Sequence[Patch], programs: Programs
) -> SanitizerResult | None:
    """What was found of the same source, patches and programs; None if nobody has looked yet."""
    kept = Kept(workspace.proof).read(subject(release, series, programs))
    return SanitizerResult.from_json(kept) if kept else None


def subject(release: Release, series: Sequence[Patch], programs: Programs) -> Subject:
    """What the result depends on, but for the compiler and the interpreter."""
    return Subject(
        kind=f"{release.project}-tsan",
        facts={
            "source": release.sha256,
            "suppressions": files.sha256(SUPPRESSIONS),
            **{f"patch {patch.name}": patch.sha256 for patch in series},
            **{p.name: files.sha256(p.path) for p in (*programs.probes, *programs.stress)},
        },
    )
