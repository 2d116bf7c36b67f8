"""cibuildwheel with the project at another place in the container: ``PLACE WORDS...``."""

from __future__ import annotations

import os
import sys
from pathlib import PurePosixPath

from cibuildwheel.__main__ import main
from cibuildwheel.platforms import linux


def path(*parts: str | os.PathLike[str]) -> PurePosixPath:
    """A path in the container; /project, which cibuildwheel has as a constant, is PLACE."""
    return PurePosixPath(*((PLACE,) if parts == ("/project",) else parts))


if __name__ == "__main__":
    PLACE = sys.argv.pop(1)
    linux.PurePosixPath = path  # type: ignore[assignment,attr-defined]
    main()
