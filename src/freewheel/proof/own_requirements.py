"""What a wheel itself requires, as the lock of the suites pins it: it is not imported without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from freewheel.base.errors import ProofError
from freewheel.base.wheel_archive import open_wheel
from freewheel.base.workspace import PINS
from freewheel.machine.interpreter import Interpreter
from freewheel.machine.requirements import build_lock, read_lock

SUITES = PINS / "suites.txt"


def own_lock(wheel: Path, interpreter: Interpreter) -> str:
    """A lock of what the wheel requires, and of those things for its extras that are pinned.

    "" if it requires nothing. Raises ProofError where it requires what is not pinned.
    """
    pinned = {pin.name for pin in read_lock(SUITES.read_text(encoding="utf-8"))}
    needed = dict(_requirements(wheel, interpreter))
    missing = sorted(name for name, always in needed.items() if always and name not in pinned)
    if missing:
        raise ProofError(
            f"{wheel.name} requires what {SUITES.name} does not pin",
            problems=missing,
            hint=f"add it to {SUITES.with_suffix('.in').name} in src/freewheel/pins/ and run "
            "`nox -s update-pins -- --keep`",
        )
    return build_lock(needed.keys() & pinned, SUITES)


def _requirements(wheel: Path, interpreter: Interpreter) -> Iterator[tuple[str, bool]]:
    """Names, the extras' first; and whether the wheel needs it without any extra."""
    with open_wheel(wheel) as archive:
        metadata = archive.headers("METADATA")
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    python = ".".join(interpreter.version.split(".")[:2])
    for extra in (*metadata.get_all("Provides-Extra", []), ""):
        place = {"python_version": python, "python_full_version": interpreter.version}
        for one in requirements:
            if one.marker is None or one.marker.evaluate({**place, "extra": extra}):
                yield canonicalize_name(one.name), not extra
