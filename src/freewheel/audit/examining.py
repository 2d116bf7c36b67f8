"""Import the modules of many distributions where it is safe; what was found is kept by digest."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from freewheel.audit import places
from freewheel.audit.places import Importing, Place
from freewheel.audit.target import Target
from freewheel.base import files, process
from freewheel.base.errors import AuditError
from freewheel.base.workspace import Workspace
from freewheel.machine.host import processors
from freewheel.proof.result_cache import ResultCache, Subject

_SECONDS = 60.0  # for one import, or one smoke test
_MEMORY = 16 << 30  # bytes of address space for a child; of real memory it needs far less
_LOOK = 0.2  # seconds between two looks at what is done
_PATIENCE = 3600.0  # seconds for all distributions together


class Culprit(BaseModel):
    """The module that turned the GIL on, and its file."""

    model_config = ConfigDict(frozen=True)

    module: str
    path: str


class Import(BaseModel):
    """What became of one import in a fresh process.

    ``outcome`` is imported, not imported, crashed or hung. ``without`` is the same import with the
    module that turned the GIL on, where that is another one, kept out.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    outcome: str
    ending: str = ""
    said: str = ""
    why: str = ""
    missing: str | None = None
    culprit: Culprit | None = None
    without: Import | None = None


class SmokeFailure(BaseModel):
    """A smoke test that failed: which module alone, [] where only all together do, how often."""

    model_config = ConfigDict(frozen=True)

    modules: list[str]
    runs: int
    failed: int
    ending: str
    said: str


class Smoke(BaseModel):
    """One smoke test of a distribution's modules; without failures it passed for all of them."""

    model_config = ConfigDict(frozen=True)

    test: str
    modules: int
    failures: list[SmokeFailure]


class Examined(BaseModel):
    """What importing the modules of a distribution showed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: str
    modules: dict[str, Import]
    smoke: list[Smoke]


_EXAMINED = TypeAdapter(Examined)


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """A distribution to examine: its digest, its modules, and the trees they are imported from.

    The first of ``paths`` is its own; the others are what it needs. ``needs`` are their digests.
    """

    name: str
    digest: str
    modules: tuple[str, ...]
    paths: tuple[Path, ...]
    needs: tuple[str, ...]


def examine(
    workspace: Workspace,
    target: Target,
    specimens: Sequence[Specimen],
    *,
    importing: Importing,
    roots: Sequence[Path],
    done: Callable[[str], None],
) -> dict[str, Examined]:
    """What importing each specimen shows, by name; what is kept is not imported again.

    ``roots`` are the directories that hold all paths. Raises FreewheelError where nothing can be
    imported here.
    """
    cache = ResultCache(workspace.cache / "audit" / "results")
    found: dict[str, Examined] = {}
    for identity in places.identities(target, importing):
        found |= _kept(cache, identity, [s for s in specimens if s.name not in found])
    waiting = [specimen for specimen in specimens if specimen.name not in found]
    if not waiting:
        return found
    place = places.find_place(workspace, target, importing, roots)
    found |= _kept(cache, place.identity, waiting)
    waiting = [specimen for specimen in waiting if specimen.name not in found]
    for specimen, examined in _run(workspace, place, waiting):
        cache.write(subject(specimen, place.identity), _EXAMINED, examined)
        found[specimen.name] = examined
        done(specimen.name)
    return found


def subject(specimen: Specimen, identity: str) -> Subject:
    """What a result is about: all that could change it."""
    needs = hashlib.sha256(" ".join(sorted(specimen.needs)).encode()).hexdigest()
    return Subject(
        kind="audit",
        facts={
            "wheel": specimen.digest,
            "needs": needs,
            "modules": hashlib.sha256(" ".join(specimen.modules).encode()).hexdigest(),
            "interpreter": identity,
            "program": places.program_digest(),
        },
    )


def _kept(
    cache: ResultCache, identity: str, specimens: Sequence[Specimen]
) -> Mapping[str, Examined]:
    found = {}
    for specimen in specimens:
        kept = cache.read(subject(specimen, identity), _EXAMINED)
        if kept is not None:
            found[specimen.name] = kept
    return found


def _run(
    workspace: Workspace, place: Place, specimens: Sequence[Specimen]
) -> Iterator[tuple[Specimen, Examined]]:
    """Run the program on all of them, and hand over each as soon as it is done."""
    if not specimens:
        return
    directory = workspace.cache / "audit" / "jobs"
    job = directory / f"{hashlib.sha256(repr(specimens).encode()).hexdigest()[:16]}.json"
    log = job.with_suffix(".log")
    job.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    by_digest = {specimen.digest: specimen for specimen in specimens}
    files.write_text(job, json.dumps(_job(place, list(by_digest.values()))))
    job.chmod(0o644)  # in the container it is read by nobody
    running = process.start(
        place.command(places.program(), job), env=place.environment, log=log, cwd=directory
    )
    try:
        for line in _lines(running):
            examined = Examined.model_validate(line)
            yield by_digest.pop(examined.digest), examined
    finally:
        running.stop()
        job.unlink(missing_ok=True)
    if by_digest:
        raise AuditError(
            f"the modules of {', '.join(s.name for s in by_digest.values())} were not imported",
            problems=_tail(log),
            hint=f"read {log}; `nox -s doctor` tells whether containers start here",
        )
    log.unlink(missing_ok=True)


def _job(place: Place, specimens: Sequence[Specimen]) -> dict[str, Any]:
    # The longest first, so that none of them is left over at the end.
    ordered = sorted(specimens, key=lambda specimen: len(specimen.modules), reverse=True)
    return {
        "memory": _MEMORY,
        "seconds": _SECONDS,
        "workers": len(processors()),
        "distributions": [
            {
                "digest": specimen.digest,
                "modules": list(specimen.modules),
                "paths": [place.seen(path) for path in specimen.paths],
            }
            for specimen in ordered
        ],
    }


def _lines(running: process.Running) -> Iterator[Any]:
    """What the program has printed about distributions, line by line, until it ends."""
    ends = time.monotonic() + _PATIENCE
    read = 0
    while True:
        ended = running.returncode() is not None or time.monotonic() > ends
        text = running.log.read_text(encoding="utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1]
        for line in whole[read:].splitlines():
            if line.startswith('{"distribution"'):
                yield json.loads(line)["distribution"]
        read = len(whole)
        if ended:
            return
        time.sleep(_LOOK)


def _tail(log: Path) -> list[str]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    return [line for line in lines if not line.startswith('{"distribution"')][-6:]
