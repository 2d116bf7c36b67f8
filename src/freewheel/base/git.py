"""Git, as a program: of the user's checkout, and on trees that are no repository."""

from __future__ import annotations

import os
from pathlib import Path

from freewheel.base import process
from freewheel.base.errors import CommandFailed, FreewheelError


def run_outside(tree: Path, arguments: list[str | Path]) -> process.Finished:
    """Run git on a bare tree: no repository above it, no settings of the user, English messages.

    Raises CommandFailed only where git cannot be started.
    """
    # Attributes are looked for in files of their own, which no switch of the settings covers.
    environment = {
        **process.confined(tree.parent / "no-home"),
        "GIT_CEILING_DIRECTORIES": str(tree.parent),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "LC_ALL": "C",
    }
    command = ["git", "-c", f"core.attributesFile={os.devnull}", *arguments]
    return process.run(command, cwd=tree, env=environment, check=False)


def clean_commit(root: Path) -> str:
    """The commit that the checkout is at; "" where it is changed, or is no repository."""
    try:
        status = process.run(["git", "status", "--porcelain"], cwd=root).stdout
        head = process.run(["git", "rev-parse", "HEAD"], cwd=root).stdout
    except CommandFailed:
        return ""
    return "" if status.strip() else head.strip()


def changed_since(root: Path, commit: str) -> list[str]:
    """The paths that differ between a commit and the checkout as it is, new files included.

    What the commit's own branch did after the two parted does not count. Raises FreewheelError
    where there is no such commit here.
    """
    try:
        base = process.run(["git", "merge-base", "--", commit, "HEAD"], cwd=root).stdout.strip()
        tracked = process.run(["git", "diff", "--name-only", "-z", base], cwd=root).stdout
        words = ["git", "ls-files", "--others", "--exclude-standard", "-z"]
        new = process.run(words, cwd=root).stdout
    except CommandFailed as error:
        raise FreewheelError(
            f"what has changed since {commit} cannot be told",
            problems=error.output.strip().splitlines(),
            hint="name a commit of this repository; a shallow clone has only its last",
        ) from error
    return sorted(filter(None, (tracked + new).split("\0")))
