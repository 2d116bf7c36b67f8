"""Read files and decode JSON and TOML that may hold anything: a value of the type, or one error."""

from __future__ import annotations

import codecs
import json
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never, TypeVar

from pydantic import TypeAdapter, ValidationError

from freewheel.base.errors import FreewheelError

T = TypeVar("T")
MAX_BYTES = 64 << 20  # of a file that is decoded as a whole
_SHOWN = 20  # problems of one document
# What decoding, and looking into what was decoded, raises for odd input.
ODD_INPUT: tuple[type[Exception], ...] = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError),
)


class DecodeError(FreewheelError):
    """A file cannot be read, or does not hold what it should; ``summary`` says which, and why."""


def read_bytes(path: Path) -> bytes:
    """The content of a plain file. Raises DecodeError; a pipe or a device is not waited for."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DecodeError(f"{path} is no file")
        if found.st_size > MAX_BYTES:
            raise DecodeError(f"{path} has more than {MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise DecodeError(f"{path}: {error.strerror or error}") from error


def read_plain(path: Path) -> bytes:
    """As ``read_bytes``, for a file that a person edits: a mark at its beginning is an error."""
    content = read_bytes(path)
    if content.startswith(codecs.BOM_UTF8):
        raise DecodeError(f"{path.name} begins with a byte order mark (BOM): save it without")
    return content


def text_of(content: bytes, what: str) -> str:
    """UTF-8 text, with or without a mark at its beginning. Raises DecodeError."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DecodeError(f"{what} is not UTF-8: line {line}, {error.reason}") from error


def from_json(content: bytes | str, what: str) -> Any:  # noqa: ANN401  whatever JSON holds
    """The value of a JSON text. Raises DecodeError."""
    text = content if isinstance(content, str) else text_of(content, what)
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise DecodeError(f"{what} is nested too deep") from error
    except ValueError as error:
        raise DecodeError(f"{what} is not JSON: {error}") from error


def from_toml(content: bytes | str, what: str) -> dict[str, Any]:
    """The table of a TOML text. Raises DecodeError."""
    text = content if isinstance(content, str) else text_of(content, what)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise DecodeError(f"{what} is nested too deep") from error
    except ValueError as error:
        raise DecodeError(f"{what}: not valid TOML: {error}") from error


def checked(adapter: TypeAdapter[T], value: object, what: str) -> T:
    """The value as the adapter's type. Raises DecodeError with every problem."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or 'the whole'}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)[:_SHOWN]
        ]
        raise DecodeError(f"{what} is not valid", problems=problems) from error
    except ODD_INPUT as error:
        raise DecodeError(f"{what} is not valid: {error}") from error


def looked_into(work: Callable[[], T], what: str) -> T:
    """What ``work`` makes of a decoded value of any shape. Raises DecodeError."""
    try:
        return work()
    except ODD_INPUT as error:
        raise DecodeError(f"{what} is not valid: {type(error).__name__}: {error}") from error


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is no number")
