"""What a patched wheel is made of, as a CycloneDX SBOM: made and validated here, read by others.

It lies in the wheel itself, where PEP 770 wants it. All of it derives from the wheel's inputs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cyclonedx.model import AttachedText, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import (
    Component,
    ComponentScope,
    ComponentType,
    Diff,
    Patch,
    PatchClassification,
    Pedigree,
)
from cyclonedx.model.issue import IssueClassification, IssueType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot7
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from freewheel.base.errors import BuildError
from freewheel.build import patches
from freewheel.build.grafts import Grafted
from freewheel.build.libraries import purl_of
from freewheel.machine.image import BuilderImage
from freewheel.machine.requirements import read_lock
from freewheel.recipe.building import Library, Vendored
from freewheel.recipe.recipe import Recipe, Release

MEMBER = "sboms/freewheel.cdx.json"  # below .dist-info (PEP 770)
# Names of properties. The role says what a component is to the wheel.
ROLE, PATH = "freewheel:role", "freewheel:path"
IDENTITY, ORIGIN = "freewheel:identity", "freewheel:origin"
MANIFEST = "freewheel:manifest-sha256"
GRAFTED, BUILT = "grafted library", "built library"
VENDORED, REQUIREMENT, TOOL, IMAGE = "vendored", "build requirement", "build tool", "builder image"
_TOOLS = ("build", "cibuildwheel")
_SPECIFICATIONS = {
    version.to_version(): version
    for version in SchemaVersion
    if version >= SchemaVersion.V1_7  # the first that was ever written here
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What went into one patched wheel.

    ``licence`` is the SPDX expression of its METADATA, or "". ``requirements`` is the text of the
    lock of its build requirements.
    """

    file_name: str
    recipe: Recipe
    release: Release
    licence: str
    series: tuple[patches.Patch, ...]
    requirements: str
    image: BuilderImage
    grafts: tuple[Grafted, ...] = ()


def make(contents: Contents) -> str:
    """The SBOM as JSON text (CycloneDX 1.7); the same contents give the same text.

    Raises BuildError where a patch is not any more what was read when the build began.
    """
    bom = _bom(contents)
    # Over all that the document says, so over every input; the serial number itself is nil yet.
    digest = hashlib.sha256(_json(bom).encode()).hexdigest()
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sha256:{digest}")
    return _json(bom) + "\n"


def problems(content: bytes, project: str, version: str) -> list[str]:
    """What is wrong with an SBOM: the strict schema first, then whether it is about that wheel."""
    try:
        document = json.loads(content)
    except ValueError as error:
        return [f"not JSON: {error}"]
    # By the version that it names, which the schemas themselves leave open.
    stated = document.get("specVersion") if isinstance(document, dict) else None
    if stated not in _SPECIFICATIONS:
        return [f"$.specVersion: {stated!r} is no version of CycloneDX that is known here"]
    validator = JsonStrictValidator(_SPECIFICATIONS[stated])
    found = validator.validate_str(content.decode("utf-8"), all_errors=True)
    if found:
        return [f"{error.data.json_path}: {error.data.message[:200]}" for error in found]
    return list(_strangers(document, project, version))


def _strangers(document: dict[str, Any], project: str, version: str) -> Iterator[str]:
    """What an SBOM of the right shape says about another wheel."""
    main = document.get("metadata", {}).get("component", {})
    for key, wanted in (("name", project), ("version", version)):
        if main.get(key) != wanted:
            yield f"metadata.component.{key} is {main.get(key)!r}, not {wanted!r}"
    try:
        purl = PackageURL.from_string(main.get("purl", ""))
    except ValueError as error:
        yield f"metadata.component.purl: {error}"
    else:
        if (purl.type, purl.name, purl.version) != ("pypi", project, version):
            yield f"metadata.component.purl is {main['purl']!r}"


# ------------------------------------------------------------------------------------- the wheel


def _bom(contents: Contents) -> Bom:
    main = _wheel(contents)
    parts = [
        *map(_vendored, contents.release.vendored),
        *(_built(library, contents.image) for library in contents.recipe.build.libraries),
        *(_grafted(graft, contents.image) for graft in contents.grafts),
        *_build_components(contents),
    ]
    bom = Bom(
        serial_number=uuid.UUID(int=0),
        metadata=BomMetaData(
            timestamp=contents.release.released.replace(microsecond=0),
            # The specification means the tools that made this document; what made the wheel is
            # among the components. Our own version is not named: it is no input of the wheel.
            tools=ToolRepository(
                components=[
                    Component(
                        name="freewheel", type=ComponentType.APPLICATION, bom_ref="freewheel"
                    ),
                    _pypi("cyclonedx-python-lib", _installed("cyclonedx-python-lib")),
                ]
            ),
            lifecycles=[PredefinedLifecycle(LifecyclePhase.BUILD)],
            component=main,
        ),
        components=parts,
    )
    bom.register_dependency(main, parts)
    return bom


def _wheel(contents: Contents) -> Component:
    release = contents.release
    purl = PackageURL(
        "pypi",
        None,
        release.project,
        release.local_version,
        {"file_name": contents.file_name},
    )
    return Component(
        name=release.project,
        version=release.local_version,
        type=ComponentType.LIBRARY,
        description=f"{release.project} {release.version}, patched and built by Freewheel",
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=[LicenseExpression(contents.licence)] if contents.licence else [],
        pedigree=Pedigree(
            ancestors=[_upstream(release)],
            patches=[_patch(release, patch) for patch in contents.series],
        ),
    )


def _upstream(release: Release) -> Component:
    """The release as upstream published it: its sdist, by digest."""
    named = {"file_name": release.sdist_name}
    purl = PackageURL("pypi", None, release.project, release.version, named)
    return Component(
        name=release.project,
        version=release.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=[_sha256(release.sha256)],
    )


def _patch(release: Release, patch: patches.Patch) -> Patch:
    content = patch.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != patch.sha256:
        raise BuildError(
            f"{patch.name} was changed while {release.project} {release.version} was built",
            hint="run the same command again",
        )
    return Patch(
        type=PatchClassification.UNOFFICIAL,
        diff=Diff(
            # The whole file, header and all, so that its digest can be checked against the text.
            text=AttachedText(content=content.decode("utf-8"), content_type="text/x-diff"),
            # A patch has no field for a digest; it stands where the Simple API has it in URLs.
            url=XsUri(
                f"patches/{release.project}/{release.version}/{patch.name}#sha256={patch.sha256}"
            ),
        ),
        resolves=[
            IssueType(
                type=IssueClassification.DEFECT,
                id=defect,
                name=patch.summary,
                description=patch.fields["Description"],
            )
            for defect in patch.defects
        ],
    )


# --------------------------------------------------------------------------------- its components


def _vendored(part: Vendored) -> Component:
    purl = PackageURL.from_string(part.purl) if part.purl else None
    return Component(
        name=part.name,
        version=part.version,
        type=ComponentType.LIBRARY,
        scope=ComponentScope.REQUIRED,
        purl=purl,
        bom_ref=part.purl or f"vendored:{part.name}@{part.version}",
        licenses=[LicenseExpression(part.licence)],
        properties=[
            Property(name=ROLE, value=VENDORED),
            Property(name=PATH, value=str(part.path)),
        ],
    )


def _built(library: Library, image: BuilderImage) -> Component:
    """A library that the recipe builds; the digest is of its source archive."""
    return Component(
        name=library.name,
        version=library.version,
        type=ComponentType.LIBRARY,
        scope=ComponentScope.REQUIRED,
        purl=PackageURL.from_string(purl_of(library)),
        bom_ref=purl_of(library),
        hashes=[_sha256(library.sha256)],
        licenses=[LicenseExpression(library.licence)],
        properties=[
            Property(name=ROLE, value=BUILT),
            Property(name=ORIGIN, value=image.identity),
        ],
    )


def _grafted(graft: Grafted, image: BuilderImage) -> Component:
    """A shared library, of a package or built, which the repair copied into the wheel."""
    owner = graft.owner
    return Component(
        name=owner.package,
        version=owner.version,
        type=ComponentType.LIBRARY,
        scope=ComponentScope.REQUIRED,
        purl=PackageURL.from_string(owner.purl),
        # One package may have several libraries.
        bom_ref=f"{owner.purl}#{graft.library}",
        hashes=[_sha256(graft.sha256)],
        licenses=[LicenseExpression(graft.licence)],
        properties=[
            Property(name=ROLE, value=GRAFTED),
            Property(name=PATH, value=graft.member),
            Property(name=ORIGIN, value=image.identity),
        ],
    )


def _build_components(contents: Contents) -> Iterator[Component]:
    """What made the wheel and is not in it.

    The specification's place for the making of a component is ``formulation``, which
    cyclonedx-python-lib does not write. Scope "excluded" is its way to "document component usage
    for test and other non-runtime purposes", so scanners do not take these for parts of the wheel.
    """
    for pin in read_lock(contents.requirements):
        yield _pypi(pin.name, pin.version, role=REQUIREMENT, hashes=pin.hashes)
    for name in _TOOLS:
        yield _pypi(name, _installed(name), role=TOOL)
    yield _image(contents.image)


def _image(image: BuilderImage) -> Component:
    """The image that the wheel was built in; a registry's digest is the digest of the image."""
    _, _, digest = image.identity.partition("@sha256:")
    told = {
        ROLE: IMAGE,
        IDENTITY: image.identity,
        ORIGIN: image.origin,
        MANIFEST: image.manifest,
    }
    return Component(
        name=image.reference.partition("@")[0],
        type=ComponentType.CONTAINER,
        scope=ComponentScope.EXCLUDED,
        bom_ref=f"image:{image.identity}",
        hashes=[_sha256(digest)] if digest else [],
        properties=[Property(name=name, value=value) for name, value in told.items() if value],
    )


def _pypi(name: str, version: str, *, role: str = "", hashes: Iterable[str] = ()) -> Component:
    """A distribution from a package index.

    ``hashes`` has a SHA-256 for each file of that version which the lock accepts.
    """
    purl = PackageURL("pypi", None, name, version)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        scope=ComponentScope.EXCLUDED if role else None,
        purl=purl,
        # With its role, since two entries with one reference would get random ones.
        bom_ref=f"{role or 'tool'}:{purl}",
        hashes=[_sha256(digest) for digest in hashes],
        properties=[Property(name=ROLE, value=role)] if role else [],
    )


def _installed(name: str) -> str:
    return importlib.metadata.version(name)


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _json(bom: Bom) -> str:
    return JsonV1Dot7(bom).output_as_string(indent=2)
