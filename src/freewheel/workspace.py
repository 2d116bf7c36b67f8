"""Where everything lives: the checkout's rooms, the user's cache and the user's data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from freewheel.errors import FreewheelError


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
    def wheels(self) -> Path:
        return self.root / "wheels"

    @property
    def baseline(self) -> Path:
        return self.wheels / "baseline"

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
