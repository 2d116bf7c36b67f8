"""The interpreters that wheels are made for: one row each, and all that follows from its tag.

What is pinned for one is in ``pins/cpython.toml``; which releases are built for it, in the recipes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.version import Version

_TAG = re.compile(r"cp(?P<major>\d)(?P<minor>\d+)(?P<threads>t?)")


@dataclass(frozen=True, slots=True)
class Python:
    """A minor version of CPython, by the tag that targets begin with: ``Python("cp314t")``.

    The ``t`` stands for the free-threaded build.
    """

    tag: str

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.tag):
            raise ValueError(f"{self.tag!r} is not a tag such as cp314t")

    def __str__(self) -> str:
        return self.tag

    @property
    def minor(self) -> tuple[int, int]:
        """The minor version, as the beginning of ``sys.version_info``."""
        found = _TAG.fullmatch(self.tag)
        assert found  # noqa: S101  by __post_init__
        return int(found["major"]), int(found["minor"])

    @property
    def version(self) -> str:
        """The minor version: ``3.14``."""
        return ".".join(map(str, self.minor))

    @property
    def request(self) -> str:
        """How uv is asked for it: ``3.14t``."""
        return self.version + ("t" if self.free_threaded else "")

    @property
    def program(self) -> str:
        """The name of the interpreter among programs: ``python3.14t``."""
        return f"python{self.request}"

    @property
    def prefix(self) -> str:
        """Where every builder image has it: ``/opt/python/cp314-cp314t``."""
        return f"/opt/python/{self.tag.removesuffix('t')}-{self.tag}"

    @property
    def free_threaded(self) -> bool:
        return self.tag.endswith("t")

    @property
    def with_gil(self) -> Python:
        """The default build of the same version."""
        return Python(self.tag.removesuffix("t"))


# The first is the one that is meant where none is named.
PYTHONS = (Python("cp314t"), Python("cp315t"))
DEFAULT = PYTHONS[0]


def note_of(version: str) -> str:
    """What has to be known of that release of CPython: that it is no final one; else ""."""
    parsed = Version(version)
    if not parsed.is_prerelease:
        return ""
    final = ".".join(map(str, parsed.release))
    return (
        f"{version} is a pre-release: wheels for it are wheels for {final}, its defects may differ"
    )


def python_of(target: str) -> Python:
    """The interpreter of a build identifier such as ``cp314t-manylinux_x86_64``."""
    return Python(target.partition("-")[0])
