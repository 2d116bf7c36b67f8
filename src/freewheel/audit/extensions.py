"""Which of a distribution's files are extension modules of the target, and what they are called."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

Kind = Literal["own", "tests", "plugins"]

_SUFFIXES = (".so", ".pyd")
_TESTS = frozenset({"test", "tests", "_test", "_tests", "testing", "_testing"})
_PLUGINS = frozenset({"plugin", "plugins", "contrib"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension module: its dotted name, and its file below the site-packages directory.

    Those of ``tests`` and ``plugins`` are counted apart: an application does not load them unless
    it asks for them.
    """

    module: str
    path: str
    kind: Kind


def compiled_files(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the files that may be extension modules, by their suffix alone."""
    return tuple(sorted(name for name in names if name.endswith(_SUFFIXES)))


def find(root: Path, names: Iterable[str], python: str) -> tuple[Extension, ...]:
    """The extension modules of ``python``, such as cp314t, among the files ``names`` of a tree."""
    found = []
    for name in compiled_files(names):
        path = PurePosixPath(name)
        stem, _, rest = path.name.partition(".")
        parts = (*path.parts[:-1], *(() if stem == "__init__" else (stem,)))
        if not parts or not all(part.isidentifier() for part in parts):
            continue
        if _is_for(rest, python) or (_says_nothing(rest) and _has_init(root / name, parts[-1])):
            found.append(Extension(module=".".join(parts), path=name, kind=_kind(parts)))
    return tuple(found)


def _is_for(rest: str, python: str) -> bool:
    """Whether the part of the name between the module and the suffix names the interpreter."""
    digits = python.removeprefix("cp")
    return rest.startswith((f"cpython-{digits}-", f"cpython-{digits}.", f"{python}-"))


def _says_nothing(rest: str) -> bool:
    """Whether the name says no interpreter: such a file is a module, or just a library."""
    return rest.split(".", maxsplit=1)[0] in ("so", "pyd", "abi3", "abi3t")


def _has_init(path: Path, stem: str) -> bool:
    """Whether the file names the function by which an interpreter initializes the module."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return text.find(b"PyInit_" + stem.encode()) >= 0
    except (OSError, ValueError):
        return False


def _kind(parts: tuple[str, ...]) -> Kind:
    *packages, last = (part.lower() for part in parts)
    if _TESTS & {*packages, last} or last.startswith(("test_", "_test")) or last.endswith("_tests"):
        return "tests"
    return "plugins" if _PLUGINS & {*packages} else "own"
