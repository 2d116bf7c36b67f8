"""Read what faulthandler writes, whatever a terminal or a tracker made of its lines.

Lines may be folded anywhere, also within a word, and two columns may run together. None of what is
looked for needs white space, so the text is read without any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

# What faulthandler and shells call the signals; the shells of macOS add their number.
_SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Bus error": "SIGBUS",
    "Aborted": "SIGABRT",
    "Abort trap": "SIGABRT",
    "Floating-point exception": "SIGFPE",
    "Floating point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
    "Trace/BPT trap": "SIGTRAP",
    "access violation": "access violation",
    "stack overflow": "stack overflow",
}
# By number, where a supervisor says "code -10" or "signal 11": these differ by system.
_NUMBERS = {
    "macosx": {4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 8: "SIGFPE", 10: "SIGBUS", 11: "SIGSEGV"},
    "linux": {4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV"},
}
_CODE = re.compile(r"(?:code|signal|exitcode|returncode)[=:(]*-?(\d{1,2})(?!\d)")
_NAMED = re.compile(r"SIG(?:SEGV|BUS|ABRT|FPE|ILL|TRAP)")
_FATAL = re.compile(r"(?:FatalPythonerror|Windowsfatalexception):(?P<what>[^<\n]{0,120})")
_HANG = re.compile(r"Timeout\(\d+:\d\d:\d\d[.\d]*\)!")
_NEXT = (  # what can follow a frame
    r'File"|Binaryfile"|Currentthread|Thread0x|Extensionmodules:|Stack\(most|<truncated|<Cannot'
)
_PYTHON = re.compile(
    rf'File"(?P<path>[^"]+)",line(?P<line>\d+)in(?P<function>[\w<>.]*?)(?={_NEXT}|[^\w<>.]|$)'
)
_BINARY = re.compile(
    r'Binaryfile"(?P<path>[^"]+)",at(?P<symbol>[^"\[]*?)\+?(?P<offset>0x[0-9a-fA-F]+)?\[0x'
)
_EXTENSIONS = re.compile(r"Extensionmodules:(?P<names>[\w.,]*)(?P<end>\(total:(?P<total>\d+)\))?")
_INSTALLED = re.compile(r"(?:site|dist)-packages[/\\](?P<rest>.+)$")
_VERSION = re.compile(r"cpython-(3\.\d+\.\d+)|python(3\.\d+)t?[/\\.\w]")
_FREE_THREADED = re.compile(
    r"freethreaded|python3\.\d+t|cpython-3\d+t|cp3\d+t-|theGILisdisabled", re.IGNORECASE
)
_DATE = re.compile(r"(20\d\d)-([01]\d)-([0-3]\d)")
_QUOTED = re.compile(r"^[>|] ?", re.MULTILINE)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame, as the dump names it: of Python code with its line, or of a binary file.

    ``installed`` is the path below site-packages, "" for what is not installed there. ``thread`` is
    the number of the stack in the dump, from 0.
    """

    path: str
    function: str
    line: int
    binary: bool
    installed: str

    @property
    def top(self) -> str:
        """The name that is imported, without packages below it."""
        return re.split(r"[/\\.]", self.installed, maxsplit=1)[0]

    @property
    def module(self) -> str:
        """The dotted name of the module that the file is."""
        path = PurePosixPath(self.installed.replace("\\", "/"))
        parts = (*path.parts[:-1], path.name.partition(".")[0])
        return ".".join(part for part in parts if part != "__init__")

    @property
    def words(self) -> frozenset[str]:
        """The words in the names of its function and its file, in small letters."""
        where = self.installed or re.split(r"[/\\]", self.path)[-1]
        found = re.split(r"[^A-Za-z0-9]+|_", f"{where} {self.function}".lower())
        return frozenset(found) - {""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """What a crash dump says.

    ``signal`` is a name such as SIGBUS, "hang" for a time-out, "" where nothing says; ``wording``
    is how the dump says it. ``python`` is a version such as 3.14.2, ``platform`` one of manylinux,
    musllinux, macosx, win, and ``machine`` its processor; "" where nothing says. ``total`` is the
    number of extension modules that the dump itself counts, None where that was cut off.
    """

    signal: str
    wording: str
    python: str
    free_threaded: bool
    platform: str
    machine: str
    date: datetime | None
    frames: tuple[Frame, ...]
    extensions: tuple[str, ...]
    total: int | None
    truncated: bool

    @property
    def complete(self) -> bool:
        """Whether all extension modules are named that the process had loaded."""
        return self.total is not None and self.total == len(self.extensions)

    @property
    def deepest(self) -> tuple[Frame, ...]:
        """The frames in extension modules, the deepest first."""
        return tuple(frame for frame in self.frames if frame.binary and frame.installed)


def parse(text: str) -> Dump:
    """What a text says; a text that is no dump gives one without frames and modules."""
    plain = _ESCAPES.sub("", text)
    lines = plain.splitlines()
    quoted = sum(line.startswith((">", "|")) for line in lines)
    if quoted > len(lines) / 2:
        plain = _QUOTED.sub("", plain)
    squeezed = _tight(plain)
    names, total, cut = _extensions(squeezed, plain)
    platform = _platform(squeezed)
    signal, wording = _signal(squeezed, platform)
    version = _VERSION.search(squeezed)
    return Dump(
        signal=signal,
        wording=wording,
        python=(version[1] or version[2] or "") if version else "",
        free_threaded=bool(_FREE_THREADED.search(squeezed)),
        platform=platform,
        machine=_machine(squeezed, platform),
        date=_date(plain),
        frames=tuple(_frames(squeezed)),
        extensions=names,
        total=total,
        truncated=cut or "<truncated" in squeezed,
    )


def _signal(squeezed: str, platform: str) -> tuple[str, str]:
    """What ended the process, and how the dump words it."""
    if fatal := _FATAL.search(squeezed):
        what = fatal["what"]
        known = [
            (name, wording)
            for wording, name in _SIGNALS.items()
            if what.startswith(_tight(wording))
        ]
        return known[0] if known else ("SIGABRT", re.split(_NEXT, what)[0][:60])
    if _HANG.search(squeezed):
        return "hang", "Timeout"
    if named := _NAMED.search(squeezed):
        return named[0], named[0]
    found = [(name, wording) for wording, name in _SIGNALS.items() if _tight(wording) in squeezed]
    numbers = _NUMBERS["macosx" if platform == "macosx" else "linux"]
    found += [
        (numbers[int(match[1])], match[0])
        for match in _CODE.finditer(squeezed)
        if int(match[1]) in numbers
    ]
    return found[0] if found else ("", "")


def _tight(text: str) -> str:
    return "".join(text.split())


def _frames(squeezed: str) -> Iterator[Frame]:
    found = [(match.start(), match, False) for match in _PYTHON.finditer(squeezed)]
    found += [(match.start(), match, True) for match in _BINARY.finditer(squeezed)]
    for _, match, binary in sorted(found, key=lambda one: one[0]):
        installed = _INSTALLED.search(match["path"])
        yield Frame(
            path=match["path"],
            function=match["symbol"] if binary else match["function"],
            line=0 if binary else int(match["line"]),
            binary=binary,
            installed=installed["rest"] if installed else "",
        )


def _extensions(squeezed: str, plain: str) -> tuple[tuple[str, ...], int | None, bool]:
    """The names in the list of extension modules, how many the dump counts, whether it is cut."""
    match = _EXTENSIONS.search(squeezed)
    if match is None:
        return (), None, False
    if match["end"]:
        names = tuple(filter(None, match["names"].split(",")))
        return tuple(dict.fromkeys(names)), int(match["total"]), False
    # Without its end, the list runs into whatever follows it: only whole names can be trusted.
    tail = plain[plain.rfind(":", 0, plain.find(",", plain.find("xtension"))) + 1 :]
    first = tail.split("\n\n")[0]
    names = tuple(name.strip() for name in first.replace("\n", "").split(","))
    whole = tuple(name for name in names[:-1] if re.fullmatch(r"[\w.]+", name))
    return tuple(dict.fromkeys(whole)), None, True


def _platform(squeezed: str) -> str:
    """The platform that the paths speak of."""
    marks = {
        "macosx": r"darwin|macos|\.dylib|/usr/lib/system/|/Users/",
        "musllinux": r"linux-musl|ld-musl|musllinux",
        "win": r"win_amd64|win_arm64|\.pyd\"|[A-Z]:\\\\?",
        "manylinux": r"linux-gnu|linux-x86_64|linux-aarch64|\.so\"|\.so\.|/home/|/usr/lib|/opt/",
    }
    for platform, mark in marks.items():
        if re.search(mark, squeezed):
            return platform
    return ""


def _machine(squeezed: str, platform: str) -> str:
    arm = {"macosx": "arm64", "win": "arm64"}.get(platform, "aarch64")
    if re.search(r"aarch64|arm64", squeezed):
        return arm
    if re.search(r"x86_64|amd64", squeezed):
        return "amd64" if platform == "win" else "x86_64"
    return {"macosx": "arm64", "win": "amd64"}.get(platform, "x86_64") if platform else ""


def _date(plain: str) -> datetime | None:
    """The day that a log line around the dump names."""
    match = _DATE.search(plain)
    try:
        parts = [int(part) for part in match.groups()] if match else []
        return datetime(parts[0], parts[1], parts[2], 23, 59, tzinfo=UTC) if parts else None
    except ValueError:
        return None
