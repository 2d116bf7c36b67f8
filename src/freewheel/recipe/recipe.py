"""Stage *load*: a TOML file in ``recipes/`` becomes a Recipe, or a list of all its problems."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, get_args

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    StringConstraints,
    ValidationError,
)

from freewheel.base.errors import RecipeError
from freewheel.recipe.building import Build, Licence, ProjectName
from freewheel.recipe.suite import Suite, SuiteTable, to_suite
from freewheel.recipe.tables import STRICT, ImportName, Many, TreePath
from freewheel.recipe.targets import CANDIDATES, Limit, LimitTable, Targets, to_limits
from freewheel.recipe.targets import problems as target_problems

# ---------------------------------------------------------------------- what a recipe hands over


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendored:
    """A part of another project that lies in the source tree at ``path`` and gets into the wheel.

    ``licence`` is an SPDX expression; ``purl`` a package URL, by which advisories are found, or "".
    """

    name: str
    version: str
    licence: str
    path: PurePosixPath
    purl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One upstream release that a recipe carries, with the patch series for it.

    ``revision`` is the N of the local version identifier ``+ft.N``; it grows whenever the bytes of
    the patched wheel change. ``released`` is when upstream uploaded the sdist (UTC).
    """

    project: str
    version: str
    sha256: str
    released: datetime
    revision: int
    patches: tuple[Path, ...]
    vendored: tuple[Vendored, ...] = ()

    @property
    def local_version(self) -> str:
        """``X+ft.N`` (PEP 440): satisfies ``==X``, ranks above X, and no public index takes it."""
        return f"{self.version}+ft.{self.revision}"

    @property
    def sdist_name(self) -> str:
        """The file name of upstream's sdist (PEP 625)."""
        return f"{self.project.replace('-', '_')}-{self.version}.tar.gz"

    @property
    def source_date_epoch(self) -> int:
        """Seconds since 1970, for SOURCE_DATE_EPOCH."""
        return int(self.released.timestamp())


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that is known of one project; releases are sorted, newest first."""

    path: Path
    name: str
    summary: str
    import_name: str
    source_url: str
    build: Build
    targets: Targets
    releases: tuple[Release, ...]
    suite: Suite | None = None

    @property
    def default_release(self) -> Release:
        """The newest release."""
        return self.releases[0]

    def release(self, version: str) -> Release:
        """The release with that version; RecipeError names the nearest one where there is none."""
        for release in self.releases:
            if release.version == version:
                return release
        carried = [release.version for release in self.releases]
        raise RecipeError(
            f"{self.path.name}: no release {version!r} in [releases]",
            hint=f"use {_nearest(version, carried) or carried[0]}; "
            f"the recipe carries {', '.join(carried)}",
        )


# ------------------------------------------------------------------------- the shape of the file


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("needs an offset, such as Z for UTC")
    return value.astimezone(UTC)


def _toml_datetime(value: object) -> object:
    # tomllib has parsed it already; a string here would be a date in quotes.
    if not isinstance(value, datetime):
        raise ValueError("must be a date and time without quotes, such as 2026-10-06T20:32:40Z")  # noqa: TRY004  pydantic gathers these
    return value


Sentence = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\n]+$")]
Url = Annotated[str, StringConstraints(pattern=r"^https://")]
Target = Annotated[str, StringConstraints(pattern=r"^cp\d+t?-[a-z]+_[a-z0-9_]+$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[datetime, BeforeValidator(_toml_datetime), AfterValidator(_utc)]
Word = Annotated[str, StringConstraints(pattern=r"^\S+$")]
PackageUrl = Annotated[str, StringConstraints(pattern=r"^pkg:[a-z]+/\S+@\S+$")]
PatchName = Annotated[str, StringConstraints(pattern=r"^\d{4}-[a-z0-9]+(-[a-z0-9]+)*\.patch$")]


class _Table(BaseModel):
    model_config = STRICT


class _ProjectTable(_Table):
    name: ProjectName
    summary: Sentence
    import_name: ImportName
    source_url: Url


class _BuildTable(Build):
    targets: Many[Target]
    unproven: Many[LimitTable] = ()
    excluded: Many[LimitTable] = ()


class _VendoredTable(_Table):
    name: Word
    version: Word
    licence: Licence
    path: TreePath
    purl: PackageUrl | None = None


class _ReleaseTable(_Table):
    sha256: Digest
    released: Moment
    revision: int
    patches: list[PatchName]
    vendored: list[_VendoredTable] = []


class _RecipeFile(_Table):
    project: _ProjectTable
    build: _BuildTable
    suite: SuiteTable | None = None
    releases: dict[str, _ReleaseTable]


# ------------------------------------------------------------------------------------- loading


def load_recipes(recipes: Path, patches: Path) -> tuple[Recipe, ...]:
    """Every recipe in the directory, by name. Raises RecipeError with the problems of all files."""
    found: list[Recipe] = []
    problems: list[str] = []
    for path in sorted(recipes.glob("*.toml")):
        try:
            found.append(load_recipe(path, patches))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise _invalid(problems)
    if not found:
        raise RecipeError(f"no recipe in {recipes}", hint="docs/recipes.md tells how to write one")
    return tuple(found)


def load_recipe(path: Path, patches: Path) -> Recipe:
    """Read one recipe and check it against the patch directory.

    Raises RecipeError that lists each problem with the file, the key's path and, for a misspelt
    key, the nearest valid name.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _invalid([f"{path.name}: not valid TOML: {error}"]) from error
    try:
        table = _RecipeFile.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = [f"{path.name}: {_describe(item)}" for item in error.errors()]
        raise _invalid(problems) from error
    recipe = _to_recipe(path, table, patches)
    problems = [f"{path.name}: {problem}" for problem in _semantic_problems(recipe, patches)]
    if problems:
        raise _invalid(problems)
    return recipe


def choose_recipe(recipes: Sequence[Recipe], name: str) -> Recipe:
    """The recipe of that project; raises RecipeError with the nearest name where there is none."""
    for recipe in recipes:
        if recipe.name == canonicalize_name(name):
            return recipe
    names = [recipe.name for recipe in recipes]
    nearest = _nearest(name, names)
    raise RecipeError(
        f"no recipe for {name!r}",
        hint=(f"did you mean {nearest}? " if nearest else "") + f"there are {', '.join(names)}",
    )


def versions_of(recipes: Iterable[Recipe]) -> set[tuple[str, str]]:
    """The wheels that those recipes build: names of projects, each with a local version."""
    return {
        (recipe.name, release.local_version) for recipe in recipes for release in recipe.releases
    }


def _to_recipe(path: Path, table: _RecipeFile, patches: Path) -> Recipe:
    releases = [
        Release(
            project=table.project.name,
            version=version,
            sha256=release.sha256,
            released=release.released,
            revision=release.revision,
            patches=tuple(
                patches / table.project.name / version / name for name in release.patches
            ),
            vendored=tuple(_to_vendored(part) for part in release.vendored),
        )
        for version, release in table.releases.items()
    ]
    return Recipe(
        path=path,
        name=table.project.name,
        summary=table.project.summary,
        import_name=table.project.import_name,
        source_url=table.project.source_url,
        build=table.build,
        targets=_to_targets(table.build),
        releases=tuple(sorted(releases, key=_sort_key, reverse=True)),
        suite=to_suite(table.suite) if table.suite else None,
    )


def _to_targets(build: _BuildTable) -> Targets:
    excluded = to_limits(build.excluded)
    if build.pure:
        others = tuple(target for target in CANDIDATES if target not in build.targets)
        excluded += (Limit(targets=others, reason="its one wheel is for every platform"),)
    return Targets(
        served=tuple(build.targets), unproven=to_limits(build.unproven), excluded=excluded
    )


def _to_vendored(table: _VendoredTable) -> Vendored:
    return Vendored(
        name=table.name,
        version=table.version,
        licence=table.licence,
        path=PurePosixPath(table.path),
        purl=table.purl or "",
    )


def _sort_key(release: Release) -> Version:
    try:
        return Version(release.version)
    except InvalidVersion:  # reported by _semantic_problems
        return Version("0")


def _semantic_problems(recipe: Recipe, patches: Path) -> Iterable[str]:
    """What the shape alone cannot tell."""
    if recipe.path.stem != recipe.name:
        yield f"project.name: is {recipe.name!r}, but the file is called {recipe.path.name}"
    yield from recipe.build.problems()
    if recipe.build.pure and len(recipe.targets.served) != 1:
        yield "build.targets: name one, where the one wheel of a pure project is built and proven"
    yield from target_problems(recipe.targets, [release.version for release in recipe.releases])
    if not recipe.releases:
        yield "releases: carries no release"
    for release in recipe.releases:
        yield from _release_problems(release)
    yield from _stray_directories(recipe, patches)


def _release_problems(release: Release) -> Iterable[str]:
    key = f'releases."{release.version}"'
    try:
        if str(Version(release.version)) != release.version:
            yield f"{key}: write the version in normal form, {Version(release.version)}"
        elif Version(release.version).local:
            yield f"{key}: a local version; name the upstream release, revision gives the +ft.N"
    except InvalidVersion:
        yield f"{key}: not a version (PEP 440)"
    if release.revision < 1:
        yield f"{key}.revision: must be at least 1, is {release.revision}"
    names = [path.name for path in release.patches]
    if names != sorted(set(names)):
        yield f"{key}.patches: must be in order, each once: {', '.join(sorted(set(names)))}"
    parts = [part.name for part in release.vendored]
    if parts != sorted(set(parts)):
        yield f"{key}.vendored: must be in order, each once: {', '.join(sorted(set(parts)))}"
    listed = set(release.patches)
    directory = release.patches[0].parent if release.patches else None
    present = set(directory.iterdir()) if directory and directory.is_dir() else set()
    for missing in sorted(listed - present):
        nearest = _nearest(missing.name, [path.name for path in present - listed])
        yield f"{key}.patches: {missing.name} is listed, but there is no such file" + (
            f"; did you mean {nearest}?" if nearest else ""
        )
    for unlisted in sorted(present - listed):
        yield f"{key}.patches: {unlisted.name} lies in {unlisted.parent.name}/, but is not listed"


def _stray_directories(recipe: Recipe, patches: Path) -> Iterable[str]:
    directory = patches / recipe.name
    carried = {release.version: release for release in recipe.releases}
    for found in sorted(directory.iterdir()) if directory.is_dir() else ():
        release = carried.get(found.name)
        if release is None:
            nearest = _nearest(found.name, list(carried))
            yield f"releases: patches/{recipe.name}/{found.name} belongs to no release" + (
                f"; did you mean {nearest}?" if nearest else ""
            )
        elif not release.patches:
            for unlisted in sorted(found.iterdir()):
                yield (
                    f'releases."{release.version}".patches: {unlisted.name} lies in '
                    f"{found.name}/, but is not listed"
                )


# ------------------------------------------------------------------------------------- messages


def _invalid(problems: Sequence[str]) -> RecipeError:
    return RecipeError(
        "the recipes are not valid" if len(problems) > 1 else "a recipe is not valid",
        problems=problems,
        hint="mend what is listed and run the command again; docs/recipes.md explains each key",
    )


def _describe(item: Mapping[str, Any]) -> str:
    where = _dotted(item["loc"])
    match item["type"]:
        case "extra_forbidden":
            nearest = _nearest(str(item["loc"][-1]), _keys_at(item["loc"][:-1]))
            known = ", ".join(_keys_at(item["loc"][:-1]))
            return f"{where}: unknown key; " + (
                f"did you mean {nearest}?" if nearest else f"known are {known}"
            )
        case "missing":
            return f"{where}: missing"
        case "string_pattern_mismatch":
            return f"{where}: {item['input']!r} does not match {item['ctx']['pattern']}"
        case "value_error":
            return f"{where}: {item['ctx']['error']}"
        case _:
            return f"{where}: {item['msg'].lower()}, is {item['input']!r}"


def _dotted(location: Sequence[str | int]) -> str:
    parts = [f'"{part}"' if "." in str(part) else str(part) for part in location]
    return ".".join(parts)


def _keys_at(location: Sequence[str | int]) -> list[str]:
    """The valid keys of the table at that place of a recipe."""
    model: type[BaseModel] = _RecipeFile
    for step in location:
        named = {field.alias or name: field for name, field in model.model_fields.items()}
        # A step into a list or a dictionary, by index or by release, stays at the same model.
        if step in named:
            model = _model_in(named[str(step)].annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The table in an annotation such as ``list[SomeTable]`` or ``SomeTable | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _nearest(name: str, candidates: Sequence[str]) -> str | None:
    matches = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    return matches[0] if matches else None
