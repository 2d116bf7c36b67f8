"""The identity of code: what a module does, without the comments that explain it."""

from __future__ import annotations

import hashlib
import io
import tokenize
from collections.abc import Iterable

from freewheel.base.workspace import PACKAGE


def code_digest(modules: Iterable[str]) -> str:
    """SHA-256 over modules of this package, named by path without suffix: ``base/archives``.

    Comments and blank lines do not count. The text does, and not a syntax tree, because trees
    differ between versions of Python.
    """
    digest = hashlib.sha256()
    for module in modules:
        text = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
        digest.update(f"{module}\n{without_comments(text)}".encode())
    return digest.hexdigest()


def without_comments(text: str) -> str:
    """Python source without its comments, trailing space and blank lines."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())
