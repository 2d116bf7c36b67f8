"""A single wheel, wherever it comes from."""

from __future__ import annotations

import zipfile
from pathlib import Path

from freewheel.audit.inputs.locked import Given, Locked, LockedFile
from freewheel.audit.target import Target, wheel_name
from freewheel.base import files
from freewheel.base.errors import AuditError

FORM = "wheel"


def read(path: Path, target: Target) -> Given:
    """The wheel as something to audit. Raises AuditError for what is none."""
    name = wheel_name(path.name)
    if name is None:
        raise AuditError(
            f"{path} is a zip archive, but its name is not that of a wheel",
            hint="a wheel is called NAME-VERSION-PYTHON-ABI-PLATFORM.whl; rename it back",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise AuditError(
            f"{path} is damaged, or was cut short: {error}", hint="download it again"
        ) from error
    if not any(member.endswith(".dist-info/WHEEL") for member in members):
        raise AuditError(
            f"{path} has no .dist-info/WHEEL, so it is no wheel", hint="download or build it again"
        )
    notes = [] if target.rank(name) is not None else [f"its tags do not fit {target}"]
    file = LockedFile(name=path.name, sha256=files.sha256(path), url=path.resolve().as_uri())
    entry = Locked(
        name=name.project,
        version=str(name.version),
        origin=str(path),
        source="path",
        where=str(path),
        files=(file,),
        complete=True,
    )
    return Given(path=path, form=FORM, distributions=(entry,), notes=tuple(notes))
