"""The watch: what upstream has released since, and what that means for the patches.

For a newer release, its unpatched build is put to our probes beside the unpatched build of the
release that the recipe carries. It stands where a patched wheel would stand in a proof: if the old
build fails and the new one never does, upstream has fixed the defect, and chance is excluded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from packaging.version import Version

from freewheel.base import files
from freewheel.base.console import Board
from freewheel.base.errors import FreewheelError
from freewheel.base.workspace import Workspace
from freewheel.build import patches, pipeline, source
from freewheel.build.job import Job
from freewheel.build.wheel import host_target
from freewheel.machine.interpreter import find_interpreter
from freewheel.proof import control
from freewheel.proof.programs import Probe, load_programs
from freewheel.proof.running import Environment, Run, make_environment, run_program
from freewheel.proof.services import running_services, services_of
from freewheel.recipe.pythons import PYTHONS, Python
from freewheel.recipe.recipe import Recipe, Release
from freewheel.recipe.targets import own_target
from freewheel.upkeep.applicability import Fit, State, fit_series
from freewheel.upkeep.upstream import Offer, offers


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One defect: how its probe ended on the carried release and on the newer one, both unpatched.

    ``python`` is the tag of the interpreter. ``verdict`` is "gone" where the newer release has it
    no more, and chance is excluded.
    """

    defect: str
    python: str
    title: str
    carried: dict[str, int]
    newer: dict[str, int]
    chance: float
    verdict: str
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Newer:
    """A release that the recipe does not carry yet. ``trouble`` says why there is no evidence."""

    version: str
    released: str
    patches: tuple[Fit, ...]
    evidence: tuple[Evidence, ...]
    droppable: tuple[str, ...]
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What was seen of one project.

    ``served`` says of each target of the recipe whether upstream's newest release has a wheel for
    it. ``newer`` is None where the recipe carries the newest release.
    """

    project: str
    carried: str
    newest: str
    since: tuple[str, ...]
    served: dict[str, bool]
    newer: Newer | None
    retire: str

    @property
    def noteworthy(self) -> bool:
        """Whether somebody has to do something about it."""
        return self.newer is not None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "noteworthy": self.noteworthy}


def watch(workspace: Workspace, recipes: Sequence[Recipe], board: Board) -> list[Watched]:
    """Look at each recipe's project on the index. Raises UpstreamError where one is not there."""
    return [_watch(workspace, recipe, board) for recipe in recipes]


def _watch(workspace: Workspace, recipe: Recipe, board: Board) -> Watched:
    carried = recipe.default_release
    with board.stage(recipe.name, "index"):
        found = offers(recipe.name)
    since = [offer for offer in found if Version(offer.version) > Version(carried.version)]
    newest = found[0]
    newer = None
    if since:
        try:
            newer = _newer(workspace, recipe, since[0], board)
        except FreewheelError as error:
            newer = Newer(
                version=since[0].version,
                released=_day(since[0].released),
                patches=(),
                evidence=(),
                droppable=(),
                trouble="; ".join([error.summary, *error.problems]),
            )
    served = {target: newest.serves(target) for target in recipe.targets.served}
    return Watched(
        project=recipe.name,
        carried=carried.version,
        newest=newest.version,
        since=tuple(offer.version for offer in since),
        served=served,
        newer=newer,
        retire=_retirement(newer, served),
    )


def _retirement(newer: Newer | None, served: dict[str, bool]) -> str:
    """What can be done with the recipe when no patch is left; "" where some are."""
    if newer is None or newer.trouble or {f.patch for f in newer.patches} - {*newer.droppable}:
        return ""
    missing = [target for target, has in served.items() if not has]
    if missing:
        return f"no patch is left, but upstream has no wheel for {', '.join(missing)}"
    return "no patch is left, and upstream has a wheel for every target: the recipe can be retired"


def _day(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}" if moment else "at a time that the index hides"


# -------------------------------------------------------------------------------- a newer release


def _newer(workspace: Workspace, recipe: Recipe, offer: Offer, board: Board) -> Newer:
    release = offer.as_release()
    scratch = files.empty_directory(workspace.work / f"watch-{recipe.name}-{release.version}")
    with board.stage(recipe.name, f"patches on {release.version}"):
        archive = source.fetch(release, workspace.sources)
        tree = source.unpack(archive, files.empty_directory(scratch / "tree"))
        fits = fit_series(tree, patches.read_series(recipe.default_release))
    trouble, evidence = "", []
    try:
        evidence = _evidence(workspace, recipe, release, scratch, board)
    except FreewheelError as error:
        trouble = "; ".join([error.summary, *error.problems])
    gone = {one.defect for one in evidence}  # on every interpreter that has it
    gone -= {one.defect for one in evidence if one.verdict != "gone"}
    return Newer(
        version=release.version,
        released=_day(offer.released),
        patches=tuple(fits),
        evidence=tuple(evidence),
        droppable=tuple(
            fit.patch for fit in fits if fit.state is State.UPSTREAM or gone.issuperset(fit.defects)
        ),
        trouble=trouble,
    )


def _evidence(
    workspace: Workspace, recipe: Recipe, release: Release, scratch: Path, board: Board
) -> list[Evidence]:
    """Our probes on the unpatched builds of both releases, for each interpreter of the recipe."""
    served = recipe.targets.of_release(recipe.default_release.version)
    return [
        one
        for python in PYTHONS
        if own_target(python) in served
        for one in _evidence_on(workspace, recipe, release, board, python=python, scratch=scratch)
    ]


def _evidence_on(
    workspace: Workspace,
    recipe: Recipe,
    release: Release,
    board: Board,
    *,
    python: Python,
    scratch: Path,
) -> list[Evidence]:
    carried = recipe.default_release
    # Wheels of their own: none of this will be proven or published. Kept for the next night.
    apart = replace(workspace, root=workspace.cache / "watch")
    both = replace(recipe, releases=(release, carried))
    jobs = [
        Job(recipe=both, release=one, baseline=True, target=host_target(recipe, carried, python))
        for one in (carried, release)
    ]
    built = pipeline.build(apart, jobs, board)
    for outcome in built:
        if outcome.error:
            raise outcome.error
    interpreter = find_interpreter(workspace, python)
    environments = [
        make_environment(scratch / f"{name}-{python}", outcome.wheel.path, interpreter)
        for name, outcome in zip(("carried", "newer"), built, strict=True)
        if outcome.wheel
    ]
    claimed = {d for patch in patches.read_series(carried) for d in patch.defects}
    probes = [
        probe
        for probe in load_programs(workspace.probes, recipe.name).probes
        if probe.defect in claimed and probe.pythons.contains(python.version)
    ]
    with board.stage(recipe.name, f"probes on {release.version}, {python}"):
        return _probe(probes, python, environments, scratch)


def _probe(
    probes: Sequence[Probe], python: Python, environments: Sequence[Environment], scratch: Path
) -> list[Evidence]:
    """What the probes show: side by side where they may be."""
    numbered = dict(enumerate(environments))
    with running_services(probes, numbered, scratch) as (placed, services):
        work = partial(
            _compare,
            python=python,
            environments=tuple(placed.values()),
            scratch=scratch,
            services=services,
        )
        together = [probe for probe in probes if not probe.exclusive]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            found = dict(zip(together, pool.map(work, together), strict=True))
        found |= {probe: work(probe) for probe in probes if probe.exclusive}
    return [found[probe] for probe in probes]


def _compare(
    probe: Probe,
    *,
    python: Python,
    environments: Sequence[Environment],
    scratch: Path,
    services: dict[str, str],
) -> Evidence:
    carried, newer = environments

    def run(environment: Environment) -> Run:
        given = services_of(probe, services)
        return run_program(probe, environment, scratch, services=given)

    on_carried, on_newer = control.runs_wanted(probe, quick=True)
    before = control.tally([run(carried) for _ in range(on_carried)])
    after = control.tally([run(newer) for _ in range(on_newer)])
    finding = control.judge(probe, before, after, claimed=True, quick=True)
    verdicts = {control.Verdict.PROVEN: "gone", control.Verdict.NOT_FIXED: "still there"}
    verdict = verdicts.get(finding.verdict, "unknown")
    return Evidence(
        defect=probe.defect,
        python=python.tag,
        title=probe.title,
        carried=dict(before.endings),
        newer=dict(after.endings),
        chance=finding.chance,
        verdict=verdict,
        explanation=finding.explanation if verdict == "unknown" else "",
    )
