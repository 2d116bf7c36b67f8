"""Native libraries that a wheel needs, built in the container from pinned source archives.

They are a layer on the builder image, below ``/usr/local``, with an identity of its own: other
recipes' wheels stay fresh. What was installed stands in /freewheel-libraries.txt, by digest.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from packageurl import PackageURL

from freewheel.base import console, files, http
from freewheel.base.errors import CommandFailed, FetchError, MachineError
from freewheel.base.members import ArchiveError
from freewheel.base.tars import open_tar
from freewheel.base.workspace import Workspace
from freewheel.build import source
from freewheel.machine import debian
from freewheel.machine.engine import Engine
from freewheel.machine.image import BuilderImage
from freewheel.machine.layer import Owner, digest_of, run_in
from freewheel.recipe.building import Library, Origin
from freewheel.recipe.recipe import Release

_REPOSITORY = "localhost/freewheel-libraries"
_MANIFEST = "/freewheel-libraries.txt"
_PLACE = "/freewheel-libraries"  # where they are built; -ffile-prefix-map takes it out of the bytes
_BUILD_TIMEOUT = 3600.0  # seconds
_MAX_ARCHIVE = 512 << 20  # bytes
_CONTAINERFILE = f"""\
FROM {{base}}
COPY libraries {_PLACE}
RUN sh -eu {_PLACE}/build.sh && rm -r {_PLACE}
"""
# Times are those of 2026-01-01, as in the local image.
_BEFORE = f"""\
export LC_ALL=C.UTF-8 TZ=UTC SOURCE_DATE_EPOCH=1767225600
export CPPFLAGS=-ffile-prefix-map={_PLACE}=.
export PKG_CONFIG_PATH=/usr/local/lib/pkgconfig:/usr/local/lib64/pkgconfig
touch {_PLACE}/began; sleep 1
"""
_AFTER = f"""\
if command -v ldconfig > /dev/null; then ldconfig; fi
find /usr /opt -xdev -type f -cnewer {_PLACE}/began -print0 \\
    | sort -z | xargs -0 -r sha256sum > {_MANIFEST}
"""


def identity(base: str, libraries: Sequence[Library]) -> str:
    """The identity of an image with the libraries on it; that of the image itself for none."""
    if not libraries:
        return base
    told = "".join(library.model_dump_json() for library in libraries)
    return f"{base}+libraries:{digest_of(told)}"


def find_or_make(
    workspace: Workspace, engine: Engine, image: BuilderImage, libraries: Sequence[Library]
) -> BuilderImage:
    """The image with the libraries on it; present in the engine when this returns.

    Raises FetchError and MachineError.
    """
    named = identity(image.identity, libraries)
    reference = f"{_REPOSITORY}:{digest_of(named)}"
    with files.locked(workspace.locks / "libraries.lock", what="building libraries in the image"):
        if not engine.ask_image(reference, "{{.Id}}"):
            _make(workspace, engine, image, libraries, reference)
    manifest = f"{image.manifest}\n{run_in(engine, reference, 'cat', _MANIFEST)}"
    return replace(
        image, reference=reference, identity=named, manifest=digest_of(manifest, length=64)
    )


def owners(workspace: Workspace, libraries: Sequence[Library]) -> dict[str, Owner]:
    """Each library by its name, as the owner of what is grafted from it, with its licence's text.

    Raises FetchError.
    """
    return {
        library.name: Owner(
            package=library.name,
            version=library.version,
            purl=purl_of(library),
            licence=_licence(fetch(workspace, library), library),
        )
        for library in libraries
    }


def licences(found: Mapping[str, Owner], libraries: Sequence[Library]) -> dict[str, str]:
    """The text of each library's licence, by the name of its member below .dist-info/licenses."""
    return {
        f"{library.name}/{PurePosixPath(library.licence_file).name}": found[library.name].licence
        for library in libraries
    }


def purl_of(library: Library) -> str:
    """Its package URL; a generic one where the recipe names none."""
    return library.purl or PackageURL("generic", None, library.name, library.version).to_string()


# ------------------------------------------------------------------------------------- fetching


def fetch(workspace: Workspace, library: Library) -> Path:
    """The library's source archive, its digest checked, kept in the cache. Raises FetchError."""
    kept = workspace.sources / library.sha256
    target = kept / f"{library.name}-{library.version}.tar"
    lock = workspace.sources / f"{library.sha256}.lock"
    problems: list[str] = []
    with files.locked(lock, what=f"fetching {library.name}"):
        if target.exists() and files.sha256(target) == library.sha256:
            return target
        for origin in library.sources:
            problem = _fetch(workspace, library, origin, target)
            if problem is None:
                console.note(f"{library.name} {library.version}: downloaded and checked")
                return target
            problems.append(f"{origin}: {problem}")
    raise FetchError(
        f"the source archive of {library.name} {library.version} could not be downloaded",
        problems=problems,
        hint="check the network; if a digest differs, compare sha256 in build.libraries with what "
        "the library's authors publish before changing it",
    )


def _fetch(workspace: Workspace, library: Library, origin: Origin, target: Path) -> str | None:
    """Try one place; what went wrong, or None."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if origin.pool:
        return _from_pool(origin.pool, library, target)
    if origin.url:
        return _from_url(origin.url, library, target)
    return _from_index(workspace, origin.index or "", library, target)


def _from_pool(path: str, library: Library, target: Path) -> str | None:
    if not debian.distribution().has_apt:
        return "this machine has no apt, which knows the mirrors"
    try:
        found = debian.download(path, sha256=library.sha256, target=target)
    except debian.AptError as error:
        return error.summary
    return None if found else "no mirror that apt is configured with has it with this digest"


def _from_url(url: str, library: Library, target: Path) -> str | None:
    partial = target.with_name(target.name + files.PARTIAL)
    try:
        with http.Session() as session:
            session.limit = _MAX_ARCHIVE
            answer = session.get(url)
            answer.raise_for_status()
        partial.write_bytes(answer.content)
        if (found := files.sha256(partial)) != library.sha256:
            return f"SHA-256 differs; expected {library.sha256}, received {found}"
        partial.replace(target)
    except http.ODD_ANSWERS as error:
        return http.said(error)
    finally:
        partial.unlink(missing_ok=True)
    return None


def _from_index(workspace: Workspace, project: str, library: Library, target: Path) -> str | None:
    release = Release(
        project=project,
        version=library.version,
        sha256=library.sha256,
        released=datetime(2026, 1, 1, tzinfo=UTC),
        revision=1,
        patches=(),
    )
    try:
        files.copy(source.fetch(release, workspace.sources / "libraries").path, target)
    except FetchError as error:
        return "; ".join([error.summary, *error.problems])
    return None


def _licence(archive: Path, library: Library) -> str:
    """The licence's text out of the archive. Raises FetchError."""
    try:
        with open_tar(archive) as tar:
            for member in tar.members:
                if member.path.partition("/")[2] == library.licence_file:
                    text = tar.read(member.path) or b""
                    return text.decode("utf-8", errors="replace")
    except ArchiveError as error:
        raise FetchError(
            f"{archive.name} cannot be read: {error.summary}",
            hint="the digest matches, so the archive is unsafe or damaged where it is published: "
            "do not build with it",
        ) from error
    raise FetchError(
        f"{library.name} {library.version}: the archive has no file {library.licence_file}",
        hint="correct licence-file in build.libraries: a path in the archive's one directory",
    )


# ------------------------------------------------------------------------------------- building


def _make(
    workspace: Workspace,
    engine: Engine,
    image: BuilderImage,
    libraries: Sequence[Library],
    reference: str,
) -> None:
    names = ", ".join(f"{library.name} {library.version}" for library in libraries)
    console.note(f"building {names} in the builder image")
    context = files.empty_directory(workspace.work / "libraries" / reference.rpartition(":")[2])
    for library in libraries:
        archive = fetch(workspace, library)
        _licence(archive, library)  # also checks the archive, before anything unpacks it
        files.copy(archive, context / "libraries" / archive.name)
    files.write_text(context / "libraries" / "build.sh", "".join(_script(libraries)))
    files.write_text(context / "Containerfile", _CONTAINERFILE.format(base=image.reference))
    log = workspace.logs / "libraries.log"
    log.unlink(missing_ok=True)
    words = ["--file", str(context / "Containerfile"), "--tag", reference, str(context)]
    try:
        engine.call("build", "--network=none", *words, log=log, timeout=_BUILD_TIMEOUT)
    except CommandFailed as error:
        raise MachineError(
            f"{names} could not be built in the builder image",
            problems=[f"the whole log: {log}"],
            hint="correct commands in build.libraries; they run without a network, in the "
            "library's directory",
            output=error.output,
        ) from error
    shutil.rmtree(context)


def _script(libraries: Sequence[Library]) -> Iterator[str]:
    yield _BEFORE
    for library in libraries:
        place = shlex.quote(f"{_PLACE}/{library.name}")
        archive = shlex.quote(f"{_PLACE}/{library.name}-{library.version}.tar")
        yield f"mkdir {place}\n"
        yield f"tar --extract --file {archive} --strip-components=1 --directory {place}\n"
        yield f"cd {place}\n"
        # Each in a shell of its own, so that a variable or directory of one is not the next one's.
        yield from (f"sh -euc {shlex.quote(command)}\n" for command in library.commands)
    yield _AFTER
