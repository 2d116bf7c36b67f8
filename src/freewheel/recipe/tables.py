"""What the tables of recipes and programs are made of, and what is said of one that is not valid.

A table is the value that is worked with: strict, frozen, without unknown keys. In TOML its keys
have dashes, in code underscores.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeVar, get_args

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

_T = TypeVar("_T")
_Table = TypeVar("_Table", bound="Table")
_DIGEST = r"^[0-9a-f]{64}$"
_URL = r"^https://\S+$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_PURL = r"^pkg:[a-z]+/\S+@\S+$"
_TARGET = r"^cp\d+t?-[a-z]+_[a-z0-9_]+$"
_PATCH = r"^\d{4}-[a-z0-9]+(-[a-z0-9]+)*\.patch$"
_LINE = r"^[^\n]+$"
# Said in the place of a pattern that a text does not fit.
_IN_WORDS = {
    _DIGEST: "64 hexadecimal digits",
    _URL: "an address that begins with https://",
    _VARIABLE: "the name of a variable",
    _PURL: "a package URL with a version, such as pkg:github/nodejs/llhttp@v9.3.0",
    _TARGET: "a build identifier, such as cp314t-manylinux_x86_64",
    _PATCH: "the name of a patch, such as 0001-keep-the-buffer.patch",
    _LINE: "one line",
}


class Table(BaseModel):
    """A table as it is written and as it is used."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=lambda name: name.replace("_", "-"),
        validate_by_name=True,
        arbitrary_types_allowed=True,
    )


# -------------------------------------------------------------------------------- types of values


def _inside(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a path inside the source tree")
    return value


def _specifiers(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return SpecifierSet(value)
    except InvalidSpecifier as error:
        raise ValueError(f"must be version specifiers, such as '<=0.31.0': {error}") from error


def _canonical(value: str) -> str:
    if canonicalize_name(value) != value:
        raise ValueError(f"must be in normalised form: {canonicalize_name(value)!r}")
    return value


# A list in TOML, a tuple here; what is in it stays strict.
Many = Annotated[tuple[_T, ...], Field(strict=False)]
Some = Annotated[tuple[_T, ...], Field(strict=False, min_length=1)]
TreePath = Annotated[str, StringConstraints(min_length=1), AfterValidator(_inside)]
ProjectName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_canonical)]
ImportName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
Specifiers = Annotated[SpecifierSet, BeforeValidator(_specifiers)]
Variable = Annotated[str, StringConstraints(pattern=_VARIABLE)]
Digest = Annotated[str, StringConstraints(pattern=_DIGEST)]
Url = Annotated[str, StringConstraints(pattern=_URL)]
Word = Annotated[str, StringConstraints(min_length=1, pattern=r"^\S+$")]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=_LINE)]
Reason = Annotated[str, StringConstraints(min_length=10, max_length=160, pattern=_LINE)]
Message = Annotated[str, StringConstraints(min_length=1, pattern=_LINE)]
PackageUrl = Annotated[str, StringConstraints(pattern=_PURL)]
Target = Annotated[str, StringConstraints(pattern=_TARGET)]
PatchName = Annotated[str, StringConstraints(pattern=_PATCH)]
EVERY = SpecifierSet()


# ------------------------------------------------------------------------- reading, and messages


def read(model: type[_Table], raw: object) -> _Table:
    """The table. Raises ValidationError, which ``describe`` puts into words."""
    return model.model_validate(raw, by_alias=True, by_name=False)


def describe(error: ValidationError, model: type[Table]) -> list[str]:
    """Each problem with the path of its key and, for a key that is unknown, the nearest name."""
    return [_describe(item, model) for item in error.errors()]


def nearest(name: str, candidates: Sequence[str]) -> str:
    """The candidate that was probably meant, or ""."""
    matches = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    return matches[0] if matches else ""


def _describe(item: Mapping[str, Any], model: type[Table]) -> str:
    location = [part for part in item["loc"] if part != "[key]"]
    where = ".".join(f'"{part}"' if "." in str(part) else str(part) for part in location)
    match item["type"]:
        case "extra_forbidden":
            known = _keys_at(location[:-1], model)
            meant = nearest(str(location[-1]), known)
            said = f"did you mean {meant}?" if meant else f"known are {', '.join(known)}"
            return f"{where}: unknown key; {said}"
        case "missing":
            return f"{where}: missing"
        case "string_pattern_mismatch":
            pattern = item["ctx"]["pattern"]
            words = _IN_WORDS.get(pattern)
            said = f"must be {words}, is" if words else f"does not match {pattern}:"
            return f"{where}: {said} {item['input']!r}"
        case "too_short":
            return f"{where}: needs at least {item['ctx']['min_length']}, has {len(item['input'])}"
        case "value_error":
            return f"{where}: {item['ctx']['error']}"
        case _:
            return f"{where}: {item['msg'].lower()}, is {item['input']!r}"


def _keys_at(location: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    """The valid keys of the table at that place."""
    for step in location:
        named = {field.alias or name: field for name, field in model.model_fields.items()}
        # A step into a list or a dictionary, by index or by release, stays at the same model.
        if step in named:
            model = _model_in(named[str(step)].annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The table in an annotation such as ``tuple[SomeTable, ...]`` or ``SomeTable | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
