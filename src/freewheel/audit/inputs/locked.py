"""What every form of input becomes: the distributions that it brings to the target."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, cast
from urllib.parse import unquote, urlsplit

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, ValidationError

from freewheel.audit.target import Target
from freewheel.base.errors import AuditError

Source = Literal["index", "git", "path", "url", "environment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One file that an input lists; ``sha256`` and ``url`` are "" where it does not say."""

    name: str
    sha256: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A distribution as it lies in an environment.

    ``tags`` are those of its WHEEL file, ``extensions`` its compiled files relative to ``root``,
    the site-packages directory. ``digest`` is over the names and digests of all its files.
    ``needs`` are the projects that its metadata names.
    """

    root: Path
    tags: tuple[str, ...]
    extensions: tuple[str, ...]
    record: Mapping[str, str]
    digest: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """One distribution that an input brings to the target.

    ``version`` is "" where the input pins none; ``wanted`` are its specifiers then. ``files`` are
    those that the input lists; with ``complete``, an installer takes one of these and no other.
    ``where`` is the URL or the path of what does not come from an index. ``development`` says that
    only a dependency group of development asks for it. ``before`` is when what is not pinned was
    in use: newer releases cannot have been.
    """

    name: str
    version: str
    origin: str
    source: Source = "index"
    where: str = ""
    wanted: SpecifierSet = field(default_factory=SpecifierSet)
    files: tuple[LockedFile, ...] = ()
    hashes: frozenset[str] = frozenset()
    complete: bool = False
    development: bool = False
    installed: Installed | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What an input brings to the target; ``notes`` are said to who reads the audit."""

    path: Path
    form: str
    distributions: tuple[Locked, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which groups and extras are audited: as in uv, the default groups unless ``dev`` is off."""

    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    dev: bool = True
    all_groups: bool = False
    all_extras: bool = False


# For the tables of somebody else's format: what is not named here does not matter to the audit.
FOREIGN = ConfigDict(
    extra="ignore", frozen=True, alias_generator=lambda name: name.replace("_", "-")
)

Model = TypeVar("Model", bound=BaseModel)


def parsed(path: Path, form: str, model: type[Model], content: Mapping[str, Any]) -> Model:
    """The content as a model. Raises AuditError with each place that is not as it should be."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg'].lower()}" for item in error.errors()
        ]
        raise broken(path, form, problems) from error


def broken(path: Path, form: str, problems: Sequence[str]) -> AuditError:
    """The error for a file of which something cannot be read."""
    return AuditError(
        f"{path} is no valid {form}",
        problems=problems[:8],
        hint="write it again with the tool that made it, or restore it from version control",
    )


def unknown_version(path: Path, form: str, found: object, known: str) -> AuditError:
    """The error for a format that is newer than this program, or older than it reads."""
    return AuditError(
        f"{path}: version {found} of {form}; this Freewheel reads {known}",
        hint="use a newer Freewheel, or export it: `uv export --format pylock.toml`",
    )


def read_toml(path: Path, text: str) -> dict[str, Any]:
    """Raises AuditError that names the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise broken(path, "TOML; it may be cut short", [str(error)]) from error


def read_json(path: Path, text: str) -> dict[str, Any]:
    """Raises AuditError that names the line."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise broken(path, "JSON; it may be cut short", [str(error)]) from error
    if not isinstance(content, dict):
        raise broken(path, "JSON lock", ["it is not an object"])
    return content


def holds(marker: str, target: Target, extras: Iterable[str] = ()) -> bool:
    """Whether a marker is true for the target, with any of these extras or without one.

    Raises ValueError where it is no marker.
    """
    if not marker:
        return True
    try:
        condition = Marker(marker)
        values = [{**target.environment, "extra": extra} for extra in ("", *extras)]
        return any(condition.evaluate(cast("dict[str, str]", value)) for value in values)
    except InvalidMarker as error:
        raise ValueError(f"{marker!r} is not a marker: {error}") from error


def python_note(requires_python: str, target: Target) -> str:
    """What to say where an input was made for other interpreters than the target; "" if not."""
    try:
        fits = SpecifierSet(requires_python).contains(target.full_version, prereleases=True)
    except InvalidSpecifier:
        return f"requires-python {requires_python!r} cannot be read and was left aside"
    if fits:
        return ""
    wanted = target.interpreter.request
    return (
        f"it is locked for Python {requires_python}, not for {wanted}: the same releases are "
        "audited as if it were, with the files that the index has of them"
    )


def sha256_of(value: str) -> str:
    """The digest in ``sha256:<digest>``; "" for another kind of hash."""
    kind, _, digest = value.partition(":")
    return digest if kind == "sha256" else ""


def name_in(url: str) -> str:
    """The file name at the end of a URL or path."""
    return unquote(urlsplit(url).path).replace("\\", "/").rpartition("/")[2]


def required(lines: Iterable[str]) -> Iterator[str]:
    """The projects in Requires-Dist fields; a line that is none is left aside."""
    for line in lines:
        try:
            yield canonicalize_name(Requirement(line).name)
        except InvalidRequirement:
            continue
