"""Stage *consume*: the lines that install verified wheels into an application, by pip and by uv.

Every line pins ``==X+ft.N`` with the digest of each wheel, so that nothing else can come instead,
whatever other indexes the user's configuration adds. pip gives no index priority over another:
without the local version an index that is down means that the public build gets installed.

``--no-deps`` because hashes must then be complete for all that gets installed, and these wheels
need nothing else on the interpreter they are for. An application's own requirements follow in a
second step: both installers leave a patched wheel in place, as it ranks above the public build.

Tried with pip 26.3 and uv 0.13.9. An index given by http, by ``file:`` URL (with or without the
slash at its end) or by absolute path works with both. What does not:

- a relative path: uv takes it, pip fails with a traceback;
- pip with ``-c`` and a file that has hashes: it then wants a hash for everything; ``-c`` with a
  file of pins alone works, and fails closed where no index has them;
- pip's ``--uploaded-prior-to``: it wants upload times in JSON, so a web server must send
  ``index.json`` (uv's ``--exclude-newer`` reads them from HTML); devpi-server 6.20 has none at all;
- uv's ``tool.uv.sources`` for what only a dependency requires: see ``uv_project``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from freewheel.base import files
from freewheel.build.check import KnownWheel

REQUIREMENTS = "wheels/requirements.txt"  # as seen from the checkout, where the lines are typed
_HEADER = """\
# Written by the build: the wheels it made last, pinned with their SHA-256. Install them with
#   pip install --require-hashes --no-deps --index-url URL -r requirements.txt
"""
_PIN = re.compile(
    r"^(?P<name>[a-z0-9-]+)==\S+(?: \\\n    --hash=sha256:[0-9a-f]{64})+$", re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallLines:
    """``pip`` and ``uv`` are commands for a shell; ``uv_project`` is a part of pyproject.toml.

    ``pins`` are the requirements alone, for a file of constraints.
    """

    pip: str
    uv: str
    uv_project: str
    pins: tuple[str, ...]


def install_lines(
    wheels: Sequence[KnownWheel], index_url: str, *, requirements: str = REQUIREMENTS
) -> InstallLines:
    """How to install ``wheels`` from ``index_url``, which is http or an absolute ``file:`` URL.

    ``requirements`` is the file that ``write_requirements`` wrote, as the reader will name it.
    """
    pip = ["pip", "install", "--require-hashes", "--no-deps", "--index-url", index_url]
    uv = ["uv", "pip", "install", "--require-hashes", "--no-deps", "--default-index", index_url]
    newest = _newest(wheels)
    return InstallLines(
        pip=shlex.join([*pip, "-r", requirements]),
        uv=shlex.join([*uv, "-r", requirements]),
        uv_project=_uv_project(newest, index_url),
        pins=tuple(f"{name}=={found[0].version}" for name, found in newest.items()),
    )


def write_requirements(path: Path, wheels: Sequence[KnownWheel]) -> None:
    """Pin ``wheels`` with hashes in the requirements file ``path``, in one step.

    Of each project the newest version among ``wheels`` is pinned, with the digest of every wheel
    of it. Pins of other projects stay, so that a build of one project keeps what the others made.
    """
    with files.locked(path.with_name(f".{path.name}.lock"), what=str(path)):
        kept = path.read_text(encoding="utf-8") if path.is_file() else ""
        pins = {match["name"]: match[0] for match in _PIN.finditer(kept)}
        pins |= {name: _pin(found) for name, found in _newest(wheels).items()}
        text = _HEADER + "".join(f"{pins[name]}\n" for name in sorted(pins))
        if text != kept:
            files.write_text(path, text)


def _newest(wheels: Iterable[KnownWheel]) -> dict[str, list[KnownWheel]]:
    """By project, the wheels of its newest version: there is one for each platform."""
    newest: dict[str, list[KnownWheel]] = {}
    for wheel in sorted(wheels, key=lambda wheel: (wheel.project, wheel.path.name)):
        found = newest.setdefault(wheel.project, [wheel])
        if Version(wheel.version) > Version(found[0].version):
            newest[wheel.project] = [wheel]
        elif wheel.version == found[0].version and wheel not in found:
            found.append(wheel)
    return newest


def _pin(wheels: Sequence[KnownWheel]) -> str:
    hashes = sorted({wheel.sha256 for wheel in wheels})
    lines = [
        f"{wheels[0].project}=={wheels[0].version}",
        *(f"    --hash=sha256:{h}" for h in hashes),
    ]
    return " \\\n".join(lines)


def _uv_project(newest: Mapping[str, Sequence[KnownWheel]], index_url: str) -> str:
    """A part of pyproject.toml.

    A source covers direct dependencies and constraints, but not what a dependency requires:
    greenlet, which usually comes with SQLAlchemy, would silently be the public one. A constraint
    without its source, or a source without the constraint, is not enough either.
    """
    # A JSON string is a TOML basic string.
    pins = ", ".join(json.dumps(f"{name}=={found[0].version}") for name, found in newest.items())
    lines = [
        "[tool.uv]",
        "# Holds for indirect dependencies too, which sources alone do not reach.",
        f"constraint-dependencies = [{pins}]",
        "",
        "[tool.uv.sources]",
        *(f'{name} = {{ index = "freewheel" }}' for name in newest),
        "",
        "[[tool.uv.index]]",
        'name = "freewheel"',
        f"url = {json.dumps(index_url)}",
        "explicit = true",
    ]
    return "\n".join(lines) + "\n"
