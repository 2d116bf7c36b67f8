"""Which project an import name belongs to."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from functools import cache
from importlib.resources import files as resources

from packaging.utils import canonicalize_name


@cache
def _table() -> dict[str, dict[str, str | list[str]]]:
    text = (resources("freewheel.audit.crash") / "import_names.toml").read_text("utf-8")
    return tomllib.loads(text)


def candidates(module: str) -> tuple[str, ...]:
    """The projects that may bring a module, by its dotted name; the most likely first.

    What the table does not have is taken to be called as it is imported, as most projects are.
    """
    parts = module.split(".")
    names = _table()["names"]
    for depth in (2, 1):
        listed = names.get(".".join(parts[:depth]))
        if listed is not None:
            return (listed,) if isinstance(listed, str) else tuple(listed)
    spaces = _table()["namespaces"]
    if parts[0] in spaces and len(parts) > 1:
        return (canonicalize_name(f"{parts[0]}-{parts[1]}"),)
    return (canonicalize_name(parts[0].strip("_")) or module,)


def owner(module: str, known: Collection[str]) -> tuple[str, bool]:
    """The project of a module, and whether it is among the ``known`` ones.

    Among several that bring the same module, the one that is known is meant.
    """
    found = candidates(module)
    for name in found:
        if name in known:
            return name, True
    return found[0], False
