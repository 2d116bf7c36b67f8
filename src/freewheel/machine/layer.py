"""Packages of the system on top of the builder image, for recipes that need a library of it.

The layer has an identity of its own, the image's and the packages' names, so that the wheels of
other recipes stay fresh. What exactly is in it stands in /freewheel-layer.txt, and the licences of
its packages in /freewheel-licences/.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packageurl import PackageURL

from freewheel.base import console, files
from freewheel.base.errors import CommandFailed, MachineError
from freewheel.base.workspace import Workspace
from freewheel.machine import debian
from freewheel.machine.engine import Engine
from freewheel.machine.image import BuilderImage
from freewheel.recipe.building import SystemPackages

_LICENCES = "/freewheel-licences"
_MANIFEST = "/freewheel-layer.txt"
_REPOSITORY = "localhost/freewheel-layer"
_BUILD_TIMEOUT = 1800.0  # seconds
_READ_TIMEOUT = 120.0  # seconds to start a container that prints a file

_OF_LOCAL_IMAGES = f"""\
FROM {{base}}
COPY packages /tmp/packages
RUN dpkg --install /tmp/packages/*.deb && rm --recursive /tmp/packages
COPY licences {_LICENCES}
COPY manifest.txt {_MANIFEST}
"""
# By the network, since these images are of other distributions than this machine; not yet run.
_OF_OFFICIAL_IMAGES = {
    "dnf": f"""\
FROM {{base}}
RUN dnf --assumeyes --setopt=install_weak_deps=False --setopt=tsflags= install {{packages}} \\
    && mkdir {_LICENCES} && cd /usr/share/licenses \\
    && for name in *; do cat "$name"/* > "{_LICENCES}/$name"; done \\
    && rpm --query --all | sort > {_MANIFEST}
""",
    "apk": f"""\
FROM {{base}}
RUN apk add --no-cache {{packages}} && mkdir {_LICENCES} \\
    && apk info --verbose | sort > {_MANIFEST}
""",
}

# A line for each library, in fields.
_OWNERS = f"""\
. /etc/os-release
for library in "$@"; do
    if command -v dpkg-query > /dev/null; then
        system="deb $ID $VERSION_CODENAME"
        package=$(dpkg-query --search "*/$library" | head --lines=1 | cut --delimiter=: --fields=1)
        form='${{Package}} ${{Version}} ${{Architecture}}'
        found=$(dpkg-query --show --showformat="$form" "$package")
    else
        system="rpm $ID $ID-$VERSION_ID"
        path=$(ldconfig -p | awk -v name="$library" '$1 == name {{ print $NF; exit }}')
        form='%{{NAME}} %{{VERSION}}-%{{RELEASE}} %{{ARCH}}'
        found=$(rpm --query --file --queryformat "$form" "$path")
    fi
    echo "$library $system $found $(base64 --wrap=0 "{_LICENCES}/${{found%% *}}")"
done
"""


def identity(base: str, packages: SystemPackages) -> str:
    """The identity of an image with the packages on it; that of the image itself for none."""
    return f"{base}+packages:{digest_of(packages.model_dump_json())}" if packages else base


def base_of(identity: str) -> str:
    """The identity of the image below all layers."""
    return identity.partition("+")[0]


def find_or_make_layer(
    workspace: Workspace, engine: Engine, image: BuilderImage, packages: SystemPackages
) -> BuilderImage:
    """The image with the packages on it; present in the engine when this returns.

    Raises MachineError.
    """
    named = identity(image.identity, packages)
    reference = f"{_REPOSITORY}:{digest_of(named)}"
    with files.locked(workspace.locks / "layer.lock", what="adding packages to the image"):
        if not engine.ask_image(reference, "{{.Id}}"):
            _make(workspace, engine, image, packages, reference)
    manifest = digest_of(run_in(engine, reference, "cat", _MANIFEST), length=64)
    return replace(image, reference=reference, identity=named, manifest=manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The package of the image's distribution that a shared library is of.

    ``purl`` is its package URL, ``licence`` the text of its licence.
    """

    package: str
    version: str
    purl: str
    licence: str


def owners_of(engine: Engine, image: BuilderImage, libraries: Sequence[str]) -> dict[str, Owner]:
    """Ask the image which package has each library, such as ``libpq.so.5``. Raises MachineError."""
    try:
        said = run_in(engine, image.reference, "sh", "-euc", _OWNERS, "sh", *libraries)
        return dict(map(_owner, said.splitlines()))
    except (CommandFailed, ValueError) as error:
        raise MachineError(
            "the image does not say of which packages the grafted libraries are, or under which "
            "licences",
            problems=[f"asked for: {', '.join(libraries)}"],
            hint="name these packages themselves in build.system-packages",
            output=error.output if isinstance(error, CommandFailed) else "",
        ) from error


def _owner(line: str) -> tuple[str, Owner]:
    """What a line of ``_OWNERS`` says. Raises ValueError where a field is missing."""
    library, kind, family, suite, package, version, arch, licence = line.split()
    purl = PackageURL(kind, family, package, version, {"arch": arch, "distro": suite})
    text = base64.b64decode(licence).decode("utf-8", errors="replace")
    return library, Owner(package=package, version=version, purl=purl.to_string(), licence=text)


def run_in(engine: Engine, reference: str, *words: str) -> str:
    """What a program prints in a container of the image, offline. Raises CommandFailed."""
    plain = ("run", "--rm", "--network=none", *engine.create_args, "--entrypoint=")
    return engine.call(*plain, reference, *words, timeout=_READ_TIMEOUT).stdout


def _make(
    workspace: Workspace,
    engine: Engine,
    image: BuilderImage,
    packages: SystemPackages,
    reference: str,
) -> None:
    manager, names = _of_image(image, packages)
    console.note(f"adding {', '.join(names)} to the builder image")
    context = files.empty_directory(workspace.work / "layer" / reference.rpartition(":")[2])
    log = workspace.logs / "layer.log"
    log.unlink(missing_ok=True)
    try:
        if manager == "apt":
            network = ["--network=none"]
            text = _OF_LOCAL_IMAGES
            _assemble(engine, image, names, context)
        else:
            network = []
            text = _OF_OFFICIAL_IMAGES[manager]
        containerfile = text.format(base=image.reference, packages=" ".join(names))
        files.write_text(context / "Containerfile", containerfile)
        words = ["--file", str(context / "Containerfile"), "--tag", reference, str(context)]
        engine.call("build", *network, *words, log=log, timeout=_BUILD_TIMEOUT)
    except (debian.AptError, CommandFailed) as error:
        raise MachineError(
            f"{', '.join(names)} could not be added to the builder image",
            problems=[error.summary, *error.problems],
            hint=error.hint or f"read {log}; are the names in build.system-packages right?",
            output=error.output,
        ) from error
    shutil.rmtree(context)


def _of_image(image: BuilderImage, packages: SystemPackages) -> tuple[str, tuple[str, ...]]:
    """The package manager of an image, and the names that the recipe has for it."""
    musl = "musllinux" in image.reference
    manager = "apt" if image.origin == "local" else "apk" if musl else "dnf"
    names: tuple[str, ...] = getattr(packages, manager)
    if image.origin == "custom" or not names:
        why = (
            "an image that FREEWHEEL_IMAGE names must have its packages itself"
            if image.origin == "custom"
            else f"build.system-packages names none for {manager}"
        )
        raise MachineError(
            f"no packages can be added to {image.reference}",
            problems=[why],
            hint="name the packages in the recipe, or choose another image with FREEWHEEL_IMAGE",
        )
    return manager, names


def _assemble(engine: Engine, image: BuilderImage, names: Sequence[str], context: Path) -> None:
    """Packages that the image lacks, licences of all that the names need, and the manifest."""
    status = context / "status"
    files.write_text(status, run_in(engine, image.reference, "cat", "/var/lib/dpkg/status"))
    wanted = debian.download_packages(names, context / "packages", status=status)
    files.write_text(status, "")
    every = debian.download_packages(names, context / "every", status=status)
    for package in every:
        for name, text in debian.copyright_of(package):
            files.write_text(context / "licences" / name, text)
    lines = [f"base={image.identity} {image.manifest}"]
    lines += [f"{package.name} sha256:{files.sha256(package)}" for package in wanted]
    files.write_text(context / "manifest.txt", "".join(f"{line}\n" for line in lines))
    shutil.rmtree(context / "every")


def digest_of(text: str, length: int = 16) -> str:
    """The first ``length`` hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]
