"""The shared libraries of the system that the repair grafted into a wheel, and whose they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from freewheel.base.wheel_archive import open_wheel
from freewheel.build.static_checks import graft_of, grafted
from freewheel.machine.layer import Owner
from freewheel.recipe.building import Graft


@dataclass(frozen=True, slots=True, kw_only=True)
class Grafted:
    """One library in a wheel: its member, its digest, its SPDX licence, and its package."""

    library: str
    member: str
    sha256: str
    licence: str
    owner: Owner


def find_grafts(
    wheel: Path, grafts: Sequence[Graft], owner_of: Callable[[str], Owner]
) -> tuple[Grafted, ...]:
    """The libraries in the wheel that the recipe names; the check refuses all others.

    Raises what ``owner_of`` raises, and ArchiveError.
    """
    return tuple(_find(wheel, {graft.name: graft for graft in grafts}, owner_of))


def _find(
    path: Path, named: dict[str, Graft], owner_of: Callable[[str], Owner]
) -> Iterator[Grafted]:
    with open_wheel(path) as wheel:
        for member in sorted(grafted(wheel.names)):
            name = graft_of(member, named)
            if name is not None:
                yield Grafted(
                    library=name,
                    member=member,
                    sha256=hashlib.sha256(wheel.read(member)).hexdigest(),
                    licence=named[name].licence,
                    owner=owner_of(name),
                )
