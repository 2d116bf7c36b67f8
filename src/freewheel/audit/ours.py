"""Wheels of ours: is this one certified? By its own bytes, never by its version alone."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from freewheel.audit.choosing import Candidate, Choice
from freewheel.audit.declared import split_ours
from freewheel.audit.downloads import Downloads, Failure
from freewheel.audit.inputs.locked import Installed
from freewheel.base import files
from freewheel.base.errors import CertificateError
from freewheel.base.workspace import Workspace
from freewheel.build.source import local_path
from freewheel.proof import certificate
from freewheel.proof.form import Certificate


def certified(
    choice: Choice, workspace: Workspace, downloads: Downloads | None = None
) -> tuple[str, str]:
    """What the certificate of a wheel of ours says, and else why it does not count as certified.

    Both are "" for what is not ours.
    """
    if split_ours(choice.version) is None:
        return "", ""
    stem = f"{choice.locked.name.replace('-', '_')}-{choice.version}-"
    reasons = []
    for wheel in _candidates(choice, workspace, stem):
        reason = _mismatch(choice, wheel)
        if reason:
            reasons.append(reason)
            continue
        try:
            found = certificate.read(certificate.path_of(wheel))
            problems = certificate.problems_of(wheel, found)
        except CertificateError as error:
            problems = [error.summary]
        if not problems:
            return _described(found), ""
        reasons += problems
    if downloads is not None and choice.wheel is not None:
        found_there, reason = _on_index(choice, choice.wheel, downloads)
        if found_there:
            return found_there, ""
        reasons += [reason] if reason else []
    why = reasons[0] if reasons else "its certificate was found neither beside it nor on the index"
    return "", f"it says that it is a wheel of Freewheel's, but {why}"


def _on_index(choice: Choice, wheel: Candidate, downloads: Downloads) -> tuple[str, str]:
    """The same as ``certified``, by the certificate that the wheel's index has beside it."""
    content = downloads.beside(wheel, certificate.SUFFIX)
    if content is None:
        return "", ""
    try:
        found = Certificate.model_validate_json(content)
    except ValidationError:
        return "", "the certificate on its index cannot be read"
    if not wheel.sha256 or found.wheel.sha256 != wheel.sha256:
        return "", "the certificate on its index is about other bytes"
    if choice.locked.installed is not None:
        tree = downloads.get({choice.key: wheel}, lambda: None)[choice.key]
        if isinstance(tree, Failure):
            return "", tree.reason
        records = tree.root.glob("*.dist-info/RECORD")
        listed = {k: v for path in records for k, v in _rows(path.read_text("utf-8"))}
        reason = why_changed(choice.locked.installed, listed, wheel.name.filename)
        if reason:
            return "", reason
    return _described(found), ""


def _candidates(choice: Choice, workspace: Workspace, stem: str) -> Iterator[Path]:
    """The files that may be this wheel: itself, the ones built here, the one on the index."""
    for url in choice.wheel.urls if choice.wheel else ():
        local = local_path(url)
        if local is not None and local.is_file():
            yield local
    for directory in (workspace.wheels, workspace.simple / choice.locked.name):
        yield from sorted(directory.glob(f"{stem}*.whl"))


def _mismatch(choice: Choice, wheel: Path) -> str:
    """Why the file is not what is locked or installed; "" where it is."""
    if choice.locked.installed is not None:
        return _differs(choice.locked.installed, wheel)
    wanted = choice.wheel.sha256 if choice.wheel else ""
    if wanted and files.sha256(wheel) != wanted:
        return f"the certified {wheel.name} has another digest than the locked one"
    return ""


def _differs(installed: Installed, wheel: Path) -> str:
    """Why what is installed did not come from this wheel, or was changed since; "" if it did."""
    try:
        listed = dict(_record(wheel))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        return f"{wheel.name} cannot be read: {error}"
    return why_changed(installed, listed, wheel.name)


def why_changed(installed: Installed, listed: Mapping[str, str], wheel: str) -> str:
    """Which installed file is not as the wheel's RECORD has it; "" where all are."""
    for name, digest in listed.items():
        place = _installed_as(name, digest, installed)
        if installed.record.get(place) != digest:
            return f"{name} is not the one in the certified {wheel}"
        if digest and _digest(installed.root / place) != digest:
            return f"{name} was changed after it was installed"
    return ""


def _installed_as(name: str, digest: str, installed: Installed) -> str:
    """What an installer calls a member of the wheel: what is in .data goes elsewhere."""
    directory, _, rest = name.partition("/")
    if not directory.endswith(".data"):
        return name
    scheme, _, path = rest.partition("/")
    if scheme in ("purelib", "platlib"):
        return path
    last = path.rpartition("/")[2]
    same = (p for p, d in installed.record.items() if d == digest and p.rpartition("/")[2] == last)
    return next(same, name)


def _record(wheel: Path) -> Iterator[tuple[str, str]]:
    """The files of a wheel with their digests, as its RECORD has them."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            directory, _, name = member.partition("/")
            if directory.endswith(".dist-info") and name == "RECORD":
                yield from _rows(archive.read(member).decode("utf-8"))


def _rows(text: str) -> Iterator[tuple[str, str]]:
    for row in csv.reader(io.StringIO(text)):
        if row and not row[0].endswith(".dist-info/RECORD"):
            yield row[0], row[1]


def _digest(path: Path) -> str:
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return ""
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _described(found: Certificate) -> str:
    proven = [defect.id for defect in found.defects if defect.verdict == "proven"]
    return (
        f"{found.kind} certificate of {found.finished.date()}: {len(proven)} defects shown to be "
        f"fixed ({', '.join(proven)})"
    )
