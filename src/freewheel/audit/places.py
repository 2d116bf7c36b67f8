"""Where foreign code is imported: in a container without a network, or here if asked for."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

from freewheel.audit.target import Target
from freewheel.base import files
from freewheel.base.errors import AuditError, FreewheelError
from freewheel.base.workspace import Workspace
from freewheel.machine.engine import Engine, find_engine, remove_leftovers
from freewheel.machine.image import (
    BuilderImage,
    acceptable_identities,
    find_or_make_image,
)
from freewheel.machine.interpreter import Interpreter, find_interpreter
from freewheel.recipe.pythons import Python
from freewheel.recipe.targets import in_container

Importing = Literal["container", "here", "no"]

_NOBODY = "65534:65534"
_SCRATCH = "2g"  # of memory for what modules write while they are imported
_PROCESSES = 4096  # processes and threads in the container
_INSIDE = "/audit"


class Place(Protocol):
    """Something that runs smoke.py on modules of trees that lie on this machine."""

    @property
    def identity(self) -> str:
        """The interpreter, so that results are kept apart for each."""

    def command(self, program: Path, job: Path) -> list[str]:
        """The command line that works through the job."""

    def seen(self, path: Path) -> str:
        """How a path of this machine is called where the modules are imported."""

    @property
    def environment(self) -> Mapping[str, str | None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InContainer:
    """The builder image, read-only, without a network, without the user's files, as nobody."""

    engine: Engine
    image: BuilderImage
    python: str
    roots: tuple[Path, ...]

    @property
    def identity(self) -> str:
        return f"{self.image.identity} {self.python}"

    @property
    def environment(self) -> Mapping[str, str | None]:
        return self.engine.environment

    def command(self, program: Path, job: Path) -> list[str]:
        mounts = {program: f"{_INSIDE}/smoke.py", job: f"{_INSIDE}/job.json"}
        mounts |= {root: self.seen(root) for root in self.roots}
        return [
            *(self.engine.name, "run", "--rm", *self.engine.foreign_args, "--read-only"),
            *(f"--tmpfs=/tmp:rw,mode=1777,size={_SCRATCH}", "--workdir=/tmp"),
            *("--cap-drop=all", "--security-opt=no-new-privileges", f"--user={_NOBODY}"),
            f"--pids-limit={_PROCESSES}",
            *(f"--volume={source}:{target}:ro" for source, target in mounts.items()),
            *(
                "--entrypoint",
                f"{Python(self.python).prefix}/bin/python",
            ),
            self.image.reference,
            *("-I", "-S", "-B", f"{_INSIDE}/smoke.py", f"{_INSIDE}/job.json"),
        ]

    def seen(self, path: Path) -> str:
        for number, root in enumerate(self.roots):
            if path == root or root in path.parents:
                return f"{_INSIDE}/{number}/{path.relative_to(root).as_posix()}".removesuffix("/.")
        raise AuditError(f"{path} is not mounted", hint="report this: it should not happen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """The machine's own interpreter, as its user: foreign code can do all that the user can."""

    interpreter: Interpreter

    @property
    def identity(self) -> str:
        return f"{self.interpreter.build} {files.sha256(self.interpreter.path.resolve())}"

    @property
    def environment(self) -> Mapping[str, str | None]:
        return {"PYTHON_GIL": None}

    def command(self, program: Path, job: Path) -> list[str]:
        return [str(self.interpreter.path), "-I", "-S", "-B", str(program), str(job)]

    def seen(self, path: Path) -> str:
        return str(path)


def why_not(target: Target, importing: Importing) -> AuditError | None:
    """Why nothing can be imported for a target on this machine, whatever is installed; or None."""
    if importing == "no":
        return AuditError("it was not imported, as --import no asks", hint="leave --import no out")
    container = in_container(str(target))
    same = sys.platform == "linux" and target.platform.endswith(f"_{platform.machine()}")
    if target.runs_here if importing == "here" else container and same:
        return None
    here = "" if container else ", with --import here"
    return AuditError(
        f"wheels for {target.platform} cannot be imported on this machine",
        hint=f"run the audit on a machine with {target.platform}{here}",
    )


def find_place(
    workspace: Workspace, target: Target, importing: Importing, roots: Sequence[Path]
) -> Place:
    """Where modules of the target are imported. Raises FreewheelError where that cannot be."""
    if importing == "here":
        return Here(interpreter=find_interpreter(workspace, target.interpreter))
    try:
        engine = find_engine(workspace, may_install=False)
        remove_leftovers(engine)
        image = find_or_make_image(workspace, engine, str(target))
    except FreewheelError as error:
        raise AuditError(
            f"nothing was imported: {error.summary}",
            problems=error.problems,
            hint=f"{error.hint}; or --import here, which runs the code of all these wheels on "
            "this machine, as this user",
        ) from error
    return InContainer(engine=engine, image=image, python=target.python, roots=tuple(roots))


def identities(target: Target, importing: Importing) -> tuple[str, ...]:
    """The places whose kept results may be used, without starting an engine."""
    if importing == "here":
        return ()
    return tuple(f"{known} {target.python}" for known in acceptable_identities(str(target)))


@cache
def program() -> Path:
    """The program that is run there."""
    return Path(__file__).with_name("smoke.py")


@cache
def program_digest() -> str:
    """Over the program: other tests give other results."""
    return hashlib.sha256(program().read_bytes()).hexdigest()
