"""Where foreign code runs: a container without a network, the user's variables, home or files.

An sdist's build backend, its ``setup.py`` and an extension that is imported for the first time may
be anybody's. They see what is mounted, and that only to read it; what they made is taken out as
bytes through a pipe, so that no link of theirs is followed here.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed
from freewheel.machine.engine import Engine

HOME = "/nobody"  # is not there
_LIFE = 7200  # seconds after which a sandbox ends by itself, whatever became of its owner
_PATIENCE = 120.0  # seconds for the engine
_MAX_FILE = 256 << 20  # bytes of a file that is taken out
_MAX_WRITTEN = 4 << 20  # blocks of 512 bytes that one file in it may have
_MAX_SAID = 4 << 20  # bytes of what a program prints
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RIGHTS = (
    # Of root's rights only this, to read what is mounted whoever owns it here.
    "--cap-drop=all",
    "--cap-add=DAC_OVERRIDE",
    "--security-opt=no-new-privileges",
)
_PROCESSES = 1024  # processes and threads of a sandbox
# The limits are set in the container: ending the engine's client would not end the program.
_RUN = (
    f"ulimit -f {_MAX_WRITTEN}; ulimit -c 0; umask 022; seconds=$1; shift; "
    'timeout --signal=KILL "$seconds" env -i "$@" >/tmp/out 2>/tmp/err </dev/null; code=$?; '
    f"head -c {_MAX_SAID} /tmp/out; head -c {_MAX_SAID} /tmp/err >&2; exit $code"
)
_TAKE = f'test -f "$1" && test ! -L "$1" && head -c {_MAX_FILE + 1} -- "$1" | base64 -w 0'


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or directory of this machine, and where it is seen in the sandbox, to be read."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A container that is up. Its programs run one after the other, each with its own limits."""

    engine: Engine
    identifier: str

    def run(
        self,
        words: Sequence[str],
        *,
        timeout: float,
        variables: Mapping[str, str] | None = None,
        log: Path | None = None,
        check: bool = True,
    ) -> process.Finished:
        """Run a program with those variables and no others. ``timeout`` is in seconds.

        Raises CommandFailed as ``process.run`` does.
        """
        given = {"PATH": PATH, "HOME": HOME, "LC_ALL": "C.UTF-8", **(variables or {})}
        return self.engine.call(
            *("exec", "--workdir=/tmp", self.identifier, "sh", "-c", _RUN, "sh"),
            *(f"{timeout:.0f}", *(f"{name}={value}" for name, value in given.items()), *words),
            timeout=timeout + _PATIENCE,
            log=log,
            check=check,
        )

    def take(self, path: str, target: Path) -> None:
        """Write the content of a plain file to ``target``. Raises CommandFailed."""
        words = ("exec", self.identifier, "sh", "-c", _TAKE, "sh", path)
        done = self.engine.call(*words, timeout=_PATIENCE)
        try:
            content = base64.b64decode(done.stdout, validate=True)
        except (ValueError, binascii.Error) as error:
            raise CommandFailed(words, 1, f"{path} could not be read: {error}") from error
        if len(content) > _MAX_FILE:
            raise CommandFailed(words, 1, f"{path} has more than {_MAX_FILE} bytes")
        files.write_bytes(target, content)


@contextmanager
def running_sandbox(
    engine: Engine, image: str, mounts: Sequence[Mount], *, processes: int = _PROCESSES
) -> Iterator[Sandbox]:
    """Start a sandbox in an image, and take it away at the end. Raises CommandFailed."""
    started = engine.call(
        *("run", "--detach", "--rm", *engine.foreign_args, *_RIGHTS),
        f"--pids-limit={processes}",
        *(f"--volume={mount.source}:{mount.target}:ro" for mount in mounts),
        *("--entrypoint=sleep", image, str(_LIFE)),
        timeout=_PATIENCE,
    )
    identifier = started.stdout.strip().splitlines()[-1]
    try:
        yield Sandbox(engine=engine, identifier=identifier)
    finally:
        engine.call("rm", "--force", "--time=0", identifier, check=False, timeout=_PATIENCE)
