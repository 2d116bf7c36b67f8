"""The only module that starts child processes."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Protocol, TypedDict

from freewheel.base.errors import CommandFailed

_TAIL = 200  # lines of a failed command's log that are replayed
_KILLED = -9  # SIGKILL, by its number: Windows has no name for it
_LOOK = 0.4  # seconds from one look at a watched process to the next
_SAID = 16_384  # bytes that are kept of what a watched command printed
_watched: set[subprocess.Popen[bytes]] = set()  # the leaders of sessions, while they run
_told_to_end = threading.Event()
# What a child that runs foreign code may see of this process's environment: where programs and
# temporary files are, how texts are written, and what Windows and Xcode need to start anything.
_ALLOWED = {
    *("PATH", "TMPDIR", "TEMP", "TMP", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM"),
    *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "OS", "NUMBER_OF_PROCESSORS"),
    *("PROCESSOR_ARCHITECTURE", "PROCESSOR_IDENTIFIER", "PROGRAMDATA", "COMMONPROGRAMFILES"),
    *("PROGRAMFILES", "PROGRAMFILES(X86)", "PROGRAMFILES(ARM)", "PROGRAMW6432"),
    *("DEVELOPER_DIR", "SDKROOT"),
}
_HOMES = (
    *("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"),
    *("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A child process that has ended. With a log, ``stdout`` is the log's end, ``stderr`` empty."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    log: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
    stdin: str | None = None,
    user: str | None = None,
) -> Finished:
    """Run a command to its end.

    ``env`` is added to this process's environment; None takes a variable away. With ``log``, the
    command line and both output streams are appended to that file, and a failure carries the end
    of it; without, both streams are captured. ``timeout`` is in seconds; reaching it kills the
    child. Standard input is empty unless ``stdin`` gives its text. Root can have the command run
    as another ``user``, with the groups of that user and not root's.

    Raises CommandFailed when the command cannot be started, times out, or (with ``check``) exits
    with another code than 0.
    """
    words = tuple(os.fspath(word) for word in argv)
    full_env = _environment(env)
    started = time.monotonic()
    try:
        if log is None:
            done = subprocess.run(
                words,
                cwd=cwd,
                env=full_env,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                input=stdin or "",
                check=False,
                **_identity(user),
            )
            out, err = done.stdout, done.stderr
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a", encoding="utf-8") as sink:
                sink.write(f"$ {shlex.join(words)}\n")
                sink.flush()
                done = subprocess.run(
                    words,
                    cwd=cwd,
                    env=full_env,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=timeout,
                    input=stdin or "",
                    check=False,
                    **_identity(user),
                )
            out, err = _tail(log), ""
    except FileNotFoundError as error:
        raise CommandFailed(words, 127, str(error), log=str(log or "")) from error
    except subprocess.TimeoutExpired as error:
        said = _tail(log) if log else _text(error.stdout) + _text(error.stderr)
        said += f"\n(no end after {timeout:.0f} s)"
        raise CommandFailed(words, _KILLED, said, log=str(log or "")) from error
    if check and done.returncode != 0:
        raise CommandFailed(words, done.returncode, out + err, log=str(log or ""))
    return Finished(
        argv=words,
        returncode=done.returncode,
        stdout=out,
        stderr=err,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a watched process ended; ``returncode`` is None where it was killed for taking too long.

    A negative code is the signal that ended it. ``said`` is the end of what it printed.
    """

    returncode: int | None
    said: str
    seconds: float


class Overseer(Protocol):
    """Decides when a watched process is given up, beside the clock."""

    def give_up(self, pid: int) -> bool:
        """Whether to kill the session of that leader now; asked a few times a second."""


def watch(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path,
    env: Mapping[str, str | None] | None = None,
    timeout: float,
    user: str | None = None,
    overseer: Overseer | None = None,
) -> Ended:
    """Run a command that may crash, hang or flood its output, and leave nothing of it behind.

    It leads a session of its own, which is killed after ``timeout`` seconds, or when the
    ``overseer`` gives it up, and also when the command has ended, so that no child of its outlives
    it; and when this process is told to end (``end_by_sigterm``). Raises CommandFailed only when it
    cannot be started.
    """
    words = tuple(os.fspath(word) for word in argv)
    started = time.monotonic()
    with tempfile.TemporaryFile() as sink:
        try:
            child = subprocess.Popen(
                words,
                cwd=cwd,
                env=_environment(env),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **_identity(user),
            )
        except OSError as error:
            raise CommandFailed(words, 127, str(error)) from error
        _watched.add(child)
        try:
            returncode = _wait(child, started + timeout, overseer)
        finally:
            _watched.discard(child)
            _kill_session(child)
            child.wait()
        if _told_to_end.is_set():  # in another thread than the main one: how it ended says nothing
            raise KeyboardInterrupt
        seconds = time.monotonic() - started
        sink.seek(max(0, sink.seek(0, os.SEEK_END) - _SAID))
        said = sink.read().decode(errors="replace")
    return Ended(returncode=returncode, said=said, seconds=seconds)


def _wait(child: subprocess.Popen[bytes], deadline: float, overseer: Overseer | None) -> int | None:
    """The exit code; None where it did not end in time, or the overseer gave it up."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            return child.wait(timeout=min(left, _LOOK) if overseer else left)
        except subprocess.TimeoutExpired:
            if overseer and overseer.give_up(child.pid):
                break
    return None


def _kill_session(leader: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the session; its id stays taken for as long as there is a member."""
    if sys.platform == "win32":
        # There are no sessions; taskkill goes through the children as long as their parents live.
        words = ["taskkill", "/T", "/F", "/PID", str(leader.pid)]
        subprocess.run(words, capture_output=True, check=False)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)


def end_by_sigterm() -> None:
    """From now on SIGTERM interrupts this process as Ctrl-C does, and kills what it watches.

    Without that, the sessions of watched commands would outlive it: they are not its own.
    """
    signal.signal(signal.SIGTERM, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    _told_to_end.set()
    for leader in tuple(_watched):
        _kill_session(leader)  # without waiting, which the interrupted code may be about to do
    raise KeyboardInterrupt


def start(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    log: Path,
    user: str | None = None,
    lifeline: bool = False,
) -> Running:
    """Start a long-lived command, its output going to ``log``, and return at once.

    Root can have it run as another ``user``. One with a ``lifeline`` ends when its standard input
    does: when it is stopped, or this process has ended, however that came.
    """
    words = tuple(os.fspath(word) for word in argv)
    log.parent.mkdir(parents=True, exist_ok=True)
    sink = log.open("a", encoding="utf-8")
    sink.write(f"$ {shlex.join(words)}\n")
    sink.flush()
    try:
        child = subprocess.Popen(
            words,
            cwd=cwd,
            env=_environment(env),
            stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            **_identity(user),
        )
    except FileNotFoundError as error:
        sink.close()
        raise CommandFailed(words, 127, str(error), log=str(log)) from error
    return Running(argv=words, child=child, log=log, sink=sink)


@dataclass(slots=True, kw_only=True)
class Running:
    """A long-lived child process; ``stop`` ends it by its process id."""

    argv: tuple[str, ...]
    child: subprocess.Popen[bytes]
    log: Path
    sink: IO[str]

    @property
    def pid(self) -> int:
        return self.child.pid

    def returncode(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.child.poll()

    def wait(self) -> int:
        return self.child.wait()

    def stop(self, *, patience: float = 10.0) -> None:
        """Ask it to end (SIGTERM, or its lifeline), and kill it after ``patience`` seconds."""
        if self.child.poll() is None:
            if self.child.stdin:
                self.child.stdin.close()
            else:
                self.child.terminate()
            try:
                self.child.wait(timeout=patience)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.sink.close()

    def tail(self) -> str:
        return _tail(self.log)


def confined(home: Path) -> dict[str, str | None]:
    """Changes for ``env`` that hide the user from a child: their variables, settings and files.

    Only the variables on a list of harmless ones are left. ``home`` is what the child takes for
    its home directory; it should be empty, or not be there at all.
    """
    dropped = dict.fromkeys(name for name in os.environ if name.upper() not in _ALLOWED)
    return {**dropped, **dict.fromkeys(_HOMES, str(home))}


class _Identity(TypedDict, total=False):
    """The arguments of Popen that say who the child is."""

    user: int
    group: int
    extra_groups: list[int]


def _identity(user: str | None) -> _Identity:
    """Whoever starts the child; or ``user``, with the groups that a login would give them."""
    if user is None or sys.platform == "win32":
        return {}
    import pwd  # noqa: PLC0415  Windows has no such module

    entry = pwd.getpwnam(user)
    groups = os.getgrouplist(user, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def _environment(changes: Mapping[str, str | None] | None) -> dict[str, str]:
    merged = {**os.environ, **(changes or {})}
    return {name: value for name, value in merged.items() if value is not None}


def _tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-_TAIL:])


def _text(said: bytes | str | None) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said or ""
