"""Recipes as text: releases added without touching a word of what a person wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from freewheel.base import files
from freewheel.base.errors import UpstreamError
from freewheel.recipe.building import Vendored
from freewheel.recipe.recipe import Release

_FIRST_RELEASE = re.compile(r'^\[releases\."', re.MULTILINE)


def add_release(path: Path, before: Release, release: Release, names: Sequence[str]) -> None:
    """Write the release above the first that the recipe has, in one step.

    Vendored parts are taken over from the release ``before``: their versions must be looked up.
    """
    text = path.read_text(encoding="utf-8")
    found = _FIRST_RELEASE.search(text)
    if found is None:
        raise UpstreamError(
            f"{path.name} has no table [releases.…] to add one above",
            hint="write it as docs/recipes.md shows",
        )
    block = "\n".join(release_lines(release, names, before.vendored)) + "\n\n"
    files.write_text(path, text[: found.start()] + block + text[found.start() :])


def release_lines(
    release: Release, names: Iterable[str], vendored: Iterable[Vendored] = ()
) -> list[str]:
    """The tables of one release."""
    listed = [f"    {quoted(name)}," for name in names]
    lines = [
        f"[releases.{quoted(release.version)}]",
        f"sha256 = {quoted(release.sha256)}",
        f"released = {release.released:%Y-%m-%dT%H:%M:%SZ}",
        f"revision = {release.revision}",
        *(["patches = [", *listed, "]"] if listed else ["patches = []"]),
    ]
    for part in vendored:
        lines += [
            "",
            f"[[releases.{quoted(release.version)}.vendored]]",
            f"name = {quoted(part.name)}",
            f"version = {quoted(part.version)}",
            f"licence = {quoted(part.licence)}",
            f"path = {quoted(str(part.path))}",
            *([f"purl = {quoted(part.purl)}"] if part.purl else []),
        ]
    return lines


def quoted(text: str) -> str:
    """A TOML basic string; a JSON string is one."""
    return json.dumps(text, ensure_ascii=False)
