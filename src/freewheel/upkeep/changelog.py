"""What each ``+ft.N`` changed: from the lock of known-good wheels and the patches' headers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from freewheel.build import known_good
from freewheel.build.patches import Patch, read_series
from freewheel.recipe.recipe import Recipe, Release

_PATCH = "patch "  # how the name of an input begins that is a patch
_BUILD = {"build requirements", "pipeline", "recipe"}  # other inputs that change a wheel's bytes


def lines(entries: Iterable[known_good.Entry], recipes: Iterable[Recipe]) -> Iterator[str]:
    """A section for each project, and in it a list of its revisions, newest first."""
    locked = {(entry.project, entry.version): entry.inputs for entry in entries}
    for recipe in recipes:
        yield ""
        yield f"## {recipe.name}"
        for release in recipe.releases:
            yield ""
            yield from _of_release(release, locked)
    yield ""


def _of_release(
    release: Release, locked: Mapping[tuple[str, str], Mapping[str, str]]
) -> Iterator[str]:
    yield "| wheel | what it changed |"
    yield "|---|---|"
    series = {patch.name: patch for patch in read_series(release)}
    current = {_PATCH + name: patch.sha256 for name, patch in series.items()}
    rows = []
    before: Mapping[str, str] = {}
    for number in range(1, release.revision + 1):
        version = f"{release.version}+ft.{number}"
        # What is not in the lock yet is the newest: its patches are those of the checkout.
        inputs = locked.get((release.project, version))
        if inputs is None and number < release.revision:
            continue
        told = list(_changes(before, inputs or current, release, series))
        rows.append(f"| {version} | {'<br>'.join(told)} |")
        before = inputs or current
    yield from reversed(rows)


def _changes(
    before: Mapping[str, str],
    after: Mapping[str, str],
    release: Release,
    series: Mapping[str, Patch],
) -> Iterator[str]:
    """Patches that came, changed or went; without any, the other inputs that changed."""
    old, new = _patches(before), _patches(after)
    for name in sorted(new):
        if name not in old:
            yield f"new: {_described(name, release, series)}"
        elif new[name] != old[name]:
            yield f"changed: {_described(name, release, series)}"
    for name in sorted(old.keys() - new.keys()):
        yield f"dropped: {_described(name, release, series)}"
    if old == new:
        others = sorted(name for name in _BUILD if before.get(name) != after.get(name))
        yield f"the same patches, built with other inputs: {', '.join(others)}"


def _patches(inputs: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(_PATCH): digest
        for name, digest in inputs.items()
        if name.startswith(_PATCH)
    }


def _described(name: str, release: Release, series: Mapping[str, Patch]) -> str:
    """A patch by the first line of its description and its defects; one that is gone, by name."""
    patch = series.get(name)
    if patch is None:
        return f"`{name}`"
    link = f"../patches/{release.project}/{release.version}/{name}"
    return f"[{patch.summary}]({link}) ({', '.join(patch.defects)})".replace("|", r"\|")
