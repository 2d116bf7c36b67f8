"""What cibuildwheel builds with on macOS and Windows, where there is no container."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tomllib
from dataclasses import dataclass
from importlib.resources import files as resources

from freewheel.base import process
from freewheel.base.errors import CommandFailed, MachineError

_LOOK_TIMEOUT = 60.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """The CPython that cibuildwheel brings, and the machine's own compiler.

    ``identity`` is known without a look at the machine. ``manifest`` is the digest of what the
    compiler and the system say of themselves, in which two machines may differ.
    """

    name: str
    identity: str
    manifest: str


def pinned_targets() -> dict[str, dict[str, str]]:
    """Every build identifier that the installed cibuildwheel knows, with what it pins for it."""
    path = resources("cibuildwheel") / "resources" / "build-platforms.toml"
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        entry["identifier"]: entry
        for table in tables.values()
        for entry in table["python_configurations"]
    }


def identity(target: str) -> str:
    """By what cibuildwheel pins for ``target``, such as a version and a digest of CPython."""
    pin = json.dumps(_pin(target), sort_keys=True)
    return f"native:{hashlib.sha256(pin.encode()).hexdigest()}"


def toolchain(target: str) -> Toolchain:
    """What this machine builds ``target`` with."""
    image = os.environ.get("ImageVersion", "")  # noqa: SIM112  GitHub's runners spell it so
    said = [platform.platform(), image, _compiler()]
    return Toolchain(
        name=f"cpython-{_pin(target)['version']}-{target.partition('-')[2]}",
        identity=identity(target),
        manifest=hashlib.sha256("\n".join(said).encode()).hexdigest(),
    )


def _pin(target: str) -> dict[str, str]:
    try:
        return pinned_targets()[target]
    except KeyError:
        raise MachineError(
            f"cibuildwheel does not know {target}",
            hint="correct build.targets in the recipe, or update cibuildwheel",
        ) from None


def _compiler() -> str:
    """What the compiler on PATH says of itself; MSVC is none of those, the runner's image is."""
    try:
        return process.run(["cc", "--version"], timeout=_LOOK_TIMEOUT).stdout
    except CommandFailed:
        return ""
