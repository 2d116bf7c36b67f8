"""Stage *annotate*: the wheel says what it is, what is in it and where to report trouble.

Its core metadata and its SBOM are written here, and the archive is packed for the last time.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from email.parser import HeaderParser
from pathlib import Path

from packaging.metadata import Metadata
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from freewheel.base import archives
from freewheel.base.errors import BuildError
from freewheel.base.members import ArchiveError
from freewheel.base.wheel_archive import open_wheel
from freewheel.build.grafts import Grafted
from freewheel.build.patches import Patch
from freewheel.build.wheel import Wheel
from freewheel.machine.image import BuilderImage
from freewheel.recipe.recipe import Recipe

# Labels of Project-URL have at most 32 characters.
UPSTREAM_LABEL = "Upstream of this patched build"
REPORT_LABEL = "Report trouble (patched build)"
# What means something to reStructuredText or to Markdown in the middle of a line.
_MARKUP = re.compile(r"[\\`*|<>\[\]]|(?<!\w)_|_(?!\w)")


class Publisher(BaseModel):
    """Who publishes the wheels and takes reports about them; either may be "" for unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    url: str

    @field_validator("url")
    @classmethod
    def _https(cls, value: str) -> str:
        if value and not re.fullmatch(r"https://\S+", value):
            raise ValueError("must start with https://, or be empty")
        return value


def annotate(
    wheel: Wheel,
    recipe: Recipe,
    series: Sequence[Patch],
    directory: Path,
    *,
    image: BuilderImage,
    requirements: str,
    publisher: Path,
    grafts: Sequence[Grafted] = (),
    licences: Mapping[str, str] | None = None,
) -> Wheel:
    """The wheel with its SBOM and with what it says to people, packed into ``directory``.

    A baseline is upstream's own, so nothing is added to it. ``requirements`` is the text of
    the lock of its build requirements, ``publisher`` the file that names who publishes,
    ``grafts`` what the repair brought in, ``licences`` the texts of the libraries that the recipe
    builds. Raises BuildError.
    """
    path = directory / wheel.path.name
    added: dict[str, bytes] = {}
    if wheel.version != wheel.release.version:
        added = _annotations(
            wheel,
            recipe,
            series,
            image=image,
            requirements=requirements,
            publisher=read_publisher(publisher),
            grafts=grafts,
            licences=licences or {},
        )
    archives.repack_wheel(wheel.path, path, epoch=wheel.release.source_date_epoch, added=added)
    return replace(wheel, path=path)


def read_publisher(path: Path) -> Publisher:
    """Read pins/publisher.toml. Raises BuildError that lists each problem."""
    try:
        return Publisher.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg'].lower()}" for item in error.errors()
        ]
    except (OSError, ValueError) as error:
        problems = [str(error)]
    raise BuildError(
        f"{path.name} is not valid",
        problems=problems,
        hint=f"it has two keys, name and url; mend {path}",
    )


def _annotations(
    wheel: Wheel,
    recipe: Recipe,
    series: Sequence[Patch],
    *,
    image: BuilderImage,
    requirements: str,
    publisher: Publisher,
    grafts: Sequence[Grafted],
    licences: Mapping[str, str],
) -> dict[str, bytes]:
    """The members that come into the wheel, by name."""
    # Imported where a wheel is made: a build that finds nothing to do need not wait for it.
    from freewheel.build import sbom  # noqa: PLC0415

    directory, metadata = _read_metadata(wheel)
    header = HeaderParser().parsestr(metadata)
    contents = sbom.Contents(
        file_name=wheel.path.name,
        recipe=recipe,
        release=wheel.release,
        licence=str(header["License-Expression"] or ""),
        series=tuple(series),
        requirements=requirements,
        image=image,
        grafts=tuple(grafts),
    )
    of_packages = {
        f"{graft.owner.package}/copyright": graft.owner.licence
        for graft in grafts
        if not graft.of_recipe
    }
    licences = {**of_packages, **licences}
    member = f"{directory}/{sbom.MEMBER}"
    plain = str(header["Description-Content-Type"] or "").startswith("text/plain")
    told = introduction(wheel, series, publisher, sbom=member, markup=not plain)
    urls = {UPSTREAM_LABEL: recipe.source_url}
    if publisher.url:
        urls[REPORT_LABEL] = publisher.url
    return {
        member: sbom.make(contents).encode(),
        f"{directory}/METADATA": annotated_metadata(metadata, urls, told, licences).encode(),
        **{f"{directory}/licenses/{name}": text.encode() for name, text in licences.items()},
    }


def _read_metadata(wheel: Wheel) -> tuple[str, str]:
    """The name of .dist-info, and the text of METADATA in it."""
    try:
        with open_wheel(wheel.path) as archive:
            return archive.dist_info, archive.text("METADATA")
    except ArchiveError as error:
        raise BuildError(
            f"{wheel.path.name} cannot be annotated: {error.summary}", hint="read the build's log"
        ) from error


# --------------------------------------------------------------------------- what it says to people


def introduction(
    wheel: Wheel, series: Sequence[Patch], publisher: Publisher, *, sbom: str, markup: bool
) -> str:
    """What stands above upstream's description; with ``markup`` it reads as rst and as Markdown.

    ``sbom`` is the member of the wheel that holds the SBOM.
    """

    def plain(text: str) -> str:
        # Both languages take what follows a backslash as text.
        return _MARKUP.sub(r"\\\g<0>", text) if markup else text

    project, version = wheel.release.project, wheel.release.version
    defects = [f"- {', '.join(patch.defects)}: {plain(patch.summary)}" for patch in series]
    mended = "Its patches mend these defects:" if defects else "It carries no patch."
    what = (
        f"This is {project} {wheel.version}, a patched build of {project} {version} for "
        f"free-threaded CPython, made by Freewheel. It is not a release of {project}. {mended}"
    )
    where = (
        f"Please do not report trouble with this build to {project}; {_where(publisher)}. "
        f"What it was made of is listed in the wheel, in {plain(sbom)} (CycloneDX)."
    )
    return "\n\n".join(filter(None, [what, "\n".join(defects), where]))


def annotated_metadata(
    metadata: str, urls: Mapping[str, str], introduction: str, licences: Iterable[str] = ()
) -> str:
    """METADATA with ``urls`` (by label) after its own and ``introduction`` above its description.

    ``licences`` are files below .dist-info/licenses that are listed in addition.
    All else stays as it is. Raises BuildError where the result would not be valid core metadata.
    """
    fields, _, description = metadata.replace("\r\n", "\n").partition("\n\n")
    lines = fields.rstrip("\n").split("\n")
    if any(line.lower().startswith("description:") for line in lines):
        raise BuildError(
            "METADATA has its description among the fields, as before version 2.1",
            hint="let the build requirements have a setuptools that writes it below them",
        )
    at = _after_urls(lines)
    lines[at:at] = [f"Project-URL: {label}, {url}" for label, url in urls.items()]
    lines += [f"License-File: {name}" for name in licences]
    annotated = "\n".join([*lines, "", introduction, "", description.lstrip("\n")])
    try:
        Metadata.from_email(annotated, validate=True)
    except ExceptionGroup as errors:
        raise BuildError(
            "METADATA would not be valid (core metadata specification)",
            problems=[str(error) for error in errors.exceptions],
            hint="what upstream's METADATA lacks can be mended with a patch",
        ) from errors
    return annotated


def _after_urls(lines: Sequence[str]) -> int:
    """Where to add a Project-URL: below the last one, else below all fields."""
    at = len(lines)
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].lower().startswith("project-url:"):
            return at
        if not lines[number].startswith((" ", "\t")):
            at = number
    return len(lines)


def _where(publisher: Publisher) -> str:
    whom = publisher.name or "the maintainers of the package index that this wheel came from"
    # Both languages make a link of an address in angle brackets.
    return f"report it to {whom}" + (f", at <{publisher.url}>" if publisher.url else "")
