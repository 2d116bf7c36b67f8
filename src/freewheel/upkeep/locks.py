"""The locks in ``pins/``: every package a build or a check depends on, with version and hashes.

They are requirements files, since those name no index: uv.lock and pylock.toml write addresses
down. The official builder image needs no lock of its own: cibuildwheel pins it by digest.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed, FetchError
from freewheel.base.workspace import PINS, Workspace
from freewheel.machine.requirements import BUILD_REQUIREMENTS, SUITE_REQUIREMENTS, read_lock
from freewheel.recipe.recipe import Recipe, load_recipes

# From what stands below their entries, the part that one recipe needs is chosen.
_WITH_NEEDS = (BUILD_REQUIREMENTS, SUITE_REQUIREMENTS)
_PIN = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock and what it is resolved from.

    ``names`` are projects that recipes ask for; ``constraint`` is a lock that it must agree with.
    """

    path: Path
    source: Path
    groups: tuple[str, ...] = ()
    constraint: Path | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One package whose version in a lock is another now; "" where it is not there."""

    lock: str
    package: str
    before: str
    after: str


def all_locks(workspace: Workspace) -> tuple[Lock, ...]:
    """Every lock, in the order in which they depend on each other."""
    project = workspace.root / "pyproject.toml"
    tools = PINS / "tools.txt"
    development = ("server", "tests", "lint")
    inputs = sorted(PINS.rglob("*.in"))
    names = _asked_for(workspace)
    return (
        Lock(path=tools, source=project),
        Lock(path=PINS / "server.txt", source=project, groups=("server",), constraint=tools),
        Lock(path=PINS / "development.txt", source=project, groups=development, constraint=tools),
        *(
            Lock(path=lock, source=path, names=names.get(lock, ()))
            for path in inputs
            for lock in [path.with_suffix(".txt")]
        ),
    )


def _asked_for(workspace: Workspace) -> dict[Path, tuple[str, ...]]:
    """What the recipes name, by the lock that is to have it."""
    recipes = load_recipes(workspace.recipes, workspace.patches)
    building = {name for recipe in recipes for name in recipe.build.requires}
    testing = {name for recipe in recipes if recipe.suite for name in recipe.suite.requires}
    return {
        BUILD_REQUIREMENTS: tuple(sorted(building)),
        SUITE_REQUIREMENTS: tuple(sorted(testing)),
    }


def update(workspace: Workspace, *, upgrade: bool) -> tuple[Change, ...]:
    """Resolve every lock again, for all platforms; what changed.

    Without ``upgrade``, versions stay where what they are resolved from still allows them. A lock
    is replaced in one step, and none is touched when one of them cannot be resolved. Raises
    FetchError.
    """
    locks = all_locks(workspace)
    scratch = files.empty_directory(workspace.work / "locks")
    resolved = {lock.path: _resolve(lock, scratch, upgrade=upgrade) for lock in locks}
    changes: list[Change] = []
    for path, text in resolved.items():
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        changes += _changes(path.relative_to(PINS).as_posix(), versions(old), versions(text))
        # Another comment is no other pin, but the builder image is identified by its lock's text.
        if _pins(text) != _pins(old):
            files.write_text(path, text)
    return tuple(changes)


def add_missing(workspace: Workspace, recipe: Recipe) -> tuple[Change, ...]:
    """Take what a recipe names, and the locks do not have, into them. Raises FetchError."""
    wanted = {*recipe.build.requires, *(recipe.suite.requires if recipe.suite else ())}
    pinned = {
        pin.name
        for lock in (BUILD_REQUIREMENTS, SUITE_REQUIREMENTS)
        for pin in read_lock(lock.read_text(encoding="utf-8"))
    }
    return update(workspace, upgrade=False) if wanted - pinned else ()


def _pins(lock: str) -> list[str]:
    return [line for line in lock.splitlines() if not line.strip().startswith("#")]


def versions(lock: str) -> dict[str, str]:
    """The packages that a lock's text pins; several versions of one are joined with a comma."""
    found: dict[str, list[str]] = {}
    for match in _PIN.finditer(lock):
        found.setdefault(match["name"], []).append(match["version"])
    return {name: ", ".join(pinned) for name, pinned in found.items()}


def _resolve(lock: Lock, scratch: Path, *, upgrade: bool) -> str:
    output = scratch / f"{lock.path.parent.name}-{lock.path.name}"
    if lock.path.exists():
        shutil.copyfile(lock.path, output)  # uv keeps the versions it finds there
    constraint = scratch / f"{PINS.name}-{lock.constraint.name}" if lock.constraint else None
    try:
        process.run(
            [
                *(find_uv_bin(), "pip", "compile", "--quiet", "--universal"),
                *("--python-version=3.11", "--generate-hashes", "--no-emit-index-url"),
                *("--no-header", f"--output-file={output}"),
                *(() if lock.path in _WITH_NEEDS else ("--no-annotate",)),
                *(["--upgrade"] if upgrade else []),
                *(f"--group={group}" for group in lock.groups),
                *([f"--constraint={constraint}"] if constraint else []),
                *(lock.source, "-"),
            ],
            cwd=lock.source.parent,
            stdin="\n".join(lock.names),
        )
    except CommandFailed as error:
        raise FetchError(
            f"{lock.path.name} cannot be resolved",
            hint=f"fix what uv reports about {lock.source.name}; no lock was changed",
            output=error.output,
        ) from error
    return output.read_text(encoding="utf-8")


def _changes(lock: str, before: dict[str, str], after: dict[str, str]) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, ""), after.get(name, "")
        if old != new:
            yield Change(lock=lock, package=name, before=old, after=new)
