"""Stage *verify*: coded checks on a finished wheel; what passes all of them leaves quarantine.

The static checks read the archive; the dynamic ones install it into a fresh cp314t environment and
import it, on this machine or, where that cannot load it, in the image. All failures are gathered.
VerifiedWheel is made here and nowhere else.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from installer.sources import WheelFile
from packaging.tags import parse_tag
from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import Version
from uv import find_uv_bin

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed, VerifyError
from freewheel.build.wheel import Container, Wheel
from freewheel.machine.interpreter import Interpreter, python_of
from freewheel.recipe.recipe import Recipe

# The checks, in the order in which they run. Codes are stable: a number is never used again.
CHECKS = {
    "FW101": "the file name is valid and names the project and the version",
    "FW102": "METADATA, .dist-info and the file name agree on name and version",
    "FW103": "the tags in WHEEL are those of the file name",
    "FW104": "the tags are the target's: its interpreter, its ABI and a platform policy",
    "FW105": "RECORD lists every file with its right digest and size",
    "FW106": "no shared library was grafted into the wheel",
    "FW107": "there are extension modules, all for the free-threaded ABI",
    "FW108": "the SBOM is there, validates and names this wheel's version (patched wheels only)",
    "FW109": "upstream's licence files are in .dist-info/licenses",
    "FW201": "the wheel installs into a fresh environment",
    "FW202": "the package and each extension module import, with warnings as errors",
    "FW203": "after all imports the GIL is still off",
    "FW204": "the package's own version and the installed version are the wheel's",
}
_IMPORTING = Path(__file__).with_name("importing.py")
_PATIENCE = 120.0  # seconds
_NOT_INSTALLED = 121  # the exit code that tells this from what importing does
_EXTENSION = re.compile(r"^(?P<module>.+?)\.(?P<abi>[^/]+)\.(so|pyd)$")
_POLICY = re.compile(r"^(many|musl)linux_\d+_\d+_\w+$|^macosx_\d+_\d+_\w+$|^win_\w+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One check that a wheel did not pass."""

    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.code} {CHECKS[self.code]}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedWheel:
    """A wheel that passed every check, identified by its digest; ``size`` is in bytes."""

    path: Path
    project: str
    version: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineWheel:
    """An unpatched wheel, built for comparison; it is not verified, and nothing publishes it.

    Its archive is sound. ``failures`` are the checks that it failed when it was imported, which
    may be the very defects that the patches mend.
    """

    path: Path
    project: str
    version: str
    sha256: str
    size: int
    failures: tuple[str, ...]


def check_wheel(
    wheel: Wheel, recipe: Recipe, *, place: Interpreter | Container, scratch: Path
) -> VerifiedWheel:
    """Run all checks; raises VerifyError that lists every failure with its code.

    ``place`` is where the wheel is imported. ``scratch`` is an empty directory for the environment
    that it is installed into.
    """
    failures = list(static_failures(wheel.path, recipe.name, wheel.version, wheel.target))
    failures += dynamic_failures(wheel, recipe, place, scratch)
    if failures:
        raise _refusal(wheel, failures)
    return _verified(wheel.path, recipe.name, wheel.version)


def check_baseline(
    wheel: Wheel, recipe: Recipe, *, place: Interpreter | Container, scratch: Path
) -> BaselineWheel:
    """Run the same checks on a baseline; only a fault of the archive raises VerifyError."""
    failures = list(static_failures(wheel.path, recipe.name, wheel.version, wheel.target))
    if failures:
        raise _refusal(wheel, failures)
    return BaselineWheel(
        path=wheel.path,
        project=recipe.name,
        version=wheel.version,
        sha256=files.sha256(wheel.path),
        size=wheel.path.stat().st_size,
        failures=tuple(map(str, dynamic_failures(wheel, recipe, place, scratch))),
    )


def _refusal(wheel: Wheel, failures: Sequence[Failure]) -> VerifyError:
    return VerifyError(
        f"{wheel.path.name} failed {len({failure.code for failure in failures})} "
        f"of {len(CHECKS)} checks",
        problems=[str(failure) for failure in failures],
        hint=f"the wheel stays in quarantine at {wheel.path}; mend the cause, not the check",
    )


def recall(path: Path, *, project: str, version: str, sha256: str) -> VerifiedWheel | None:
    """A wheel that an earlier run verified, if its bytes are still those; None if they are not."""
    if not path.is_file() or files.sha256(path) != sha256:
        return None
    return _verified(path, project, version)


def recall_baseline(
    path: Path, *, project: str, version: str, sha256: str, failures: Sequence[str]
) -> BaselineWheel | None:
    """A baseline that an earlier run made, if its bytes are still those; None if they are not."""
    if not path.is_file() or files.sha256(path) != sha256:
        return None
    return BaselineWheel(
        path=path,
        project=project,
        version=version,
        sha256=sha256,
        size=path.stat().st_size,
        failures=tuple(failures),
    )


def _verified(path: Path, project: str, version: str) -> VerifiedWheel:
    return VerifiedWheel(
        path=path,
        project=project,
        version=version,
        sha256=files.sha256(path),
        size=path.stat().st_size,
    )


# ------------------------------------------------------------------------------- static checks


def static_failures(path: Path, project: str, version: str, target: str) -> Iterator[Failure]:
    """What can be told from the archive alone. ``target`` is a cibuildwheel build identifier."""
    try:
        name, parsed, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        yield Failure(code="FW101", detail=str(error))
        return
    if name != project or parsed != Version(version):
        detail = f"{path.name} says {name} {parsed}, not {project} {version}"
        yield Failure(code="FW101", detail=detail)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            yield from _metadata_failures(archive, project, version)
            yield from _tag_failures(archive, {str(tag) for tag in tags}, target)
            yield from _record_failures(archive)
            if Version(version).local:
                yield from _sbom_failures(archive, project, version)
            yield from _licence_failures(archive)
    except (zipfile.BadZipFile, zlib.error) as error:
        yield Failure(code="FW105", detail=f"not a zip archive, or a damaged one: {error}")
        return
    yield from _grafted(members)
    yield from _extension_failures(members, target)


def _dist_info_members(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    """The members of that name, relative to a .dist-info directory; there should be one."""
    for member in archive.namelist():
        directory, _, rest = member.partition("/")
        if directory.endswith(".dist-info") and rest == name:
            yield member


def _dist_info(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[str, Message]]:
    """The files of that name in .dist-info directories, as headers; there should be one."""
    for member in _dist_info_members(archive, name):
        text = archive.read(member).decode("utf-8")
        yield member.partition("/")[0], HeaderParser().parsestr(text)


def _metadata_failures(archive: zipfile.ZipFile, project: str, version: str) -> Iterator[Failure]:
    found = list(_dist_info(archive, "METADATA"))
    if len(found) != 1:
        yield Failure(code="FW102", detail=f"{len(found)} METADATA files")
        return
    directory, metadata = found[0]
    expected = f"{project.replace('-', '_')}-{version}.dist-info"
    if directory != expected:
        yield Failure(code="FW102", detail=f"{directory} should be {expected}")
    if canonicalize_name(str(metadata["Name"])) != project:
        yield Failure(code="FW102", detail=f"METADATA names {metadata['Name']}")
    if metadata["Version"] != version:
        yield Failure(code="FW102", detail=f"METADATA says version {metadata['Version']}")


def _tag_failures(archive: zipfile.ZipFile, tags: set[str], target: str) -> Iterator[Failure]:
    for _, header in _dist_info(archive, "WHEEL"):
        listed = {str(tag) for line in header.get_all("Tag", []) for tag in parse_tag(line)}
        if listed != tags:
            detail = f"WHEEL lists {sorted(listed)}, the file name {sorted(tags)}"
            yield Failure(code="FW103", detail=detail)
    abi, _, platform = target.partition("-")
    kind, _, machine = platform.partition("_")
    for tag in sorted(tags):
        interpreter, tag_abi, tag_platform = tag.split("-")
        if (interpreter, tag_abi) != (abi.removesuffix("t"), abi):
            yield Failure(code="FW104", detail=f"{tag} is not for {abi}")
        policy = tag_platform.startswith(kind) and tag_platform.endswith(machine)
        alias = tag_platform in (f"manylinux2014_{machine}", f"manylinux2010_{machine}")
        alias = alias or tag_platform == f"manylinux1_{machine}"
        if not policy or not (_POLICY.match(tag_platform) or alias):
            yield Failure(code="FW104", detail=f"{tag_platform} is not a {platform} policy")


def _record_failures(archive: zipfile.ZipFile) -> Iterator[Failure]:
    try:
        WheelFile(archive).validate_record(validate_contents=True)
    except Exception as error:  # noqa: BLE001  installer has a different class for each kind
        issues = getattr(error, "issues", None) or [str(error)]
        for issue in issues:
            yield Failure(code="FW105", detail=str(issue))


def _sbom_failures(archive: zipfile.ZipFile, project: str, version: str) -> Iterator[Failure]:
    # Imported where a wheel is checked: a build that finds nothing to do need not wait for it.
    from freewheel.build import sbom  # noqa: PLC0415

    found = list(_dist_info_members(archive, sbom.MEMBER))
    if len(found) != 1:
        yield Failure(code="FW108", detail=f"{len(found)} members .dist-info/{sbom.MEMBER}")
    for member in found:
        for problem in sbom.problems(archive.read(member), project, version):
            yield Failure(code="FW108", detail=problem)


def _licence_failures(archive: zipfile.ZipFile) -> Iterator[Failure]:
    members = set(archive.namelist())
    for directory, metadata in _dist_info(archive, "METADATA"):
        listed = metadata.get_all("License-File", [])
        if not listed:
            yield Failure(code="FW109", detail="METADATA lists no License-File")
        for name in listed:
            if f"{directory}/licenses/{name}" not in members:
                yield Failure(code="FW109", detail=f"{name} is listed, but not there")


def _grafted(members: Iterable[str]) -> Iterator[Failure]:
    for member in members:
        # Beside the package on Linux and Windows; inside it on macOS.
        directories = PurePosixPath(member).parts[:-1]
        if any(name == ".dylibs" or name.endswith(".libs") for name in directories):
            yield Failure(code="FW106", detail=member)


def _extension_failures(members: Iterable[str], target: str) -> Iterator[Failure]:
    abi = target.partition("-")[0].removeprefix("cp")
    extensions = [match for member in members if (match := _EXTENSION.match(member))]
    if not extensions:
        yield Failure(code="FW107", detail="no extension module at all")
    for match in extensions:
        if f"cpython-{abi}-" not in match["abi"] and f"cp{abi}-" not in match["abi"]:
            yield Failure(code="FW107", detail=f"{match[0]} is not for cp{abi}")


# ------------------------------------------------------------------------------ dynamic checks


def extension_modules(path: Path) -> list[str]:
    """The dotted names of the extension modules in a wheel."""
    with zipfile.ZipFile(path) as archive:
        matches = [match for name in archive.namelist() if (match := _EXTENSION.match(name))]
    return sorted(match["module"].replace("/", ".") for match in matches)


def dynamic_failures(
    wheel: Wheel, recipe: Recipe, place: Interpreter | Container, scratch: Path
) -> Iterator[Failure]:
    """Install the wheel into a fresh environment and import all of it."""
    words = [recipe.name, recipe.import_name, *extension_modules(wheel.path)]
    try:
        if isinstance(place, Container):
            done = _import_in_image(wheel.path, words, place)
        else:
            done = _import_here(wheel.path, words, place, scratch)
    except CommandFailed as error:
        yield Failure(code="FW201", detail=error.output.strip() or str(error))
        return
    if done.returncode != 0:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        yield Failure(code="FW202", detail=f"importing ended with {ended}: {done.stderr[-2000:]}")
        return
    report = json.loads(done.stdout)
    for module, problem in report["failures"].items():
        yield Failure(code="FW202", detail=f"{module}: {problem}")
    if report["gil_turned_on_by"]:
        yield Failure(code="FW203", detail=f"{report['gil_turned_on_by']} turned it on")
    # Not every package has a __version__; where there is one, it must be right.
    if report["module_version"] not in recipe.build.module_versions(
        wheel.release.version, wheel.version
    ):
        yield Failure(code="FW204", detail=f"__version__ is {report['module_version']}")
    if report["metadata_version"] != wheel.version:
        yield Failure(code="FW204", detail=f"installed as {report['metadata_version']}")


def _import_here(
    wheel: Path, words: Sequence[str], interpreter: Interpreter, scratch: Path
) -> process.Finished:
    """Raises CommandFailed where the wheel does not install."""
    environment = scratch / "environment"
    python = python_of(environment)
    uv = find_uv_bin()
    process.run([uv, "venv", "--quiet", "--no-project", "-p", interpreter.path, environment])
    process.run([uv, "pip", "install", "--quiet", "--python", python, wheel])
    return process.run(
        [python, "-I", "-W", "error", _IMPORTING, *words],
        cwd=scratch,
        # A variable that forces the GIL on or off would hide what the modules do.
        env={"PYTHON_GIL": None},
        timeout=_PATIENCE,
        check=False,
    )


def _import_in_image(wheel: Path, words: Sequence[str], container: Container) -> process.Finished:
    """As above, in a container without a network; the wheel's own requirements are not there."""
    mounted = ((wheel, f"/wheel/{wheel.name}"), (_IMPORTING, "/importing.py"))
    abi = wheel.name.split("-")[-2]
    python = f"/opt/python/{abi.removesuffix('t')}-{abi}/bin/python"
    install = f"{python} -m venv /env && /env/bin/pip install --quiet --no-index --no-deps"
    script = f'{install} "$0" || exit {_NOT_INSTALLED}; exec /env/bin/python -I -W error "$@"'
    done = container.engine.call(
        *("run", "--rm", "--network=none", *container.engine.create_args),
        *(f"--volume={source}:{target}:ro" for source, target in mounted),
        *("--workdir=/tmp", "--entrypoint=sh", container.image.reference),
        *("-c", script, mounted[0][1], mounted[1][1], *words),
        check=False,
        timeout=_PATIENCE,
    )
    if done.returncode == _NOT_INSTALLED:
        raise CommandFailed(done.argv, done.returncode, done.stdout + done.stderr)
    return done
