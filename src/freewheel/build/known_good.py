"""The lock of known-good wheels: which bytes came of which inputs, tracked beside the recipes.

A wheel made of inputs that the lock has must have the bytes that the lock has: whoever builds it,
and whenever. Inputs that are not in the lock make a new entry, which a person accepts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, TypeAdapter

from freewheel.base import decoding, differences, files
from freewheel.base.errors import KnownGoodError
from freewheel.base.names import Digest, Project, VersionText, WheelFile
from freewheel.build.buildinfo import Record

_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One wheel that is known: ``builder`` is the identity of the image it was built in."""

    project: Project
    version: VersionText
    target: str
    builder: str
    wheel: WheelFile
    sha256: Digest
    inputs: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What there is one entry for."""
        return self.project, self.version, self.target, self.builder


class _Content(BaseModel):
    schema_: Literal[1] = Field(alias="schema")
    wheels: list[Entry]


_CONTENT = TypeAdapter(_Content)


def entry_of(record: Record) -> Entry:
    """What the lock would hold of a finished build."""
    return Entry(
        project=record.project,
        version=record.version,
        target=record.inputs["target"],
        builder=record.inputs["image"],
        wheel=record.wheel.name,
        sha256=record.sha256,
        inputs=dict(record.inputs),
    )


def read(path: Path) -> tuple[Entry, ...]:
    """The entries of the lock; none where there is no file. Raises KnownGoodError."""
    if not path.exists():
        return ()
    try:
        content = decoding.from_json(decoding.read_bytes(path), path.name)
        schema = content.get("schema") if isinstance(content, dict) else None
        if isinstance(schema, int) and schema != _SCHEMA:
            raise KnownGoodError(
                f"{path.name} has schema {schema}, this is for {_SCHEMA}",
                hint="use the version of Freewheel that wrote it",
            )
        return tuple(decoding.checked(_CONTENT, content, path.name).wheels)
    except decoding.DecodeError as error:
        raise KnownGoodError(
            f"{path.name} cannot be read: {error.summary}",
            problems=error.problems,
            hint=f"restore it: git checkout -- {path}",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the lock says of a wheel.

    ``known`` says that it has these bytes. ``differing`` names the inputs that have changed since
    it took them in: such as the pipeline's own code, where a change of that did not reach them.
    """

    known: bool
    differing: tuple[str, ...] = ()


def judge(entries: Iterable[Entry], record: Record, *, candidates: Sequence[Path]) -> Judgement:
    """Whether the lock knows this wheel. Raises KnownGoodError for other bytes of known inputs.

    ``candidates`` are wheels that may be the known one, for saying what differs.
    """
    made = entry_of(record)
    same_bytes: list[tuple[str, ...]] = []
    for entry in entries:
        same_inputs = entry.key == made.key and entry.inputs == made.inputs
        if entry.sha256 == made.sha256 and entry.wheel == made.wheel:
            same_bytes.append(_differing(entry, made))
        elif same_inputs:
            raise KnownGoodError(
                f"{made.wheel}: the same inputs gave other bytes",
                problems=[
                    f"known: {entry.sha256}",
                    f"now:   {made.sha256}",
                    *_differences(entry, record.wheel, candidates),
                ],
                hint="something that is no input reached the wheel; `nox -s reproduce` finds it",
            )
    return Judgement(known=bool(same_bytes), differing=min(same_bytes, key=len, default=()))


def _differing(entry: Entry, made: Entry) -> tuple[str, ...]:
    names = sorted(entry.inputs.keys() | made.inputs.keys())
    return tuple(name for name in names if entry.inputs.get(name) != made.inputs.get(name))


def _differences(entry: Entry, wheel: Path, candidates: Sequence[Path]) -> list[str]:
    for path in candidates:
        if path != wheel and path.is_file() and files.sha256(path) == entry.sha256:
            return differences.differences(path, wheel)
    return ["the known wheel is not here, so what differs cannot be said"]


def accept(path: Path, records: Iterable[Record]) -> list[Entry]:
    """Write the entries of ``records`` into the lock; the ones that are new or were changed."""
    with files.locked(path.with_name(f".{path.name}.lock"), what=str(path)):
        entries = {entry.key: entry for entry in read(path)}
        changed = []
        for entry in map(entry_of, records):
            if entries.get(entry.key) != entry:
                entries[entry.key] = entry
                changed.append(entry)
        if changed:
            wheels = [asdict(entries[key]) for key in sorted(entries)]
            content = {"schema": _SCHEMA, "wheels": wheels}
            files.write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
    return changed
