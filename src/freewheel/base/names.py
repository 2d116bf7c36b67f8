"""Names that come from outside, as types that can only hold valid ones: parsed once, at the door.

An index, a buildinfo, a certificate or an archive may say anything; what is one of these is safe
as one part of a path and in a line of text.
"""

from __future__ import annotations

import re
from typing import Annotated, NewType

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pydantic import AfterValidator, StringConstraints

_PROJECT = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
_LONGEST = 200  # characters; what is added to a file's name must fit into 255 with it


ProjectName = NewType("ProjectName", str)  # the normalised name of a project (PEP 503)
WheelName = NewType("WheelName", str)  # the file name of a wheel, and no path


def project_name(text: str) -> ProjectName:
    """The text as a project's name. Raises ValueError for anything else."""
    plain = len(text) <= _LONGEST and _PROJECT.fullmatch(text)
    if not plain or canonicalize_name(text) != text:
        raise ValueError(f"{ascii(text)[:100]} is not the normalised name of a project")
    return ProjectName(text)


def wheel_name(text: str) -> WheelName:
    """The text as the file name of a wheel. Raises ValueError for anything else."""
    if len(text) > _LONGEST or not _FILE.fullmatch(text):
        raise ValueError(f"{ascii(text)[:100]} is not the file name of a wheel")
    parse_wheel_filename(text)
    return WheelName(text)


def project_of(wheel: WheelName) -> ProjectName:
    """The project that a wheel is of."""
    return project_name(canonicalize_name(wheel.partition("-")[0]))


def _version(text: str) -> str:
    if str(Version(text)) != text:
        raise ValueError(f"{ascii(text)[:100]} is not a version as PEP 440 writes it")
    return text


# For models of what is read: a field of one of these types holds nothing else.
Project = Annotated[str, AfterValidator(project_name)]
WheelFile = Annotated[str, AfterValidator(wheel_name)]
VersionText = Annotated[str, StringConstraints(max_length=100), AfterValidator(_version)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
