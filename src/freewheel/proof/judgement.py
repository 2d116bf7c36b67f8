"""What the last proof of a wheel found, defect by defect: kept for the report, certificate or not.

Nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel, ConfigDict, TypeAdapter

from freewheel.base.workspace import Workspace
from freewheel.proof import control
from freewheel.proof.form import Kind, Tally
from freewheel.proof.programs import Probe
from freewheel.proof.result_cache import ResultCache, Subject


class JudgedDefect(BaseModel):
    """The verdict on one defect, with the runs that it follows from.

    ``blocks`` says that the wheel has no certificate because of it. The tallies are None where the
    probe was not run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    verdict: str
    explanation: str
    blocks: bool
    baseline: Tally | None = None
    patched: Tally | None = None


class Judgement(BaseModel):
    """The end of a proof; ``others`` are the problems that no single defect has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    finished: datetime
    defects: tuple[JudgedDefect, ...]
    others: tuple[str, ...]

    @property
    def blocked(self) -> bool:
        """Whether the wheel got no certificate."""
        return bool(self.others) or any(defect.blocks for defect in self.defects)


_JUDGEMENT = TypeAdapter(Judgement)


def judged(findings: Iterable[tuple[Probe, control.Finding]]) -> tuple[JudgedDefect, ...]:
    """The findings of a proof, as they are kept."""
    return tuple(
        JudgedDefect(
            id=probe.defect,
            title=probe.title,
            verdict=str(found.verdict),
            explanation=found.explanation,
            blocks=found.is_problem,
            baseline=found.baseline,
            patched=found.patched,
        )
        for probe, found in findings
    )


def keep(workspace: Workspace, sha256: str, judgement: Judgement) -> None:
    """Keep what the proof of the wheel with that digest found, in place of an earlier one."""
    ResultCache(workspace.proof).write(_subject(sha256), _JUDGEMENT, judgement)


def recall(workspace: Workspace, sha256: str) -> Judgement | None:
    """What the last proof of the wheel with that digest found; None if nothing is kept."""
    return ResultCache(workspace.proof).read(_subject(sha256), _JUDGEMENT)


def _subject(sha256: str) -> Subject:
    return Subject(kind="judgement", facts={"wheel": sha256})
