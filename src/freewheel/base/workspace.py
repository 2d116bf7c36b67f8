"""Where everything lives: the checkout's rooms, the user's cache and the user's data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from freewheel.base.errors import FreewheelError

PACKAGE = Path(__file__).parents[1]
PINS = PACKAGE / "pins"
# What builds may share out of a cache: fetched and digest-checked, or no input of a wheel at all.
SHARED = ("engine", "interpreters", "requirements", "sources")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """One checkout and the directories outside it that Freewheel writes to."""

    root: Path
    cache: Path
    data: Path

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    @property
    def patches(self) -> Path:
        return self.root / "patches"

    @property
    def probes(self) -> Path:
        return self.root / "probes"

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    @property
    def baseline(self) -> Path:
        return self.wheels / "baseline"

    @property
    def filled(self) -> Path:
        """Unproven wheels that fill the gaps of a lock."""
        return self.wheels / "filled"

    @property
    def known_good(self) -> Path:
        """The lock of known-good wheels; tracked, unlike the rest of ``wheels/``."""
        return self.wheels / "known-good.json"

    @property
    def simple(self) -> Path:
        """The static index."""
        return self.wheels / "simple"

    @property
    def sources(self) -> Path:
        """Upstream archives, by digest."""
        return self.cache / "sources"

    @property
    def requirements(self) -> Path:
        """Wheels of build requirements, a directory for each lock and target."""
        return self.cache / "requirements"

    @property
    def work(self) -> Path:
        """Scratch space, a directory for each build; quarantine until a wheel is verified."""
        return self.cache / "work"

    @property
    def proof(self) -> Path:
        """Results of the proof that are kept, a file for each subject."""
        return self.cache / "proof"

    @property
    def quick_proof(self) -> Path:
        """The same of quick proofs, on which no full one rests."""
        return self.proof / "quick"

    @property
    def report(self) -> Path:
        """The page that is made from the certificates."""
        return self.wheels / "report"

    @property
    def logs(self) -> Path:
        return self.cache / "logs"

    @property
    def locks(self) -> Path:
        return self.cache / "locks"


def find_workspace(start: Path | None = None) -> Workspace:
    """The checkout that holds ``start`` (the current directory) and the user's directories.

    ``FREEWHEEL_CACHE`` and ``FREEWHEEL_DATA`` move the latter. Raises FreewheelError outside a
    checkout.
    """
    here = (start or Path.cwd()).resolve()
    for root in (here, *here.parents):
        if (root / "recipes").is_dir() and (root / "patches").is_dir():
            break
    else:
        raise FreewheelError(
            f"{here} is not inside a Freewheel checkout (no recipes/ and patches/ above it)",
            hint="change to the directory that holds noxfile.py and run the command there",
        )
    cache = os.environ.get("FREEWHEEL_CACHE") or platformdirs.user_cache_dir("freewheel")
    data = os.environ.get("FREEWHEEL_DATA") or platformdirs.user_data_dir("freewheel")
    return Workspace(root=root, cache=Path(cache).resolve(), data=Path(data).resolve())


def link_checkout(workspace: Workspace, root: Path) -> dict[str, str]:
    """Make ``root`` a checkout with the recipes and patches of ``workspace`` and no wheels.

    It has a cache of its own, which shares what builds may share. Gives the environment variables
    for a child process that runs this program there.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name in ("recipes", "patches"):
        if not (root / name).is_symlink():
            (root / name).symlink_to(workspace.root / name)
    share_cache(workspace.cache, root / "cache")
    return {
        "PYTHONPATH": str(PACKAGE.parent),
        "FREEWHEEL_CACHE": str(root / "cache"),
        "FREEWHEEL_DATA": str(root / "data"),
    }


def share_cache(cache: Path, other: Path, names: Sequence[str] = SHARED) -> None:
    """Let the cache ``other`` have what ``cache`` has under ``names``, by links."""
    other.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (cache / name).exists() and not (other / name).is_symlink():
            (other / name).symlink_to(cache / name)
