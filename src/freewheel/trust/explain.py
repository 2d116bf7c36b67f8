"""Tell people what a wheel is made of, from the wheel itself: its core metadata and its SBOM."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from freewheel.base import files
from freewheel.base.errors import FreewheelError, VerifyError
from freewheel.base.members import ArchiveError
from freewheel.base.wheel_archive import open_wheel
from freewheel.base.workspace import find_workspace
from freewheel.build import sbom
from freewheel.build.annotate import REPORT_LABEL
from freewheel.proof import certificate, form

_DIGEST_IN_URL = "#sha256="


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A wheel and what its SBOM says; ``components`` and ``patches`` are as CycloneDX has them.

    ``report`` is the address where to report trouble, as METADATA has it, or ""; ``built`` is the
    time that the files in the wheel have (ISO 8601).
    """

    path: Path
    project: str
    version: str
    summary: str
    report: str
    upstream: dict[str, Any]
    patches: tuple[dict[str, Any], ...]
    components: tuple[dict[str, Any], ...]
    built: str


def explain(path: Path, *, root: Path | None) -> list[str]:
    """Lines that tell what the wheel is made of.

    ``root`` is the checkout that has the probes; None where there is none. Raises VerifyError for
    a file that cannot be read, and for a wheel that Freewheel has not made.
    """
    wheel = read(path)
    certified, _ = certificate.beside(path)  # `verify` reports why one does not hold
    return [
        *_identity(wheel),
        *_certified(certified),
        "",
        *_mended(wheel, root, certified),
        "",
        *_made_of(wheel),
        "",
        *_again(wheel),
    ]


def find_checkout() -> Path | None:
    """The checkout that holds the current directory; None outside of one."""
    try:
        return find_workspace().root
    except FreewheelError:
        return None


def read(path: Path) -> Explained:
    """What the wheel says of itself. Raises VerifyError as ``explain`` does."""
    if not path.is_file():
        raise VerifyError(f"there is no file {path}", hint="give the path of a .whl file")
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise VerifyError(
            f"{path.name} is not the name of a wheel",
            problems=[str(error)],
            hint="keep the name that the file had on the index; it says what the wheel is",
        ) from error
    metadata, content = _members(path)
    problems = sbom.problems(content, name, str(version))
    if problems:
        raise VerifyError(
            f"{path.name} has an SBOM that cannot be relied on",
            problems=problems,
            hint="get the wheel again from the index that it came from",
        )
    return _explained(path, metadata, json.loads(content))


def _members(path: Path) -> tuple[str, bytes]:
    """METADATA and the SBOM."""
    try:
        with open_wheel(path) as wheel:
            member = f"{wheel.dist_info}/{sbom.MEMBER}"
            if member not in wheel.names:
                raise _not_ours(path)
            return wheel.text("METADATA"), wheel.read(member)
    except ArchiveError as error:
        raise VerifyError(
            f"{path.name} is damaged or cut short, or is not a wheel",
            problems=[error.summary],
            hint="get the wheel again from where it came",
        ) from error


def _not_ours(path: Path) -> VerifyError:
    return VerifyError(
        f"{path.name} was not made by Freewheel",
        problems=[f"it has no .dist-info/{sbom.MEMBER}"],
        hint="give a wheel whose version ends in +ft.N; a baseline is upstream's own, unpatched",
    )


def _explained(path: Path, metadata: str, document: dict[str, Any]) -> Explained:
    main = document["metadata"]["component"]
    pedigree = main.get("pedigree", {})
    patches = tuple(pedigree.get("patches", ()))
    problems = [problem for patch in patches for problem in _patch_problems(patch)]
    if "timestamp" not in document["metadata"]:
        problems.append("it has no timestamp")
    ancestors = pedigree.get("ancestors", ())
    if len(ancestors) != 1:
        problems.append(f"it names {len(ancestors)} releases that the wheel was made from")
    if problems:
        raise VerifyError(
            f"{path.name} has an SBOM that cannot be relied on",
            problems=problems,
            hint="get the wheel again from the index that it came from",
        )
    header = HeaderParser().parsestr(metadata)
    urls = [entry.partition(", ") for entry in header.get_all("Project-URL", ())]
    return Explained(
        path=path,
        project=main["name"],
        version=main["version"],
        summary=str(header["Summary"] or ""),
        report=next((url for label, _, url in urls if label == REPORT_LABEL), ""),
        upstream=ancestors[0],
        patches=patches,
        components=tuple(document.get("components", ())),
        built=document["metadata"]["timestamp"],
    )


def _patch_problems(patch: dict[str, Any]) -> Iterator[str]:
    """The text of a patch must have the digest that stands beside it."""
    difference = patch.get("diff", {})
    text = difference.get("text", {}).get("content", "")
    url, _, digest = difference.get("url", "").partition(_DIGEST_IN_URL)
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        yield f"{url or 'a patch'}: its text does not have the SHA-256 that is given for it"
    if not patch.get("resolves"):
        yield f"{url or 'a patch'}: it resolves no defect"


# -------------------------------------------------------------------------------------- the lines


def _identity(wheel: Explained) -> Iterator[str]:
    upstream = wheel.upstream
    yield f"{wheel.project} {wheel.version}: {wheel.summary}"
    yield f"  wheel     {wheel.path.name}"
    yield f"  SHA-256   {files.sha256(wheel.path)}"
    yield f"  upstream  {upstream['name']} {upstream['version']}, its sdist has SHA-256"
    yield f"            {_first_hash(upstream)}"
    if wheel.report:
        yield f"  trouble?  {wheel.report}"


def _certified(found: form.Certificate | None) -> Iterator[str]:
    if found is None:
        yield "  certified no: it was not proven, or its certificate is not beside it"
        return
    yield (
        f"  certified {found.finished:%Y-%m-%d}, {found.kind} proof, "
        f"CPython {found.python.version} with the GIL {found.gil}"
    )


def _mended(
    wheel: Explained, root: Path | None, certified: form.Certificate | None
) -> Iterator[str]:
    runs = {defect.id: defect for defect in certified.defects} if certified else {}
    yield f"Patches ({len(wheel.patches)})"
    for patch in wheel.patches:
        path, _, digest = patch["diff"]["url"].partition(_DIGEST_IN_URL)
        yield f"  {path.rpartition('/')[2]}"
        for defect in patch["resolves"]:
            identifier = defect.get("id", "")
            yield f"    fixes     {identifier}: {defect.get('name', '')}"
            yield f"    proven by {_probe(wheel.project, identifier, root)}"
            if identifier in runs:
                yield f"              {_runs(runs[identifier])}"
        yield f"    SHA-256   {digest}"


def _runs(defect: form.Defect) -> str:
    without, fixed = defect.baseline, defect.patched
    return (
        f"fails in {without.failures} of {without.runs} runs without the patch, "
        f"in {fixed.failures} of {fixed.runs} with it"
    )


def _probe(project: str, defect: str, root: Path | None) -> str:
    """Where the probe is; only a checkout has it."""
    name = f"probes/{project}/{defect}.py"
    if root is None:
        return f"{name} in Freewheel's repository"
    return name if (root / name).is_file() else f"no probe: {name} is not in this checkout"


def _made_of(wheel: Explained) -> Iterator[str]:
    titles = {
        sbom.VENDORED: "Parts of other projects in it",
        sbom.REQUIREMENT: "Build requirements, locked with hashes",
        sbom.TOOL: "Built with",
        sbom.IMAGE: "Built in",
    }
    for role, title in titles.items():
        found = [item for item in wheel.components if _properties(item).get(sbom.ROLE) == role]
        if found:
            yield title
        for item in found:
            yield f"  {_component(item)}"


def _component(item: dict[str, Any]) -> str:
    told = _properties(item)
    if told.get(sbom.ROLE) == sbom.IMAGE:
        manifest = told.get(sbom.MANIFEST)
        return told.get(sbom.IDENTITY, "") + (f", manifest {manifest}" if manifest else "")
    words = [item["name"], item.get("version", "")]
    words += [f"({licence['expression']})" for licence in item.get("licenses", ())]
    if path := told.get(sbom.PATH):
        words.append(f"from {path}")
    return " ".join(filter(None, words))


def _again(wheel: Explained) -> Iterator[str]:
    epoch = int(datetime.fromisoformat(wheel.built).timestamp())
    yield f"To build it again (SOURCE_DATE_EPOCH={epoch})"
    yield "  from the record beside it, and compare:"
    yield f"    nox -s freewheel -- rebuild {wheel.path}"
    yield "  from the recipe in a checkout:"
    yield f"    nox -s build-{wheel.project} -- --release {wheel.upstream['version']}"


def _properties(item: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in item.get("properties", ())}


def _first_hash(item: dict[str, Any]) -> str:
    return next((str(entry["content"]) for entry in item.get("hashes", ())), "(none)")
