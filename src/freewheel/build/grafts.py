"""The shared libraries that the repair grafted into a wheel, and whose they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from freewheel.base.wheel_archive import open_wheel
from freewheel.build.static_checks import graft_of, grafted
from freewheel.machine.layer import Owner
from freewheel.recipe.building import Graft


@dataclass(frozen=True, slots=True, kw_only=True)
class Grafted:
    """One library in a wheel: its member, its digest, its SPDX licence, and its package.

    ``of_recipe`` is whether the recipe builds it, from ``build.libraries``.
    """

    library: str
    member: str
    sha256: str
    licence: str
    owner: Owner
    of_recipe: bool = False


def find_grafts(
    path: Path,
    grafts: Sequence[Graft],
    owners_of: Callable[[Sequence[str]], Mapping[str, Owner]],
    libraries: Mapping[str, Owner] | None = None,
) -> tuple[Grafted, ...]:
    """The libraries in the wheel that the recipe names; the check refuses all others.

    ``libraries`` are those that the recipe builds; the image knows the owners of all others. Raises
    what ``owners_of`` raises, and ArchiveError.
    """
    named = {graft.name: graft for graft in grafts}
    with open_wheel(path) as wheel:
        members = {
            member: name
            for member in sorted(grafted(wheel.names))
            if (name := graft_of(member, named))
        }
        digests = {member: hashlib.sha256(wheel.read(member)).hexdigest() for member in members}
    found = sorted(set(members.values()))
    built = {name: (libraries or {})[of] for name in found if (of := named[name].library)}
    systems = [name for name in found if name not in built]
    owners = {**built, **(owners_of(systems) if systems else {})}
    return tuple(
        Grafted(
            library=name,
            member=member,
            sha256=digests[member],
            licence=named[name].licence,
            owner=owners[name],
            of_recipe=name in built,
        )
        for member, name in members.items()
    )
