"""Stage *load*: what a recipe says of the build: version, requirements, environment, options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.version import Version
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from freewheel.recipe.tables import (
    Digest,
    Many,
    Message,
    PackageUrl,
    ProjectName,
    Some,
    Table,
    TreePath,
    Url,
    Variable,
    Word,
)

# What the pipeline sets itself, so that equal inputs give equal bytes, offline.
_OURS = frozenset(
    {"AUDITWHEEL_PATCHER", "CPPFLAGS", "LC_ALL", "PYTHONHASHSEED", "SOURCE_DATE_EPOCH", "TZ"}
)
_OUR_PREFIXES = ("CIBW_", "PIP_", "UV_")
_MARKS = ("{version}", "{major}", "{minor}", "{micro}")


def _spdx(value: str) -> str:
    try:
        return canonicalize_license_expression(value)
    except InvalidLicenseExpression as error:
        raise ValueError(f"must be an SPDX licence expression: {error}") from error


PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]*$")]
Licence = Annotated[str, AfterValidator(_spdx)]
Option = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\s=]+$")]


class Place(Table):
    """One place where a project says its version, or from which it takes it.

    A ``file`` of the source in which ``pattern`` stands once; a ``variable`` of the environment
    that the build backend reads; or an ``attribute`` of the imported package, which is only
    checked. A pattern has ``{version}``, or ``{major}``, ``{minor}`` and ``{micro}``. ``becomes``
    is what takes the place of a file's pattern, where that is not the same pattern. What cannot
    carry a local version is not ``local``: it says upstream's version in the patched wheel too.
    """

    file: TreePath | None = None
    variable: Variable | None = None
    attribute: Literal["__version__"] | None = None
    pattern: Annotated[str, StringConstraints(min_length=1)] = "{version}"
    becomes: Annotated[str, StringConstraints(min_length=1)] | None = None
    local: bool = True

    @model_validator(mode="after")
    def _whole(self) -> Place:
        if sum(map(bool, (self.file, self.variable, self.attribute))) != 1:
            raise ValueError("needs one of file, variable and attribute")
        if self.becomes and (self.file is None or not self.local):
            raise ValueError("becomes is for a file that takes the local version")
        if not any(mark in (self.becomes or self.pattern) for mark in _MARKS):
            raise ValueError(f"{self.becomes or self.pattern!r} must contain {{version}}")
        for text in filter(None, (self.pattern, self.becomes)):
            _fill(text, "1.2.3")
        return self

    def says(self, version: str) -> str:
        """What stands there in the release with that version."""
        return _fill(self.pattern, version)

    def will_say(self, release: str, version: str) -> str:
        """What is there in a wheel whose version should be ``version``."""
        return _fill(self.becomes or self.pattern, version if self.local else release)


def _fill(pattern: str, version: str) -> str:
    numbers = Version(version)
    try:
        return pattern.format(
            version=version, major=numbers.major, minor=numbers.minor, micro=numbers.micro
        )
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(
            f"{pattern!r}: {{version}}, {{major}}, {{minor}} and {{micro}} are filled in; "
            "other braces are written twice"
        ) from error


class Vendored(Table):
    """A part of another project that lies in the source tree at ``path`` and gets into the wheel.

    ``licence`` is an SPDX expression; ``purl`` a package URL, by which advisories are found, or "".
    """

    name: Word
    version: Word
    licence: Licence
    path: TreePath
    purl: PackageUrl = ""


class SystemPackages(Table):
    """Packages of the image's distribution, by the names that each package manager has for them.

    ``apt`` is of the local image, ``dnf`` of the official one, ``apk`` of that with musl.
    """

    apt: Many[PackageName] = ()
    dnf: Many[PackageName] = ()
    apk: Many[PackageName] = ()

    def __bool__(self) -> bool:
        return any((self.apt, self.dnf, self.apk))


class Origin(Table):
    """One place where a source archive is downloaded from.

    ``index`` is the name of a project whose sdist it is; ``pool`` a path below the mirror of the
    distribution, as apt is configured with it; ``url`` an address.
    """

    index: ProjectName | None = None
    pool: Annotated[str, StringConstraints(pattern=r"^pool/\S+$")] | None = None
    url: Url | None = None

    @model_validator(mode="after")
    def _one(self) -> Origin:
        if sum(map(bool, (self.index, self.pool, self.url))) != 1:
            raise ValueError("needs one of index, pool and url")
        return self

    def __str__(self) -> str:
        return self.url or self.pool or f"the sdist of {self.index}"


class Library(Table):
    """A native library that ``commands`` build and install in the container, before the wheel.

    ``sources`` are tried in order; the archive must have the ``sha256``. ``licence`` is an SPDX
    expression, and ``licence_file`` where its text is in the archive.
    """

    name: PackageName
    version: Word
    sha256: Digest
    sources: Some[Origin]
    commands: Some[Message]
    licence: Licence
    licence_file: TreePath
    purl: PackageUrl = ""


class Graft(Table):
    """A shared library that comes into the wheel: its soname, and its licence.

    It is of the system's package that has it, or of a ``library`` that the recipe builds.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+.-]+\.so(\.\d+)*$")]
    licence: Licence
    library: PackageName | None = None


class Build(Table):
    """What shapes a wheel beside its source and its patches.

    ``requires`` names entries of the lock of build requirements, ``needs`` other recipes whose
    patched wheels are requirements too. ``environment`` and ``config_settings`` are handed to the
    build backend, for the sdist and for the wheel. ``generated`` are patterns of files that are
    made again from others. A ``pure`` project has no extension modules: one wheel, built for one
    target, serves all. ``system_packages`` and ``libraries`` are there when the wheel is built, and
    ``grafts`` are those of their shared libraries that come into it.
    """

    version: Many[Place]
    requires: Many[ProjectName]
    needs: Many[ProjectName] = ()
    environment: dict[Variable, str] = Field(default_factory=dict)
    config_settings: dict[Option, str | Many[str]] = Field(default_factory=dict)
    generated: Many[TreePath] = ()
    pure: bool = False
    system_packages: SystemPackages = Field(default_factory=SystemPackages)
    libraries: Many[Library] = ()
    grafts: Many[Graft] = ()

    @property
    def graft_names(self) -> tuple[str, ...]:
        return tuple(graft.name for graft in self.grafts)

    def variables(self, release: str, version: str) -> Mapping[str, str]:
        """The environment of a build whose version should be ``version``."""
        told = {
            place.variable: place.will_say(release, version)
            for place in self.version
            if place.variable
        }
        return {**self.environment, **told}

    def settings(self) -> Iterator[tuple[str, str]]:
        """Each config setting with each of its values."""
        for name, value in self.config_settings.items():
            for one in (value,) if isinstance(value, str) else value:
                yield name, one

    def module_versions(self, release: str, version: str) -> tuple[str | None, ...]:
        """What ``__version__`` of the imported package may be; None is for none at all."""
        told = [p.will_say(release, version) for p in self.version if p.attribute]
        return tuple(told) or (version, None)

    def problems(self) -> Iterator[str]:
        """What is wrong with it though each key is right."""
        if not any(place.local and not place.attribute for place in self.version):
            yield "build.version: no file and no variable in it takes the local version"
        if list(self.graft_names) != sorted(set(self.graft_names)):
            wanted = ", ".join(sorted(set(self.graft_names)))
            yield f"build.grafts: must be in order of name, each once: {wanted}"
        if self.pure and (self.grafts or self.libraries):
            yield "build.pure: a wheel without extension modules has no use for native libraries"
        yield from self._library_problems()
        for name in self.environment:
            if name in _OURS or name.startswith(_OUR_PREFIXES):
                yield f"build.environment.{name}: the pipeline sets it itself"
        if list(self.requires) != sorted(set(self.requires)):
            wanted = ", ".join(sorted(set(self.requires)))
            yield f"build.requires: must be in order, each once: {wanted}"

    def _library_problems(self) -> Iterator[str]:
        names = [library.name for library in self.libraries]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"build.libraries: {name} is there twice"
        for graft in self.grafts:
            if graft.library and graft.library not in names:
                known = ", ".join(names) or "none"
                yield f"build.grafts: {graft.name} is of {graft.library}; build.libraries: {known}"
