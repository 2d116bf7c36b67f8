"""What a proof tests: a release with its two wheels, and no patch without a probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.version import Version

from freewheel.base.errors import ProbeError
from freewheel.base.workspace import Workspace
from freewheel.build.check import BaselineWheel, KnownWheel
from freewheel.build.job import Job, titled
from freewheel.build.patches import Patch, read_series
from freewheel.machine.interpreter import Interpreter
from freewheel.proof.programs import Probe, Programs, load_programs
from freewheel.proof.running import Environment, make_environment
from freewheel.recipe.pythons import Python, python_of
from freewheel.recipe.recipe import Recipe, Release

WheelName = Literal["baseline", "patched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A release to be proven on a target: its two wheels and what there is to run."""

    recipe: Recipe
    release: Release
    target: str
    patched: KnownWheel
    baseline: BaselineWheel
    programs: Programs
    series: tuple[Patch, ...]

    @property
    def title(self) -> str:
        return titled(self.recipe.name, self.patched.version, self.python)

    @property
    def slug(self) -> str:
        return f"{self.recipe.name}-{self.patched.version}-{self.python}"

    @property
    def python(self) -> Python:
        return python_of(self.target)

    @property
    def job(self) -> Job:
        """The job that the patched wheel came of."""
        return Job(recipe=self.recipe, release=self.release, baseline=False, target=self.target)

    def patches_for(self, defect: str) -> list[str]:
        """The names of the patches that claim to fix a defect."""
        return [patch.name for patch in self.series if defect in patch.defects]

    def expects(self, probe: Probe) -> bool:
        """Whether a probe's defect exists with this interpreter, by what the probe says."""
        return probe.pythons.contains(self.python.version)

    @property
    def probes(self) -> tuple[Probe, ...]:
        """The probes that concern this release, patched or not."""
        return tuple(p for p in self.programs.probes if Version(self.release.version) in p.releases)


def load_case(
    workspace: Workspace, job: Job, wheels: Sequence[KnownWheel | BaselineWheel | None]
) -> Case:
    """The case of a job, given the two wheels in any order."""
    (patched,) = (wheel for wheel in wheels if isinstance(wheel, KnownWheel))
    (baseline,) = (wheel for wheel in wheels if isinstance(wheel, BaselineWheel))
    return Case(
        recipe=job.recipe,
        release=job.release,
        target=job.target,
        patched=patched,
        baseline=baseline,
        programs=load_programs(workspace.probes, job.recipe.name),
        series=read_series(job.release),
    )


def check_probes(workspace: Workspace, chosen: Sequence[tuple[Recipe, Release]]) -> None:
    """No patch without a probe: before anything is built. Raises ProbeError with every gap."""
    problems: list[str] = []
    for recipe, release in chosen:
        programs = load_programs(workspace.probes, recipe.name)
        for patch in read_series(release):
            for defect in patch.defects:
                probe = programs.probe(defect)
                where = f"{recipe.name} {release.version}: {patch.name}"
                if probe is None:
                    problems.append(f"{where} fixes {defect}, for which there is no probe")
                elif Version(release.version) not in probe.releases:
                    problems.append(
                        f"{where} fixes {defect}, which by its probe only {probe.releases} have"
                    )
    if problems:
        raise ProbeError(
            "no patch without a probe that fails without it",
            problems=problems,
            hint="write probes/<project>/<defect>.py; docs/probes.md explains how",
        )


def environments_of(
    case: Case, scratch: Path, interpreter: Interpreter
) -> dict[WheelName, Environment]:
    """A fresh environment for each wheel of the case, by "baseline" and "patched"."""
    return {
        "baseline": make_environment(scratch / "baseline", case.baseline.path, interpreter),
        "patched": make_environment(scratch / "patched", case.patched.path, interpreter),
    }
