"""The only module that prints.

On a terminal, each running build has a live line with its stage and how long it has taken. Where
there is no terminal, each change of stage is a plain line of its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from freewheel.base.redaction import printable

for _stream in (sys.stdout, sys.stderr):
    # What a terminal cannot spell, such as a dot in the middle, is escaped rather than an error.
    with contextlib.suppress(AttributeError, ValueError, OSError):
        _stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """A line of ordinary output."""
    _out.print(printable(text), markup=False)


def keep_stdout_for_data() -> None:
    """From now on, say everything to standard error but ``data``."""
    _out.stderr = True


def data(text: str) -> None:
    """Output that another program reads, as it is."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Something that was done or decided on the user's behalf, said as it happens."""
    _out.print(f"[dim]·[/dim] {_safe(text)}")


def warn(text: str) -> None:
    """Something that is not an error and may surprise."""
    _err.print(f"[yellow]warning:[/yellow] {_safe(text)}")


def fail(text: str) -> None:
    """An error, as the user reads it."""
    _err.print(f"[bold red]error:[/bold red] {_safe(text)}")


def replay(title: str, text: str) -> None:
    """What a failed child process printed."""
    _err.print(f"[bold]──── {_safe(title)}[/bold]")
    _err.print(printable(text), markup=False)
    _err.print("[bold]────[/bold]")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; every cell whole, however narrow the terminal."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if not _out.is_terminal:
        # Rich takes 80 columns for granted where there is no terminal, and would cut digests.
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            say("  ".join(cells).rstrip())
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    _out.print(shown)


def give_up() -> None:
    """Drop what can no longer be printed, as where the disk behind the output is full.

    Without that, the interpreter would try once more at its end, and complain.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _safe(text: str) -> str:
    return escape(printable(text))


def duration(seconds: float) -> str:
    """Seconds as a person reads them: ``0.4 s``, ``12 s``, ``3 min 20 s``."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes:
        return f"{minutes} min {rest:02d} s"
    return f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"  # noqa: PLR2004  a matter of taste


_LONG = 10.0  # seconds; where no stage takes so long, none is worth a word at the end


class Board:
    """The live view of several jobs that run at once. Safe to use from their threads.

    A line for all of them says how many stages have ended, since when, and which took longest.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected = self._started = self._ended = 0
        self._slowest = (0.0, "")
        self._whole: TaskID | None = None
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=_out,
            transient=True,
            disable=not _out.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        seconds, name = self._slowest
        if seconds >= _LONG and self._ended > 1:
            self._line(f"slowest: {name}, {duration(seconds)}")

    def expect(self, stages: int) -> None:
        """Say that so many stages more will follow, so that each can say which of them it was."""
        with self._lock:
            if self._whole is None:
                self._expected = self._started  # by then, without having been announced
                self._whole = self._progress.add_task("", total=None)
            self._expected += stages
            self._show_whole(self._whole)

    @contextmanager
    def stage(self, job: str, name: str) -> Iterator[None]:
        """Show that ``job`` is in the stage ``name`` for as long as the block runs."""
        task = self._progress.add_task(f"[bold]{_safe(job)}[/bold]  {name}", total=None)
        if not _out.is_terminal:
            self._line(f"{job}: {name} ...")
        started = time.monotonic()
        with self._lock:
            self._started += 1
            self._expected = max(self._expected, self._started)
        try:
            yield
        except BaseException:
            self._line(f"{job}: {name} failed after {self._end(job, name, started)}")
            raise
        else:
            self._line(f"{job}: {name} done in {self._end(job, name, started)}")
        finally:
            self._progress.remove_task(task)

    def _end(self, job: str, name: str, started: float) -> str:
        """Count a stage that ended; how long it took, and which of how many it was."""
        seconds = time.monotonic() - started
        with self._lock:
            self._ended += 1
            self._slowest = max(self._slowest, (seconds, f"{job}: {name}"))
            if self._whole is None:
                return duration(seconds)
            self._show_whole(self._whole)
            return f"{duration(seconds)} ({self._ended} of {self._expected})"

    def _show_whole(self, task: TaskID) -> None:
        seconds, name = self._slowest
        slowest = f", slowest {_safe(name)}: {duration(seconds)}" if name else ""
        text = f"{self._ended} of {self._expected} stages done{slowest}"
        self._progress.update(task, description=text)

    @contextmanager
    def counted(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """Show how many of ``total`` are done: call what this yields after each.

        Without a terminal, a line says so after each quarter.
        """
        if not total:
            yield lambda: None
            return
        task = self._progress.add_task(f"{escape(what)}  0 of {total}", total=None)
        done = 0

        def advance() -> None:
            nonlocal done
            with self._lock:
                done += 1
                if done > total:
                    return
                self._progress.update(task, description=f"{escape(what)}  {done} of {total}")
                if not _out.is_terminal and (done * 4 // total) != ((done - 1) * 4 // total):
                    _out.print(f"{what}: {done} of {total}", markup=False)

        try:
            yield advance
        finally:
            done = total  # whoever is still at work has nothing to show it in
            self._progress.remove_task(task)

    def _line(self, text: str) -> None:
        with self._lock:
            _out.print(printable(text), markup=False)
