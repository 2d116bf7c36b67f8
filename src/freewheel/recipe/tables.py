"""What the tables of a recipe are made of: strict values, and paths that stay inside a tree."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

# Unknown keys are refused, and dashes stand for underscores.
STRICT = ConfigDict(
    extra="forbid",
    frozen=True,
    strict=True,
    alias_generator=lambda name: name.replace("_", "-"),
)
_T = TypeVar("_T")
# A list in TOML, a tuple here; what is in it stays strict.
Many = Annotated[tuple[_T, ...], Field(strict=False)]


class Table(BaseModel):
    """A table as it is written and as it is used; in code its keys have underscores."""

    model_config = STRICT | {"validate_by_name": True}


def _inside(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a path inside the source tree")
    return value


def _specifiers(value: str) -> str:
    try:
        SpecifierSet(value)
    except InvalidSpecifier as error:
        raise ValueError(f"must be version specifiers, such as '<=0.31.0': {error}") from error
    return value


TreePath = Annotated[str, StringConstraints(min_length=1), AfterValidator(_inside)]
ImportName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
Specifiers = Annotated[str, AfterValidator(_specifiers)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
