"""The checks of a finished wheel by their codes, and those that read its archive alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from installer.sources import WheelFile
from packaging.tags import parse_tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from freewheel.base.members import ArchiveError
from freewheel.base.wheel_archive import WheelArchive, open_wheel
from freewheel.recipe.platforms import find_platform

# The checks, in the order in which they run. Codes are stable: a number is never used again.
CHECKS = {
    "FW101": "the file name is valid and names the project and the version",
    "FW102": "METADATA, .dist-info and the file name agree on name and version",
    "FW103": "the tags in WHEEL are those of the file name",
    "FW104": "the tags are the target's: its interpreter, its ABI and a platform policy",
    "FW105": "RECORD lists every file with its right digest and size",
    "FW106": "the shared libraries that were grafted into the wheel are those of build.grafts",
    "FW107": "there are extension modules, all for the free-threaded ABI (in a pure wheel: none)",
    "FW108": "the SBOM is there, validates and names this wheel's version (patched wheels only)",
    "FW109": "upstream's licence files are in .dist-info/licenses",
    "FW110": "at the top of the archive are the import package and .dist-info alone",
    "FW201": "the wheel installs into a fresh environment",
    "FW202": "the package and each extension module import, with warnings as errors",
    "FW203": "after all imports the GIL is still off",
    "FW204": "the package's own version and the installed version are the wheel's",
}
PURE_TAG = "py3-none-any"
# What auditwheel puts before the first dot of a library's name.
_SUFFIX = re.compile(r"^([^.]+)-[0-9a-f]{8}(?=\.)")
_EXTENSION = re.compile(r"^(?P<module>.+?)\.(?P<abi>[^/]+)\.(so|pyd)$")
# What the interpreter runs by itself where it finds it.
_STARTED = {"sitecustomize", "usercustomize"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One check that a wheel did not pass."""

    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.code} {CHECKS[self.code]}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a wheel is to be. ``target`` is a cibuildwheel build identifier.

    A ``pure`` wheel has no extension modules and is for any platform. ``grafts`` are the shared
    libraries that the repair may bring into the wheel, such as ``libpq.so.5``.
    """

    project: str
    version: str
    target: str
    import_name: str
    pure: bool = False
    grafts: tuple[str, ...] = ()


def static_failures(path: Path, expected: Expected) -> Iterator[Failure]:
    """What can be told from the archive alone."""
    project, version = expected.project, expected.version
    try:
        name, parsed, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        yield Failure(code="FW101", detail=str(error))
        return
    if name != project or parsed != Version(version):
        detail = f"{path.name} says {name} {parsed}, not {project} {version}"
        yield Failure(code="FW101", detail=detail)
    try:
        with open_wheel(path) as wheel:
            yield from _metadata_failures(wheel, project, version)
            yield from _tag_failures(wheel, {str(tag) for tag in tags}, expected)
            yield from _record_failures(wheel)
            if Version(version).local:
                yield from _sbom_failures(wheel, project, version)
            yield from _licence_failures(wheel)
            yield from _graft_failures(wheel.names, expected.grafts)
            yield from _extension_failures(wheel.names, expected)
            yield from _top_failures(wheel, expected.import_name)
    except ArchiveError as error:
        yield Failure(code="FW105", detail=error.summary)


def _metadata_failures(wheel: WheelArchive, project: str, version: str) -> Iterator[Failure]:
    expected = f"{project.replace('-', '_')}-{version}.dist-info"
    if wheel.dist_info != expected:
        yield Failure(code="FW102", detail=f"{wheel.dist_info} should be {expected}")
    metadata = wheel.headers("METADATA")
    if canonicalize_name(str(metadata["Name"])) != project:
        yield Failure(code="FW102", detail=f"METADATA names {metadata['Name']}")
    if metadata["Version"] != version:
        yield Failure(code="FW102", detail=f"METADATA says version {metadata['Version']}")


def _tag_failures(wheel: WheelArchive, tags: set[str], expected: Expected) -> Iterator[Failure]:
    lines = [str(line) for line in wheel.headers("WHEEL").get_all("Tag", [])]
    try:
        listed = {str(tag) for line in lines for tag in parse_tag(line)}
    except ValueError as error:
        yield Failure(code="FW103", detail=f"WHEEL lists {lines}: {error}")
        return
    if listed != tags:
        detail = f"WHEEL lists {sorted(listed)}, the file name {sorted(tags)}"
        yield Failure(code="FW103", detail=detail)
    if expected.pure:
        if tags != {PURE_TAG}:
            yield Failure(code="FW104", detail=f"{', '.join(sorted(tags))} is not {PURE_TAG}")
        return
    platform = find_platform(expected.target)
    if platform is None:
        yield Failure(code="FW104", detail=f"{expected.target!r} is no target that is known")
        return
    abi = expected.target.partition("-")[0]
    for tag in sorted(tags):
        interpreter, tag_abi, tag_platform = tag.split("-")
        if (interpreter, tag_abi) != (abi.removesuffix("t"), abi):
            yield Failure(code="FW104", detail=f"{tag} is not for {abi}")
        if not platform.takes(tag_platform):
            yield Failure(code="FW104", detail=f"{tag_platform} is not a {platform.name} policy")


def _record_failures(wheel: WheelArchive) -> Iterator[Failure]:
    try:
        WheelFile(wheel.zip).validate_record(validate_contents=True)
    except Exception as error:  # noqa: BLE001  installer has a different class for each kind
        issues = getattr(error, "issues", None) or [str(error)]
        for issue in issues:
            yield Failure(code="FW105", detail=str(issue))


def _sbom_failures(wheel: WheelArchive, project: str, version: str) -> Iterator[Failure]:
    # Imported where a wheel is checked: a build that finds nothing to do need not wait for it.
    from freewheel.build import sbom  # noqa: PLC0415

    member = f"{wheel.dist_info}/{sbom.MEMBER}"
    if member not in wheel.names:
        yield Failure(code="FW108", detail=f"there is no {member}")
        return
    for problem in sbom.problems(wheel.read(member), project, version):
        yield Failure(code="FW108", detail=problem)


def _licence_failures(wheel: WheelArchive) -> Iterator[Failure]:
    listed = wheel.headers("METADATA").get_all("License-File", [])
    if not listed:
        yield Failure(code="FW109", detail="METADATA lists no License-File")
    for name in listed:
        if f"{wheel.dist_info}/licenses/{name}" not in wheel.names:
            yield Failure(code="FW109", detail=f"{name} is listed, but not there")


def _top_failures(wheel: WheelArchive, import_name: str) -> Iterator[Failure]:
    """Another package, or what runs at each start of the interpreter, would come in unseen.

    Beside the import package may stand its own private modules, such as ``_speedy`` of ``speedy``,
    and the C headers of .data.
    """
    top = import_name.partition(".")[0].lstrip("_")
    data = wheel.dist_info.removesuffix(".dist-info") + ".data"
    for name in wheel.names:
        first, _, rest = name.partition("/")
        module = first if rest else first.partition(".")[0]
        bare = module.lstrip("_")
        own = bare == top or bare.startswith(f"{top}_")
        if first == wheel.dist_info or (first == data and rest.startswith("headers/")):
            continue
        if first.endswith(".libs"):  # FW106 says so
            continue
        if first.endswith(".pth") or not own or module in {*_STARTED, *sys.stdlib_module_names}:
            yield Failure(code="FW110", detail=f"{name} is not of {import_name}")


def grafted(members: Iterable[str]) -> Iterator[str]:
    """The members that a repair brought in: shared libraries of the system that built the wheel."""
    for member in members:
        # Beside the package on Linux and Windows; inside it on macOS.
        directories = PurePosixPath(member).parts[:-1]
        if any(name == ".dylibs" or name.endswith(".libs") for name in directories):
            yield member


def graft_of(member: str, grafts: Iterable[str]) -> str | None:
    """Which of the libraries a grafted member is; None where it is none of them.

    The repair puts a part of the content's digest into the name: libpq-0123abcd.so.5.15.
    """
    plain = _SUFFIX.sub(r"\1", PurePosixPath(member).name)
    return next((name for name in grafts if plain == name or plain.startswith(f"{name}.")), None)


def _graft_failures(members: Iterable[str], grafts: Sequence[str]) -> Iterator[Failure]:
    found: set[str] = set()
    for member in grafted(members):
        if name := graft_of(member, grafts):
            found.add(name)
        else:
            yield Failure(code="FW106", detail=member)
    for name in sorted(set(grafts) - found):
        yield Failure(code="FW106", detail=f"{name} is in build.grafts, and not in the wheel")


def _extension_failures(members: Iterable[str], expected: Expected) -> Iterator[Failure]:
    abi = expected.target.partition("-")[0].removeprefix("cp")
    extensions = [match for member in members if (match := _EXTENSION.match(member))]
    if expected.pure:
        for match in extensions:
            yield Failure(code="FW107", detail=f"{match[0]}, in a wheel for any platform")
        return
    if not extensions:
        yield Failure(code="FW107", detail="no extension module at all")
    for match in extensions:
        if f"cpython-{abi}-" not in match["abi"] and f"cp{abi}-" not in match["abi"]:
            yield Failure(code="FW107", detail=f"{match[0]} is not for cp{abi}")


def extension_modules(path: Path) -> list[str]:
    """The dotted names of the extension modules in a wheel."""
    with open_wheel(path) as wheel:
        matches = [match for name in wheel.names if (match := _EXTENSION.match(name))]
    return sorted(match["module"].replace("/", ".") for match in matches)
