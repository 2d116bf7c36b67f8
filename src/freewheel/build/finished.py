"""What is in ``wheels/``: the wheels that were built and verified, and which of them are proven."""

from __future__ import annotations

from collections.abc import Sequence

from freewheel.base import console
from freewheel.base.errors import UnprovenError, VerifyError
from freewheel.base.workspace import Workspace
from freewheel.build import buildinfo, check
from freewheel.recipe.recipe import Recipe, versions_of


def without_unproven(
    workspace: Workspace, recipes: Sequence[Recipe], wheels: Sequence[check.KnownWheel]
) -> list[check.KnownWheel]:
    """The wheels whose target is proven.

    Each one that is left out is reported. Raises UnprovenError where none is left.
    """
    releases = {
        (recipe.name, release.local_version): (recipe, release.version)
        for recipe in recipes
        for release in recipe.releases
    }
    records = {record.wheel: record for record in buildinfo.read_records(workspace.wheels)}
    left, told = [], []
    for made in wheels:
        recipe, version = releases[made.project, made.version]
        target = records[made.path].inputs["target"]
        reason = recipe.targets.why_unproven(target, version)
        if reason:
            told.append(
                f"{made.path.name}: not proven, and so not published, on {target}: {reason}"
            )
        else:
            left.append(made)
    if not left:
        raise UnprovenError(
            "there is no wheel of a target that is proven",
            problems=told,
            hint="publish wheels of other targets; `unproven` in the recipe says which are not",
        )
    for line in told:
        console.note(line)
    return left


def verified_wheels(workspace: Workspace, recipes: Sequence[Recipe]) -> list[check.KnownWheel]:
    """What those recipes have in ``wheels/``, with the bytes that were verified.

    A wheel of a revision that its recipe has no more is left out, with a note: its patches are
    gone from the checkout, so it can neither be proven nor built again here. Raises VerifyError
    for a wheel that was changed since, and where there is none.
    """
    wanted = versions_of(recipes)
    names = {recipe.name for recipe in recipes}
    found: list[check.KnownWheel] = []
    changed: list[str] = []
    for record in buildinfo.read_records(workspace.wheels):
        if record.project not in names:
            continue
        if (record.project, record.version) not in wanted:
            console.note(f"{record.wheel.name}: left out, its recipe has another revision now")
            continue
        known_as = {"project": record.project, "version": record.version, "sha256": record.sha256}
        wheel = check.recall(record.wheel, **known_as)
        if wheel:
            found.append(wheel)
        else:
            changed.append(f"{record.wheel.name}: lost, or changed since it was verified")
    if changed or not found:
        raise VerifyError(
            "there is no verified wheel" if not changed else "wheels/ is not as it was verified",
            problems=changed,
            hint="build first: `nox -s build`",
        )
    return found
