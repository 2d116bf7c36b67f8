"""Stage *load*: a TOML file in ``recipes/`` becomes a Recipe, or a list of all its problems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BeforeValidator,
    StringConstraints,
    ValidationError,
)

from freewheel.base import decoding
from freewheel.base.errors import RecipeError
from freewheel.recipe.building import Build, Vendored
from freewheel.recipe.suite import Suite, SuiteTable, to_suite
from freewheel.recipe.tables import (
    Digest,
    ImportName,
    Many,
    PatchName,
    ProjectName,
    Table,
    Target,
    Url,
    describe,
    nearest,
    read,
)
from freewheel.recipe.targets import CANDIDATES, Limit, Targets
from freewheel.recipe.targets import problems as target_problems

# ---------------------------------------------------------------------- what a recipe hands over


_MAX_REVISION = 99_999
_FIRST_YEAR, _LAST_YEAR = 1980, 2099  # that zip and gzip can both hold


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
            hint=f"use {nearest(version, carried) or carried[0]}; "
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


Summary = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\n]+$")]
Moment = Annotated[datetime, BeforeValidator(_toml_datetime), AfterValidator(_utc)]


class _ProjectTable(Table):
    name: ProjectName
    summary: Summary
    import_name: ImportName
    source_url: Url


class _BuildTable(Build):
    targets: Many[Target]
    unproven: Many[Limit] = ()
    excluded: Many[Limit] = ()


class _ReleaseTable(Table):
    sha256: Digest
    released: Moment
    revision: int
    patches: Many[PatchName]
    vendored: Many[Vendored] = ()


class _RecipeFile(Table):
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
    problems = problems or list(_need_problems(found))
    if problems:
        raise _invalid(problems)
    if not found:
        raise RecipeError(f"no recipe in {recipes}", hint="docs/recipes.md tells how to write one")
    return tuple(found)


def _need_problems(recipes: Sequence[Recipe]) -> Iterable[str]:
    """Needs that no recipe meets, and those that go round in a circle."""
    needs = {recipe.name: recipe.build.needs for recipe in recipes}
    for recipe in recipes:
        for name in recipe.build.needs:
            if name not in needs:
                meant = nearest(name, list(needs))
                said = f"; did you mean {meant}?" if meant else ""
                yield f"{recipe.path.name}: build.needs: there is no recipe for {name}{said}"
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        circle = " needs ".join(reversed(error.args[1]))
        yield f"build.needs: {circle}; one of them must be built first"


def load_recipe(path: Path, patches: Path) -> Recipe:
    """Read one recipe and check it against the patch directory.

    Raises RecipeError that lists each problem with the file, the key's path and, for a misspelt
    key, the nearest valid name.
    """
    try:
        raw = decoding.from_toml(decoding.read_plain(path), path.name)
    except decoding.DecodeError as error:
        raise _invalid([error.summary]) from error
    try:
        table = read(_RecipeFile, raw)
    except ValidationError as error:
        problems = [f"{path.name}: {problem}" for problem in describe(error, _RecipeFile)]
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
    meant = nearest(name, names)
    raise RecipeError(
        f"no recipe for {name!r}",
        hint=(f"did you mean {meant}? " if meant else "") + f"there are {', '.join(names)}",
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
            vendored=release.vendored,
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
    excluded = build.excluded
    if build.pure:
        others = tuple(target for target in CANDIDATES if target not in build.targets)
        excluded += (Limit(targets=others, reason="its one wheel is for every platform"),)
    return Targets(served=build.targets, unproven=build.unproven, excluded=excluded)


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
    if not 1 <= release.revision <= _MAX_REVISION:
        yield f"{key}.revision: must be from 1 to {_MAX_REVISION}"
    if not _FIRST_YEAR <= release.released.year <= _LAST_YEAR:
        yield f"{key}.released: must be from {_FIRST_YEAR} to {_LAST_YEAR}, as archives can say it"
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
        meant = nearest(missing.name, [path.name for path in present - listed])
        yield f"{key}.patches: {missing.name} is listed, but there is no such file" + (
            f"; did you mean {meant}?" if meant else ""
        )
    for unlisted in sorted(present - listed):
        yield f"{key}.patches: {unlisted.name} lies in {unlisted.parent.name}/, but is not listed"


def _stray_directories(recipe: Recipe, patches: Path) -> Iterable[str]:
    directory = patches / recipe.name
    carried = {release.version: release for release in recipe.releases}
    for found in sorted(directory.iterdir()) if directory.is_dir() else ():
        release = carried.get(found.name)
        if release is None:
            meant = nearest(found.name, list(carried))
            yield f"releases: patches/{recipe.name}/{found.name} belongs to no release" + (
                f"; did you mean {meant}?" if meant else ""
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
        hint="fix what is listed and run the command again; docs/recipes.md explains each key",
    )
