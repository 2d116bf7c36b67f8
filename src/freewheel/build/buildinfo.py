"""What a wheel was made of, kept beside it, so that a build with nothing changed does no work."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, TypeAdapter, model_validator

from freewheel.base import decoding, files
from freewheel.base.code import code_digest
from freewheel.base.names import Digest, Project, VersionText, WheelFile, project_of, wheel_name
from freewheel.base.workspace import PINS
from freewheel.build.patches import Patch
from freewheel.machine import requirements
from freewheel.recipe.recipe import Recipe, Release

SUFFIX = ".buildinfo.json"
PUBLISHER = PINS / "publisher.toml"
_SCHEMA = 1
_TARGET = re.compile(r"cp\d+t?-[a-z]+_[a-z0-9_]+\Z")
# The modules whose code shapes a wheel's bytes, or says whether it is any good. The others may
# change without a new build.
_PIPELINE = (
    *("base/archives", "base/git", "base/members", "base/tars", "base/wheel_archive", "base/zips"),
    *("build/annotate", "build/check", "build/grafts", "build/importing", "build/libraries"),
    *("build/patches", "build/sbom", "build/sdist", "build/source", "build/static_checks"),
    *("build/wheel", "build/workshop"),
)
_TOOLS = ("build", "cibuildwheel", "cyclonedx-python-lib")
# Only known once an image is chosen; the manifest then follows from the identity.
_OF_THE_IMAGE = ("image", "image manifest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What lies beside a wheel: its digest, and the identity of each of its inputs by name.

    ``details`` are for people and later stages: the image, the interpreter, the checks.
    """

    wheel: Path
    project: str
    version: str
    sha256: str
    size: int
    inputs: Mapping[str, str]
    details: Mapping[str, Any]


class _Content(BaseModel):
    """The file; what is in it may come from anywhere, so its names are parsed here."""

    schema_: Literal[1] = Field(alias="schema")
    wheel: WheelFile
    project: Project
    version: VersionText
    sha256: Digest
    size: Annotated[int, Field(ge=0)]
    inputs: dict[str, str]
    details: dict[str, Any]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if project_of(wheel_name(self.wheel)) != self.project or not _TARGET.match(
            self.inputs.get("target", "")
        ):
            raise ValueError("the wheel is not of that project, or the target is none")
        return self


_READ = TypeAdapter(_Content)


def gather(
    recipe: Recipe, release: Release, series: Sequence[Patch], *, version: str, target: str
) -> dict[str, str]:
    """Name and identity of every input but the image, which is only known once it is chosen."""
    inputs = {
        "version": version,
        "target": target,
        "source archive": release.sha256,
        "recipe": _recipe_digest(recipe, release),
        "build requirements": _digest(requirements.build_lock(recipe.build.requires)),
        "publisher": files.sha256(PUBLISHER),
        "pipeline": code_digest(_PIPELINE),
    }
    inputs |= {tool: importlib.metadata.version(tool) for tool in _TOOLS}
    inputs |= {f"environment {name}": value for name, value in recipe.build.environment.items()}
    inputs |= {
        f"config setting {name}": value if isinstance(value, str) else " ".join(value)
        for name, value in recipe.build.config_settings.items()
    }
    inputs |= {f"patch {patch.name}": patch.sha256 for patch in series}
    return inputs


def changed(
    recorded: Mapping[str, str], current: Mapping[str, str], *, images: Sequence[str]
) -> list[str]:
    """The names of the inputs that differ. ``images`` are the identities that are acceptable."""
    names = [
        name
        for name in sorted(recorded.keys() | current.keys())
        if name not in _OF_THE_IMAGE and recorded.get(name) != current.get(name)
    ]
    if recorded.get("image") not in images:
        names.append("image")
    return names


def read_records(directory: Path) -> list[Record]:
    """The records beside the wheels of a directory; what cannot be read counts as absent."""
    paths = sorted(directory.glob(f"*{SUFFIX}"))
    return [record for path in paths if (record := read_record(path))]


def find_record(directory: Path, *, project: str, version: str, target: str) -> Record | None:
    """The record of the wheel of that version for that target, if there is one."""
    for record in read_records(directory):
        found = (record.project, record.version, record.inputs.get("target"))
        if found == (project, version, target):
            return record
    return None


def write_record(record: Record) -> None:
    """Put the record beside its wheel, in one step."""
    content = {
        "schema": _SCHEMA,
        "wheel": record.wheel.name,
        "project": record.project,
        "version": record.version,
        "sha256": record.sha256,
        "size": record.size,
        "inputs": dict(record.inputs),
        "details": dict(record.details),
    }
    path = record.wheel.with_name(record.wheel.name + SUFFIX)
    files.write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_record(path: Path) -> Record | None:
    """The record in that file; None where it is absent, damaged or of another schema."""
    try:
        found = decoding.checked(
            _READ, decoding.from_json(decoding.read_bytes(path), path.name), path.name
        )
    except decoding.DecodeError:
        return None
    return Record(
        wheel=path.with_name(found.wheel),
        project=found.project,
        version=found.version,
        sha256=found.sha256,
        size=found.size,
        inputs=found.inputs,
        details=found.details,
    )


def _recipe_digest(recipe: Recipe, release: Release) -> str:
    """Over the keys that shape the wheel; a new target or release does not touch the others."""
    content = {
        "import-name": recipe.import_name,
        "version": [place.model_dump() for place in recipe.build.version],
        "generated": recipe.build.generated,
        "system packages": recipe.build.system_packages.model_dump(),
        "pure": recipe.build.pure,
        "grafts": [graft.model_dump() for graft in recipe.build.grafts],
        "libraries": [library.model_dump() for library in recipe.build.libraries],
        "epoch": release.source_date_epoch,
        "source-url": recipe.source_url,
        "vendored": [
            (part.name, part.version, part.licence, str(part.path), part.purl)
            for part in release.vendored
        ],
    }
    return _digest(json.dumps(content, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
