"""Build a wheel again from what it records, and say whether it comes out identical.

The wheel may come from anywhere, also from an index by URL; ``<wheel>.buildinfo.json`` beside it
says what it was made of. This checkout must hold the same inputs; which ones differ is said.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from freewheel.base import differences, files, http, process
from freewheel.base.errors import CommandFailed, ReproduceError
from freewheel.base.names import wheel_name
from freewheel.base.redaction import without_credentials
from freewheel.base.workspace import Workspace, link_checkout
from freewheel.build import buildinfo, needed, patches
from freewheel.machine import layer
from freewheel.recipe.recipe import Recipe, Release, choose_recipe

_MAX_WHEEL = 512 << 20  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A wheel that was built again with the same bytes."""

    name: str
    sha256: str
    path: Path


def rebuild(workspace: Workspace, recipes: Sequence[Recipe], location: str) -> Rebuilt:
    """Build the wheel at ``location``, a path or a URL, again and compare.

    Raises ReproduceError where it is not identical, with what differs, or where this checkout does
    not have the inputs.
    """
    scratch = files.empty_directory(workspace.work / "rebuild")
    given = _obtain(location, scratch / "given")
    record = _read_record(given)
    release = _release_of(recipes, record)
    _require_same_inputs(record, choose_recipe(recipes, record.project), release)
    made = _build(workspace, scratch / "checkout", record, release)
    if files.sha256(made) != record.sha256:
        raise ReproduceError(
            f"{given.name} came out with other bytes",
            problems=[*_image_difference(made, record), *differences.differences(given, made)],
            hint=f"compare {given} and {made}; `nox -s reproduce` tells whether builds agree here",
        )
    return Rebuilt(name=given.name, sha256=record.sha256, path=made)


def _obtain(location: str, directory: Path) -> Path:
    """The wheel, with its buildinfo beside it, in ``directory``."""
    try:
        parts = urlsplit(location)
        last = unquote(parts.path.rpartition("/")[2]) if parts.scheme else Path(location).name
        name = wheel_name(last)
    except ValueError as error:
        raise ReproduceError(
            f"{location} is no wheel", hint="name a file or a URL that ends in .whl"
        ) from error
    for suffix in ("", buildinfo.SUFFIX):
        target = directory / (name + suffix)
        if parts.scheme in ("http", "https"):
            _download(location + suffix, target)
            continue
        plain = url2pathname(parts.path) if parts.scheme == "file" else location
        source = Path(plain + suffix)
        if not source.is_file():
            raise ReproduceError(
                f"there is no {source}", hint="the wheel and its buildinfo must lie side by side"
            )
        files.copy(source, target)
    return directory / name


def _download(url: str, target: Path) -> None:
    try:
        bare, credentials = http.split_credentials(url)
        with http.Session() as session:
            session.limit = _MAX_WHEEL
            session.auth = http.OriginAuth(bare, credentials) if credentials else None
            answer = session.get(bare)
            answer.raise_for_status()
    except http.ODD_ANSWERS as error:
        raise ReproduceError(
            f"{without_credentials(url)} cannot be downloaded: {http.said(error)}",
            hint="an index of `nox -s build` has the buildinfo beside each wheel; for another "
            "index, get both files by hand and name the path",
        ) from error
    files.write_bytes(target, answer.content)


def _read_record(wheel: Path) -> buildinfo.Record:
    record = buildinfo.read_record(wheel.with_name(wheel.name + buildinfo.SUFFIX))
    if record is None:
        raise ReproduceError(
            f"the buildinfo of {wheel.name} cannot be read, or was cut short",
            hint="fetch it again from where the wheel came from",
        )
    if record.sha256 != files.sha256(wheel):
        raise ReproduceError(
            f"the buildinfo is not about these bytes of {wheel.name}",
            problems=[f"it names {record.sha256}", f"the wheel has {files.sha256(wheel)}"],
            hint="do not use the wheel; fetch both again from where they came from",
        )
    return record


def _release_of(recipes: Sequence[Recipe], record: buildinfo.Record) -> Release:
    recipe = choose_recipe(recipes, record.project)
    for release in recipe.releases:
        if release.local_version == record.version:
            return release
    carried = ", ".join(release.local_version for release in recipe.releases)
    raise ReproduceError(
        f"this checkout does not build {record.project} {record.version}",
        problems=[f"it builds {carried}"],
        hint=_checkout_hint(record),
    )


def _require_same_inputs(record: buildinfo.Record, recipe: Recipe, release: Release) -> None:
    current = buildinfo.gather(
        recipe,
        release,
        patches.read_series(release),
        version=record.version,
        target=record.inputs["target"],
    )
    current |= {k: v for k, v in record.inputs.items() if k.startswith(needed.INPUT)}
    images = [record.inputs["image"]]  # which one is used is decided below, from the record
    changed = buildinfo.changed(record.inputs, current, images=images)
    if changed:
        raise ReproduceError(
            f"this checkout differs from what {record.wheel.name} was made of",
            problems=[
                f"{name}: {record.inputs.get(name, 'none')} then, {current.get(name, 'none')} here"
                for name in changed
            ],
            hint=_checkout_hint(record),
        )


def _checkout_hint(record: buildinfo.Record) -> str:
    commit = record.details.get("commit")
    if commit:
        return f"git checkout {commit}, then run the same command again"
    return "use the checkout that built it; it was not a clean commit, so none is named"


def _build(workspace: Workspace, root: Path, record: buildinfo.Record, release: Release) -> Path:
    """The ordinary command line, in a checkout of its own, with the image that the record names."""
    image = layer.base_of(record.inputs["image"])
    environment = {
        **link_checkout(workspace, root),
        "FREEWHEEL_IMAGE": "local" if image.startswith("local:") else image,
    }
    command = [sys.executable, "-m", "freewheel", "build", release.project]
    try:
        process.run([*command, "--release", release.version], cwd=root, env=environment)
    except CommandFailed as error:
        raise ReproduceError(
            f"{record.wheel.name} cannot be built here",
            hint="fix what the build complains about, above",
            output=error.output,
        ) from error
    return root / "wheels" / record.wheel.name


def _image_difference(made: Path, record: buildinfo.Record) -> list[str]:
    now = _read_record(made).inputs
    return [
        f"{name}: {record.inputs.get(name) or 'none'} then, {now.get(name) or 'none'} now"
        for name in ("image", "image manifest")
        if now.get(name) != record.inputs.get(name)
    ]
