"""What a wheel itself requires, as the lock of the suites pins it: it is not imported without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from freewheel.base.wheel_archive import open_wheel
from freewheel.machine.interpreter import Interpreter
from freewheel.machine.requirements import SUITE_REQUIREMENTS, part_of, read_lock

_OF_DEVELOPERS = {"dev", "doc", "docs", "test", "testing", "tests"}  # extras


def own_lock(wheel: Path, interpreter: Interpreter) -> str:
    """A lock of what the wheel requires, and of those things for its extras that are pinned.

    "" if it requires nothing. Raises FetchError where it requires what is not pinned.
    """
    pinned = {pin.name for pin in read_lock(SUITE_REQUIREMENTS.read_text(encoding="utf-8"))}
    names = {name for name, always in _requirements(wheel, interpreter) if always or name in pinned}
    return part_of(SUITE_REQUIREMENTS, names, key=f"METADATA of {wheel.name}") if names else ""


def _requirements(wheel: Path, interpreter: Interpreter) -> Iterator[tuple[str, bool]]:
    """Names, and whether the wheel needs it without any extra."""
    with open_wheel(wheel) as archive:
        metadata = archive.headers("METADATA")
    python = ".".join(interpreter.version.split(".")[:2])
    extras = {"", *metadata.get_all("Provides-Extra", [])} - _OF_DEVELOPERS
    for one in map(Requirement, metadata.get_all("Requires-Dist", [])):
        for extra in extras:
            place = {"python_version": python, "extra": extra}
            if one.marker is None or one.marker.evaluate(place):
                yield canonicalize_name(one.name), not extra
