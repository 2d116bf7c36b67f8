"""What ThreadSanitizer reports: read from its logs, told apart by whose code it is, made one.

**Whose race it is.** A race is between two accesses, and each access is made by the innermost
function on its stack that is not the sanitizer's own (``memcpy`` and the like are). The shared
object that this function was compiled into says whose code it is. So what a project's compiler
expanded in the project's own module, such as the body of ``Py_INCREF``, is the project's.

- ``Origin.PROJECT``: at least one of the two accesses is made in a shared object of the wheel.
- ``Origin.CALLED``: both are made in CPython, and at least one by a function of its C API that the
  wheel's code has called, with no Python code in between. CPython promises to be safe here for
  most of its functions, but not for all (``PyDict_Next``, ``PyTuple_SetItem`` and others want a
  lock of the caller), so the caller may be wrong. It counts as the project's until shown otherwise.
- ``Origin.ELSEWHERE``: all others. Two threads that run Python code, or CPython by itself, have met
  in CPython: that is for CPython to make safe.

In a report of locks taken in opposite order, taking the lock is the access.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

# What the options of the sanitizer must say for its logs to be read here: tabs between a frame's
# parts, and whole paths, since C++ has blanks in names and many modules are called the same.
FRAME_FORMAT = "    #%n %f\t%S\t%m"

_WARNING = re.compile(r"^WARNING: ThreadSanitizer: (?P<kind>.+) \(pid=\d+\)$")
_FRAME = re.compile(r"^ +#\d+ (?P<function>.*)\t(?P<source>.*)\t(?P<module>.*)$")
_SOURCE = re.compile(r"^(?P<file>.*?)(?::(?P<line>\d+))?(?::\d+)?$")
_ACCESS = re.compile(r"(?i)^(previous )?(atomic )?(read|write) of size|^mutex .+ acquired here")
_ADDRESS = re.compile(r" (?:at )?\(?0x[0-9a-f]+\)?")
_MATCHED = re.compile(r"^ *(?P<count>\d+) (?P<pattern>[a-z_]+:.+)$")
_BROKEN = re.compile(
    r"FATAL: ThreadSanitizer|ThreadSanitizer: CHECK failed|nested bug|hard rss limit exhausted"
)
_TELLING = 3  # frames by which accesses are distinguished
_INTERPRETER_LOOP = "_PyEval_EvalFrameDefault"


class Origin(StrEnum):
    """Whose code a race is in; the module's docstring has the rule."""

    PROJECT = "project"
    CALLED = "called by the project"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One call on a stack. ``file`` is "" and ``line`` 0 where there is no debug information.

    ``module`` is the path of the program or shared object that the function was compiled into;
    ``cython`` is the place in Cython source, such as ``parser.pyx:12``, that C was made from.
    """

    function: str
    file: str
    line: int
    module: str
    cython: str = ""

    @property
    def place(self) -> str:
        """Where a person looks."""
        return self.cython or (f"{self.file}:{self.line}" if self.file else "?")

    def __str__(self) -> str:
        return f"{self.function} ({self.place}, {Path(self.module).name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One of the accesses that met: what it was, without addresses, and the calls, innermost first.

    The calls go as far as the Python code that they come from. The sanitizer remembers only so
    much: an earlier access may have lost its frames.
    """

    what: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report: its kind, such as ``data race``, the accesses, and what memory was accessed."""

    kind: str
    stacks: tuple[Stack, ...]
    memory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What one process left: reports, how often each suppression matched, and its last words.

    ``broken`` are the lines by which the sanitizer says that it failed itself.
    """

    reports: tuple[Report, ...]
    matched: tuple[tuple[str, int], ...]
    broken: tuple[str, ...]


# -------------------------------------------------------------------------------------- reading


def parse_log(text: str) -> Log:
    """Read a log; a report that was cut off by the process's end counts as far as it goes."""
    reports: list[Report] = []
    current: _Reader | None = None
    matched: list[tuple[str, int]] = []
    broken: list[str] = []
    counting = False
    for line in text.splitlines():
        if found := _WARNING.match(line):
            current = _Reader(found["kind"])
        elif line.startswith(("SUMMARY: ", "=====")):
            if current:
                reports.append(current.report())
            current = None
        elif current:
            current.read(line)
        elif line.startswith("ThreadSanitizer: Matched "):
            counting = True
        elif counting and (found := _MATCHED.match(line)):
            matched.append((found["pattern"], int(found["count"])))
        if _BROKEN.search(line):
            broken.append(line.strip())
    if current:
        reports.append(current.report())
    return Log(reports=tuple(reports), matched=tuple(matched), broken=tuple(broken))


class _Reader:
    """Takes a report line by line: headings, each with its frames."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._sections: list[tuple[str, list[Frame]]] = [("", [])]
        self._memory = ""

    def read(self, line: str) -> None:
        if found := _FRAME.match(line):
            self._sections[-1][1].append(_frame(found))
        elif line.startswith("  ") and not line.startswith("   ") and line.strip():
            heading = _ADDRESS.sub("", line.strip().rstrip(":"))
            if heading.startswith("Location is "):
                self._memory = heading.removeprefix("Location is ")
            self._sections.append((heading, []))

    def report(self) -> Report:
        stacks = [
            Stack(what=heading, frames=tuple(_down_to_python(frames)))
            for heading, frames in self._sections
            if _ACCESS.match(heading) or (not heading and frames)
        ]
        return Report(kind=self._kind, stacks=tuple(stacks), memory=self._memory)


def _down_to_python(frames: Sequence[Frame]) -> Iterator[Frame]:
    """What was called since Python code last ran; below, there are only calls of Python."""
    for frame in frames:
        yield frame
        if frame.function == _INTERPRETER_LOOP:
            break


def _frame(found: re.Match[str]) -> Frame:
    source = _SOURCE.match(found["source"])
    known = source is not None and found["source"] != "<null>"
    return Frame(
        function=found["function"],
        file=os.path.normpath(source["file"]) if source and known else "",
        line=int(source["line"] or 0) if source and known else 0,
        module=found["module"],
    )


# ---------------------------------------------------------------------------------- telling apart


def origin(report: Report, packages: Path) -> Origin:
    """Whose race it is; ``packages`` is the directory that the wheel is installed below."""
    origins = [_origin(frames, packages) for frames in _accesses(report)]
    return next((o for o in (Origin.PROJECT, Origin.CALLED) if o in origins), Origin.ELSEWHERE)


def _accesses(report: Report) -> Iterator[tuple[Frame, ...]]:
    """The frames of each access, without the sanitizer's own at the top."""
    for stack in report.stacks:
        yield stack.frames[_runtime_frames(stack.frames) :]


def _runtime_frames(frames: Sequence[Frame]) -> int:
    """How many frames at the top are the sanitizer's.

    Its runtime is part of the program and the only part of it without debug information. Of
    libraries that have none either, it knows only what they call in it.
    """
    count = 0
    while count < len(frames) and not frames[count].file and _is_program(frames[count]):
        count += 1
    return count


def _is_program(frame: Frame) -> bool:
    return ".so" not in Path(frame.module).name


def _origin(frames: Sequence[Frame], packages: Path) -> Origin:
    for depth, frame in enumerate(frames):
        if Path(frame.module).is_relative_to(packages):
            return Origin.CALLED if depth else Origin.PROJECT
    return Origin.ELSEWHERE


# ------------------------------------------------------------------------------------- made one


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """All reports of one race: an example, how often it was seen, and by which programs."""

    report: Report
    origin: Origin
    seen: int
    programs: tuple[str, ...]


def gather(reports: Iterable[tuple[str, Report]], packages: Path) -> tuple[Race, ...]:
    """Make one of the reports whose accesses are the same; each comes with its program's name."""
    found: dict[tuple[object, ...], list[tuple[str, Report]]] = {}
    for program, report in reports:
        found.setdefault(_identity(report), []).append((program, report))
    races = [
        Race(
            report=same[0][1],
            origin=origin(same[0][1], packages),
            seen=len(same),
            programs=tuple(sorted({program for program, _ in same})),
        )
        for same in found.values()
    ]
    order = list(Origin)
    return tuple(sorted(races, key=lambda race: (order.index(race.origin), -race.seen)))


def _identity(report: Report) -> tuple[object, ...]:
    """Kind, and where each access was made and by whom it was called, whichever came first.

    One place is not enough: accesses are often made by small functions that serve many callers.
    """
    places = [
        tuple((frame.function, frame.place) for frame in frames[:_TELLING])
        for frames in _accesses(report)
    ]
    return (report.kind, *sorted(places))
