"""An environment: what is installed in its site-packages directory; nothing of it is run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from freewheel.audit.extensions import compiled_files
from freewheel.audit.inputs import locked
from freewheel.audit.inputs.locked import Given, Installed, Locked, Source
from freewheel.audit.target import Target
from freewheel.base import files
from freewheel.base.errors import AuditError

FORM = "environment"
_MADE_HERE = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json")
_PYTHON = re.compile(r"python(?P<major>\d)\.(?P<minor>\d+)(?P<threads>t?)$")


def is_environment(path: Path) -> bool:
    """Whether a directory is an environment, or the prefix of an interpreter."""
    return (path / "pyvenv.cfg").is_file() or bool(_site_packages(path))


def prefix_of(interpreter: Path) -> Path:
    """The environment of an interpreter, from where it lies: ``bin/python`` is in its prefix."""
    beside = interpreter.absolute().parent.parent
    if (beside / "pyvenv.cfg").is_file():
        return beside
    return interpreter.resolve().parent.parent


def read(path: Path, target: Target) -> Given:
    """What is installed in the environment. Raises AuditError where there is none."""
    sites = _site_packages(path)
    if not sites:
        raise AuditError(
            f"{path} is an environment without a site-packages directory",
            hint="make it again: `uv venv`, then install into it",
        )
    found: dict[str, Locked] = {}
    notes = []
    python = _python_of(sites[0], path)
    matches = python == target.python
    if python and not matches:
        notes.append(
            f"it is of {python}, not of {target.python}: the same releases are audited for "
            f"{target.interpreter.request}, with the wheels that the index has of them"
        )
    for site in sites:
        for distribution in distributions(path=[str(site)]):
            entry = _entry(distribution, site, path, installed=matches or not python)
            if entry is not None:
                found.setdefault(entry.name, entry)
    return Given(
        path=path,
        form=FORM,
        distributions=tuple(found[name] for name in sorted(found)),
        notes=tuple(notes),
    )


def _site_packages(path: Path) -> list[Path]:
    found = [*sorted(path.glob("lib/python3.*/site-packages")), path / "Lib" / "site-packages"]
    if path.name == "site-packages":
        found.append(path)
    return [site for site in found if site.is_dir()]


def _python_of(site: Path, environment: Path) -> str:
    """The interpreter that the environment is for, such as cp314t; "" where nothing says."""
    if match := _PYTHON.search(site.parent.name):
        return f"cp{match['major']}{match['minor']}{match['threads']}"
    try:
        text = (environment / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    version = re.search(r"^version(?:_info)?\s*=\s*(\d)\.(\d+)", text, re.MULTILINE)
    threads = "t" if list(environment.glob("Scripts/python3.*t.exe")) else ""
    return f"cp{version[1]}{version[2]}{threads}" if version else ""


def _entry(
    distribution: Distribution, site: Path, environment: Path, *, installed: bool
) -> Locked | None:
    name = distribution.metadata["Name"]
    if not name:
        return None  # what an interrupted installation leaves behind
    source, where, editable = _source(distribution)
    installed = installed and not editable
    return Locked(
        name=canonicalize_name(name),
        version=distribution.version,
        origin=str(environment),
        source="environment" if installed else source,
        where=where,
        installed=_installed(distribution, site) if installed else None,
    )


def _source(distribution: Distribution) -> tuple[Source, str, bool]:
    """Where it was installed from (PEP 610), and whether it is only a link to its source tree.

    That is an index, unless a direct URL is recorded.
    """
    text = distribution.read_text("direct_url.json") or ""
    url = re.search(r'"url"\s*:\s*"([^"]+)"', text)
    if not url:
        return "index", "", False
    editable = bool(re.search(r'"editable"\s*:\s*true', text))
    if '"vcs_info"' in text:
        return "git", url[1], editable
    return ("path" if url[1].startswith("file:") else "url"), url[1], editable


def _installed(distribution: Distribution, site: Path) -> Installed:
    record = dict(_record(distribution))
    compiled = compiled_files(record)
    digest = hashlib.sha256()
    for name in sorted(record):
        digest.update(f"{name} {record[name]}\n".encode())
    for name in compiled:
        path = site / name
        digest.update(f"{name} {files.sha256(path) if path.is_file() else ''}\n".encode())
    return Installed(
        root=site,
        tags=tuple(_tags(distribution.read_text("WHEEL") or "")),
        extensions=compiled,
        record=record,
        digest=digest.hexdigest(),
        needs=tuple(locked.required(distribution.requires or ())),
    )


def _record(distribution: Distribution) -> Iterator[tuple[str, str]]:
    """The files that came with the wheel, each with the digest that it had there."""
    for file in distribution.files or ():
        name = file.as_posix()
        made_here = name.rpartition("/")[2] in _MADE_HERE or name.endswith(".pyc")
        if not made_here and not name.startswith(".."):
            yield name, f"{file.hash.mode}={file.hash.value}" if file.hash else ""


def _tags(text: str) -> Iterable[str]:
    return re.findall(r"^Tag:\s*(\S+)", text, re.MULTILINE)
