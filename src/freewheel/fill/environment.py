"""What installs the whole: files for pip and uv, and an environment that proves that they work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from uv import find_uv_bin

from freewheel.audit import auditing
from freewheel.audit.inputs import environment as environments
from freewheel.audit.outcome import Audit
from freewheel.audit.verdicts import Finding, Verdict
from freewheel.base import console, files, process
from freewheel.base.errors import BuildError, CommandFailed
from freewheel.base.workspace import Workspace
from freewheel.fill.filling import Item
from freewheel.machine.interpreter import Interpreter, python_of

REQUIREMENTS, UV_PART, LOCK = "requirements.txt", "for-pyproject.toml", "pylock.toml"
_TIMEOUT = 600.0  # seconds for an installer that works with files alone
_INDEXES = {"filled": "freewheel-filled", "proven": "freewheel", "patched": "freewheel"}


def write_files(
    directory: Path, items: Sequence[Item], indexes: dict[str, str], requires_python: str
) -> None:
    """Write what installs the items; ``indexes`` has the URL of each index by its name."""
    files.write_text(directory / REQUIREMENTS, "".join(_requirements(items, indexes)))
    files.write_text(directory / UV_PART, "".join(f"{line}\n" for line in _uv(items, indexes)))
    files.write_text(
        directory / LOCK, "".join(f"{line}\n" for line in _lock(items, requires_python))
    )


def _requirements(items: Sequence[Item], indexes: dict[str, str]) -> Iterator[str]:
    yield "# Every distribution with the digest of its one file, so that nothing else can come:\n"
    yield f"#   pip install --require-hashes --no-deps -r {REQUIREMENTS}\n"
    yield f"#   uv pip install --require-hashes --no-deps -r {REQUIREMENTS}\n"
    for name in dict.fromkeys(_INDEXES[i.trust] for i in _ordered(items) if i.trust in _INDEXES):
        yield f"--extra-index-url {indexes[name]}\n"
    for item in _ordered(items):
        yield f"{item.project}=={item.version} --hash=sha256:{item.sha256}  # {item.trust}\n"


def _uv(items: Iterable[Item], indexes: dict[str, str]) -> Iterator[str]:
    """A part of pyproject.toml: these packages from these indexes, and no other from them.

    A source covers direct dependencies and constraints, not what a dependency requires; so each
    is a constraint too.
    """
    own = [item for item in _ordered(items) if item.trust in _INDEXES]
    yield "# A part of pyproject.toml: `uv lock` and `uv sync` then take exactly these wheels."
    yield "[tool.uv]"
    yield "constraint-dependencies = ["
    yield from (f"    {json.dumps(f'{item.project}=={item.version}')}," for item in own)
    yield "]"
    yield ""
    yield "[tool.uv.sources]"
    yield from (f'{i.project} = {{ index = "{_INDEXES[i.trust]}" }}  # {i.trust}' for i in own)
    for name in dict.fromkeys(_INDEXES[item.trust] for item in own):
        yield ""
        yield "[[tool.uv.index]]"
        yield f"name = {json.dumps(name)}"
        yield f"url = {json.dumps(indexes[name])}"
        yield "explicit = true"


def _lock(items: Iterable[Item], requires_python: str) -> Iterator[str]:
    """The same as pylock.toml (PEP 751), which installs without an index's help."""
    yield 'lock-version = "1.0"'
    yield f"requires-python = {json.dumps(requires_python)}"
    yield 'created-by = "freewheel fill"'
    for item in _ordered(items):
        yield ""
        yield "[[packages]]"
        yield f"name = {json.dumps(item.project)}"
        yield f"version = {json.dumps(item.version)}"
        yield "[[packages.wheels]]"
        yield f"name = {json.dumps(item.path.name)}"
        place = item.url if item.url.startswith(("http:", "https:")) else item.path.as_uri()
        yield f"url = {json.dumps(place.partition('#')[0])}"
        yield f'hashes = {{ sha256 = "{item.sha256}" }}'


def _ordered(items: Iterable[Item]) -> list[Item]:
    return sorted(items, key=lambda item: (item.project, item.version))


def make(items: Sequence[Item], directory: Path, interpreter: Interpreter) -> None:
    """An environment with exactly the items, in a fresh directory. Raises BuildError.

    Installing wheels runs none of their code.
    """
    uv = find_uv_bin()
    beside = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        process.run([uv, "venv", "--quiet", "--no-project", "-p", interpreter.path, beside])
        words = ["pip", "install", "--quiet", "--offline", "--no-index", "--no-deps", "--python"]
        wheels = [item.path for item in _ordered(items)]
        if wheels:
            process.run([uv, *words, python_of(beside), *wheels], timeout=_TIMEOUT)
    except CommandFailed as error:
        raise BuildError(
            "the environment could not be made of these wheels",
            problems=error.output.strip().splitlines()[-6:],
            hint="correct what uv says above, and run the same command again",
        ) from error
    shutil.rmtree(directory, ignore_errors=True)
    beside.rename(directory)


def audit(
    workspace: Workspace,
    directory: Path,
    items: Sequence[Item],
    settings: auditing.Settings,
    board: console.Board,
) -> Audit:
    """The audit of the environment: every extension module imported, and put to the smoke test.

    It was just made of these wheels, so what an audit found out about the same bytes still holds.
    """
    given = environments.read(directory, settings.target)
    digests = {item.project: item.sha256 for item in items}
    known = tuple(
        replace(entry, installed=replace(entry.installed, digest=digests[entry.name]))
        if entry.installed and entry.name in digests
        else entry
        for entry in given.distributions
    )
    given = replace(given, distributions=known)
    return auditing.audit(workspace, auditing.Inputs(givens=(given,)), settings, board)


def compiled(found: Audit) -> list[Finding]:
    """The findings on distributions with extension modules."""
    return [finding for finding in found.findings if finding.modules.own or finding.modules.apart]


def summary(found: Audit) -> str:
    """How many compiled distributions could be imported whole, and what of the GIL."""
    every = compiled(found)
    whole = [f for f in every if f.modules.own_imported == f.modules.own]
    loud = [finding.name for finding in every if finding.culprits]
    incomplete = len(whole) < len(every)
    gil = "yes" if not incomplete else "yes, as far as they could be imported"
    if loud or any(f.verdict is Verdict.GIL for f in every):
        gil = f"by PYTHON_GIL=0 only, because of {', '.join(loud)}"
    return f"{len(whole)} of {len(every)} compiled distributions imported, GIL off: {gil}"
