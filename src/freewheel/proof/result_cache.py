"""Results that are kept: what was found out about the same bytes need not be found out again.

A result belongs to a *subject*: the digest of the wheel, of the program, of the harness, and the
interpreter. Runs of the same subject add up, and a failure that was seen once stays on record for
as long as the subject is the same. A person who looks from scratch replaces it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from freewheel.base import files
from freewheel.proof.programs import EXIT_CODES

_SCHEMA = 2
_Result = TypeVar("_Result")
# What decides how a run is carried out, and how it counts.
_HARNESS = (
    *("running.py", "patience.py", "../base/process.py"),
    *("../machine/jail.py", "../machine/jailer.py", "../machine/limits.py"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a result is about; ``facts`` are names and identities, all that could change it."""

    kind: str
    facts: Mapping[str, str]

    @property
    def key(self) -> str:
        text = json.dumps({"kind": self.kind, "facts": dict(self.facts)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class ResultCache:
    """The results in a directory, a file for each subject."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, subject: Subject, kind: TypeAdapter[_Result]) -> _Result | None:
        """The result kept for a subject; None where there is none, or it cannot be read."""
        try:
            content: dict[str, Any] = json.loads(self._path(subject).read_text(encoding="utf-8"))
            if content.get("schema") != _SCHEMA:
                return None
            return kind.validate_python(content.get("result"))
        except (OSError, ValueError):
            return None

    def write(self, subject: Subject, kind: TypeAdapter[_Result], result: _Result) -> None:
        """Keep a result, in place of the one there was."""
        content = {
            "schema": _SCHEMA,
            "kind": subject.kind,
            "facts": dict(subject.facts),
            "result": kind.dump_python(result, mode="json"),
        }
        files.write_text(self._path(subject), json.dumps(content, indent=1, sort_keys=True) + "\n")

    def _path(self, subject: Subject) -> Path:
        return self._directory / f"{subject.kind}-{subject.key}.json"


@cache
def harness_digest() -> str:
    """Over the modules that carry out a run, and the meaning of exit codes."""
    digest = hashlib.sha256(repr(EXIT_CODES).encode())
    for name in _HARNESS:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()
