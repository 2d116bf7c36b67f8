"""The matrix of a release: every wheel that is wanted, the runner it needs, what runs there.

It comes from the recipes alone, so that a workflow decides nothing. With what has changed since a
commit, it holds only the wheels that the change can reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from freewheel.recipe.platforms import platform_of
from freewheel.recipe.pythons import python_of
from freewheel.recipe.recipe import Recipe, Release
from freewheel.recipe.targets import in_container

# A change of these can reach no wheel and no certificate; any other file of the pipeline may.
_WITHOUT_EFFECT = ("docs/", "tests/", "README.md", "LICENSE", ".gitignore", ".github/", ".ci/")
_OF_A_PROJECT = ("recipes", "patches", "probes")


class Gate(StrEnum):
    """What a wheel goes through. Builds are always compared with those of a second builder."""

    BUILD = "build"  # and annotate, verify: imported on the runner, or in the image
    REPRODUCE = "reproduce"  # twice on one machine, all else varied; needs a container
    PROVE = "prove"  # and so published


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One wheel. ``target`` is cibuildwheel's build identifier, ``runner`` a runner's label.

    ``unproven`` is the recipe's reason why the proof does not run there, "" where it does. An
    ``experimental`` platform has never been built for.
    """

    project: str
    release: str
    target: str
    runner: str
    gates: tuple[Gate, ...]
    unproven: str = ""
    experimental: bool = False

    def to_json(self) -> dict[str, Any]:
        """As a job's ``matrix`` has it; ``name`` is fit for the name of an artifact."""
        return {
            "name": f"{self.project}-{self.release}-{self.target}",
            "project": self.project,
            "release": self.release,
            "target": self.target,
            "interpreter": python_of(self.target).tag,
            "runner": self.runner,
            "gates": [str(gate) for gate in self.gates],
            "unproven": self.unproven,
            "experimental": self.experimental,
        }


def entries(recipes: Iterable[Recipe]) -> Iterator[Entry]:
    """Every wheel of every release of those recipes."""
    for recipe in recipes:
        for release in recipe.releases:
            for target in recipe.targets.of_release(release.version):
                yield _entry(recipe, release, target)


def _entry(recipe: Recipe, release: Release, target: str) -> Entry:
    unproven = recipe.targets.why_unproven(target, release.version)
    gates = [Gate.BUILD]
    if in_container(target):
        gates.append(Gate.REPRODUCE)
    if not unproven:
        gates.append(Gate.PROVE)
    return Entry(
        project=recipe.name,
        release=release.version,
        target=target,
        runner=platform_of(target).runner,
        experimental=platform_of(target).experimental,
        gates=tuple(gates),
        unproven=unproven,
    )


def with_gate(chosen: Iterable[Entry], gate: Gate) -> list[Entry]:
    """Those that go through a gate."""
    return [entry for entry in chosen if gate in entry.gates]


def reached(
    chosen: Iterable[Entry], changed: Sequence[str], recipes: Sequence[Recipe]
) -> list[Entry]:
    """The entries that a change of those files can reach.

    ``changed`` are paths relative to the checkout. A recipe and its probes concern their project, a
    patch its release; the pipeline, a pin or a session concerns everything; docs and tests nothing.
    """
    names = {recipe.name for recipe in recipes}
    wanted: set[tuple[str, str]] = set()  # a project, and a release or "" for all
    for path in map(PurePosixPath, changed):
        if str(path).startswith(_WITHOUT_EFFECT) or path.parts[0] == "wheels":
            continue
        room, *rest = path.parts
        project = PurePosixPath(rest[0]).stem if room == "recipes" and rest else "".join(rest[:1])
        if room not in _OF_A_PROJECT:
            return list(chosen)
        if project in names:
            wanted.add((project, rest[1] if room == "patches" and len(rest) > 1 else ""))
    return [
        entry
        for entry in chosen
        if (entry.project, "") in wanted or (entry.project, entry.release) in wanted
    ]
