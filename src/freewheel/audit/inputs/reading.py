"""Tell the inputs apart by what they contain, and read each with the module for its form."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

from freewheel.audit.inputs import (
    environment,
    locked,
    pipfile,
    poetry,
    pylock,
    requirements,
    uv_lock,
    wheel,
)
from freewheel.audit.inputs.locked import Given, Selection
from freewheel.audit.target import Target
from freewheel.base.errors import AuditError

_EXECUTABLES = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!")
_LARGEST = 256 * 1024 * 1024  # bytes of a text that is read; real locks have a few megabytes
_CRASH_MARKS = (
    *("Fatal Python error", "most recent call first", "Extension modules:"),
    *("Segmentation fault", "Bus error", "core dumped"),
)
_LOCKS = ("uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock", "requirements.txt")


def is_crash_dump(text: str) -> bool:
    """Whether a text has what faulthandler or a shell says of a crash, also in folded lines."""
    squeezed = "".join(text.split())
    return any("".join(mark.split()) in squeezed for mark in _CRASH_MARKS)


def is_crash_file(path: Path) -> bool:
    """Whether a path is a text with a crash dump in it."""
    if not path.is_file() or zipfile.is_zipfile(path) or _is_program(path):
        return False
    return is_crash_dump(read_text(path))


def read_text(path: Path) -> str:
    """A text file. Raises AuditError where it is not there, or no text."""
    try:
        if path.stat().st_size > _LARGEST:
            raise AuditError(
                f"{path} has {path.stat().st_size >> 20} MiB, which is no lock and no crash dump",
                hint="name the lock itself",
            )
        content = path.read_bytes()
    except OSError as error:
        raise AuditError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="name a lock, a requirements file, an environment, a wheel or a crash dump",
        ) from error
    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
    encoding = marks.get(content[:2]) or marks.get(content[:3]) or "utf-8"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        text = content.decode(encoding, errors="replace")
        if is_crash_dump(text):
            return text
        raise AuditError(
            f"{path} is neither text nor a wheel: byte {error.start} is not {encoding}",
            hint="name a lock, a requirements file, an environment, a wheel or a crash dump",
        ) from error


def read(path: Path, target: Target, selection: Selection) -> Given:
    """What an input brings to the target. Raises AuditError; crash dumps are read elsewhere."""
    if path.is_dir():
        return _directory(path, target)
    if path.is_file() and zipfile.is_zipfile(path):
        return wheel.read(path, target)
    if path.is_file() and _is_program(path):
        return environment.read(environment.prefix_of(path), target)
    if path.suffix == ".whl" and path.is_file():
        raise AuditError(
            f"{path} is damaged, or was cut short: it is no zip archive",
            hint="download it again",
        )
    return _text(path, read_text(path), target, selection)


def _directory(path: Path, target: Target) -> Given:
    if environment.is_environment(path):
        return environment.read(path, target)
    inside = [name for name in _LOCKS if (path / name).is_file()]
    hint = f"name {' or '.join(str(path / name) for name in inside)}" if inside else ""
    raise AuditError(
        f"{path} is a directory, but no environment (no pyvenv.cfg, no site-packages)",
        hint=hint or "name an environment, a lock, a requirements file, a wheel or a crash dump",
    )


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
    return os.access(path, os.X_OK) and start.startswith(_EXECUTABLES)


def _text(path: Path, text: str, target: Target, selection: Selection) -> Given:
    if not text.strip():
        raise AuditError(f"{path} is empty", hint="write it again with the tool that made it")
    if text.lstrip().startswith("{"):
        return _json(path, text, target, selection)
    if _looks_like_toml(path, text):
        return _toml(path, text, target, selection)
    if path.suffix == ".lock":
        raise locked.broken(path, "lock of any kind; it may be cut short", [])
    return requirements.read(path, text, target)


def _looks_like_toml(path: Path, text: str) -> bool:
    """Whether it is TOML, or was before it was cut short."""
    begins = [line.strip() for line in text.splitlines() if line.strip()]
    tables = any(line.startswith(("[[", "[package", "[metadata", "[project")) for line in begins)
    assigns = next((line for line in begins if not line.startswith("#")), "")
    key, equals, value = assigns.partition("=")
    assigned = equals == "=" and key.strip().replace("-", "").isalnum() and value[:1] == " "
    return tables or assigned or path.suffix == ".toml"


def _toml(path: Path, text: str, target: Target, selection: Selection) -> Given:
    content = locked.read_toml(path, text)
    match content:
        case {"lock-version": _}:
            return pylock.read(path, content, target, selection)
        case {"metadata": {"lock-version": _}}:
            return poetry.read(path, content, target, selection)
        case {"metadata": {"lock_version": _}}:
            raise AuditError(
                f"{path} is a lock of PDM's own format",
                hint="`pdm export --format pylock --output pylock.toml`, and audit that",
            )
        case {"version": _, "package": _} | {"version": _, "requires-python": _}:
            return uv_lock.read(path, {"package": [], **content}, target, selection)
        case {"project": _} | {"tool": _} | {"build-system": _}:
            raise AuditError(
                f"{path} says what a project asks for, not which releases it gets",
                hint="lock it (`uv lock`), and audit the lock",
            )
        case _:
            raise AuditError(
                f"{path} is TOML, but no lock: it has none of lock-version, version, metadata",
                hint=f"what can be audited: {', '.join(_LOCKS)}",
            )


def _json(path: Path, text: str, target: Target, selection: Selection) -> Given:
    content = locked.read_json(path, text)
    if isinstance(content.get("_meta"), dict):
        return pipfile.read(path, content, target, selection)
    known = ", ".join(list(json.loads(text))[:4])
    raise AuditError(
        f"{path} is JSON, but no Pipfile.lock: it has {known}, and no _meta",
        hint=f"what can be audited: {', '.join(_LOCKS)}",
    )
