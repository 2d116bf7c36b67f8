"""What must not be seen: passwords in URLs, the user's home, and what moves a terminal's cursor."""

from __future__ import annotations

import re
import tempfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path

_USER = re.compile(r"(?<=//)[^/\s\"'<>]*@")
_TOKEN = re.compile(
    r"(?i)([?&;](?:[\w-]*(?:token|password|secret|signature|key)[\w-]*)=)[^&\s\"'<>]+"
)
# Besides all control characters: what changes the direction of the text around it.
_TURNING = set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def without_credentials(text: str) -> str:
    """The text with ``***`` for the user information and the tokens of every URL in it."""
    if "//" not in text:
        return text
    return _TOKEN.sub(r"\1***", _USER.sub("***@", text))


def printable(text: str) -> str:
    """The text as it may be printed: no password, and an escape for what a terminal would obey."""
    return "".join(map(_shown, without_credentials(text)))


def _shown(char: str) -> str:
    if char.isprintable() or char in "\n\t":
        return char
    if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _TURNING:
        return ascii(char)[1:-1]
    return char


def without_places(text: str, places: Mapping[str, Path] | None = None) -> str:
    """The text with names for directories of this machine: what is kept and served says no more.

    ``places`` are such directories by what stands for them. The home directory is always one, and
    so is the one for temporary files.
    """
    known = {**(places or {}), "~": Path.home(), "$TMPDIR": Path(tempfile.gettempdir())}
    longest_first = sorted(known.items(), key=lambda item: -len(str(item[1])))
    for name, path in longest_first:
        if len(path.parts) > 1:
            text = re.sub(rf"{re.escape(str(path))}(?![\w.-])", name.replace("\\", r"\\"), text)
    return without_credentials(text)
