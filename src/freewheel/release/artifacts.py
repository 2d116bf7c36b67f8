"""How wheels go from one job of a release to the next: compared once, then known by their digests.

Two builders on machines of their own make every wheel. What they agree on is handed on as a list of
digests, which a job takes from the job before it and not from where the files are kept. A wheel
that is not on the list does not get any further.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from freewheel.base import files
from freewheel.base.errors import ReproduceError, VerifyError
from freewheel.build import buildinfo
from freewheel.proof import certificate
from freewheel.trust import provenance
from freewheel.trust.reproduce import explain

DIGESTS = "FREEWHEEL_DIGESTS"  # the variable that holds the list, as JSON
_OUTPUTS = "GITHUB_OUTPUT"  # names the file that a step's outputs are written to
_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Digests = TypeAdapter(Annotated[dict[str, _Digest], Field(min_length=1)])
# What may lie beside a wheel, and goes wherever it goes.
BESIDE = (buildinfo.SUFFIX, certificate.SUFFIX, provenance.SUFFIX)


def compare_builders(first: Path, second: Path) -> dict[str, str]:
    """The digests, by file name, of wheels that are the same in both directories.

    Raises ReproduceError with every wheel that only one builder has, or in which they differ,
    and why.
    """
    mine, other = _wheels(first), _wheels(second)
    problems = [
        f"{name}: only in {(first if name in mine else second).name}"
        for name in sorted(mine.keys() ^ other.keys())
    ]
    digests: dict[str, str] = {}
    for name in sorted(mine.keys() & other.keys()):
        digests[name] = files.sha256(mine[name])
        if files.sha256(other[name]) != digests[name]:
            reasons = explain(mine[name], other[name])
            problems.append("\n      ".join([f"{name}: the builders differ", *reasons]))
    if problems:
        raise ReproduceError(
            "the two builders do not agree",
            problems=problems,
            hint="remove the cause that is named first; docs/reproducibility.md has the remedies",
        )
    if not digests:
        raise VerifyError(
            f"there is no wheel in {first} and {second}", hint="name the builders' directories"
        )
    return digests


def collect(sources: Path, wheels: Path, digests: Mapping[str, str] | None) -> list[Path]:
    """Bring the wheels below ``sources`` into ``wheels``, with what lies beside each.

    Each must have a buildinfo that is about it and, where there are ``digests``, be on that list.
    Raises VerifyError with every problem, and then brings nothing.
    """
    found = _wheels(sources)
    problems = [problem for path in found.values() for problem in _problems(path, digests)]
    if problems or not found:
        raise VerifyError(
            f"nothing was taken out of {sources}",
            problems=problems or ["there is no wheel in it"],
            hint="find out which job made these files; start a new release; do not repair this one",
        )
    taken = []
    with files.writing_to(wheels):
        for name, path in sorted(found.items()):
            for suffix in BESIDE:
                beside = path.with_name(name + suffix)
                if beside.exists():
                    files.copy(beside, wheels / beside.name)
            files.copy(path, wheels / name)
            taken.append(wheels / name)
    return taken


def _problems(path: Path, digests: Mapping[str, str] | None) -> Iterator[str]:
    digest = files.sha256(path)
    record = buildinfo.read_record(path.with_name(path.name + buildinfo.SUFFIX))
    if record is None or (record.wheel.name, record.sha256) != (path.name, digest):
        yield f"{path.name}: no buildinfo that is about it lies beside it"
    if digests is None:
        return
    if digests.get(path.name) != digest:
        known = digests.get(path.name, "nothing of that name")
        yield f"{path.name}: is {digest}, the builders agreed on {known}"
    certified = certificate.path_of(path)
    # The builders know of no certificate; the job that proved it adds its digest to the list.
    listed = digests.get(certified.name)
    if listed is not None and not (certified.is_file() and files.sha256(certified) == listed):
        yield f"{certified.name}: is not the certificate that was issued ({listed})"


def _wheels(directory: Path) -> dict[str, Path]:
    """The wheels below a directory, by file name. Raises VerifyError where one is there twice."""
    found: dict[str, Path] = {}
    for path in sorted(directory.rglob("*.whl")):
        if path.name in found:
            raise VerifyError(
                f"{path.name} is in {directory} twice", hint="name one builder's directory"
            )
        found[path.name] = path
    return found


def named_digests() -> dict[str, str] | None:
    """The list that the job before handed on; None where there is none. Raises VerifyError."""
    text = os.environ.get(DIGESTS)
    if text is None:
        return None
    try:
        return dict(_Digests.validate_json(text))
    except ValidationError as error:
        raise VerifyError(
            f"{DIGESTS} is not a list of digests",
            problems=[item["msg"] for item in error.errors()],
            hint="it is what `nox -s freewheel -- compare` printed in the job before",
        ) from error


def set_output(name: str, value: object) -> str:
    """Give a value to the jobs that come after this one, where there are any; its JSON."""
    text = json.dumps(value, separators=(",", ":"))
    outputs = os.environ.get(_OUTPUTS)
    if outputs:
        with Path(outputs).open("a", encoding="utf-8") as sink:
            sink.write(f"{name}={text}\n")
    return text
