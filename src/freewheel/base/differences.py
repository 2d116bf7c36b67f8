"""Compare wheels: the same file name in another spelling, and why equal names have other bytes."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from freewheel.base.archives import is_record
from freewheel.base.members import ArchiveError
from freewheel.base.zips import open_zip

_SHOWN = 12  # lines of a difference that an error shows
_SHOWN_PER_CAUSE = 4  # members of one cause that a report names
_SHOWN_QUOTES = 4  # of one member
_QUOTED = 100  # characters of a line that are shown

_ELF = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_NO_BITS = 8  # SHT_NOBITS: a section that takes no room in the file
_COMPRESSED = 0x800  # SHF_COMPRESSED: an Elf64_Chdr of 24 bytes, then a zlib stream
# Follows from all other sections, and says nothing by itself.
_BUILD_ID = ".note.gnu.build-id"
# Where the strings are that people can read; in code and tables, bytes look like text by chance.
_READABLE = re.compile(r"\.(rodata|data|comment|dynstr|strtab|debug_(line_)?str)")
_TEXT = re.compile(rb"[\x20-\x7e\t]{4,}")
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?Z?)?"  # ISO 8601
    r"|[A-Z][a-z]{2} [ \d]\d \d{4}"  # __DATE__
    r"|\d{1,2} [A-Z][a-z]{2} \d{4}"  # RFC 5322
    r"|\b\d\d:\d\d:\d\d\b"  # __TIME__
    r"|\b[12]\d{9}\b"  # seconds since 1970, from 2001 to 2065
)
_PATH = re.compile(r"(?<![\w/:.])(?:/[\w.+@-]+)+/?")  # absolute, and not the end of a URL


class Cause(StrEnum):
    """Why two wheels have other bytes, by what to do about it."""

    MISSING = "missing"
    TIME = "time"
    MODE = "mode"
    ORDER = "order"
    PACKING = "compression"
    DEBUG_PATH = "path in debug info"
    PATH = "path"
    SEED = "hash seed or locale"
    CONTENT = "content"


# About how a member is kept in the archive, not about what it holds.
_ATTRIBUTES = {Cause.TIME: "times", Cause.MODE: "modes", Cause.PACKING: "compression"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that differs.

    ``member`` is a path in the archive, or "" where it is about the archive as a whole. ``inside``
    tells a difference of a member's content from one of how it is kept. ``quotes`` are what only
    one of the two has, each after "without: " (the old one's) or "with: " (the new one's).
    """

    member: str
    cause: Cause
    detail: str
    quotes: tuple[str, ...] = ()
    inside: bool = True


def twin(filename: str, others: Iterable[str]) -> str | None:
    """The first of ``others`` that is ``filename`` in another case or spelling, if there is one.

    All are file names of wheels of one project. ``Foo-1.0`` and ``foo-2.0`` are twins, and so are
    ``foo-1.0+ft.1`` and ``foo-1.0+FT.1``.
    """
    name, version, *_ = filename.split("-")
    parsed = parse_wheel_filename(filename)
    for other in others:
        try:
            other_parsed = parse_wheel_filename(other)
        except InvalidWheelFilename:
            continue
        other_name, other_version, *_ = other.split("-")
        respelt = other_parsed[1] == parsed[1] and other_version != version
        reordered = other_parsed == parsed and other != filename
        if other_name != name or respelt or reordered:
            return other
    return None


# ---------------------------------------------------------------------------- for people to read


def differences(old: Path, new: Path) -> list[str]:
    """Why two wheels of one file name have other bytes, a line for each difference."""
    try:
        found = compare(old, new)
    except ArchiveError as error:
        return [f"one of the two cannot be read: {error.summary}"]
    lines = [line for each in found if each.inside for line in _lines(each)]
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"and {more} more"] if more > 0 else lines or [_packed(found)]


def causes(found: Sequence[Difference]) -> list[str]:
    """The differences by cause, a line for each member, of many with one cause only the first."""
    lines: list[str] = []
    for cause in Cause:
        named = [each for each in found if each.cause is cause]
        for each in named[:_SHOWN_PER_CAUSE]:
            said = "; ".join((each.detail, *each.quotes[:_SHOWN_QUOTES]))
            lines.append(f"{cause}: {each.member + ': ' if each.member else ''}{said}")
        more = len(named) - _SHOWN_PER_CAUSE
        lines += [f"{cause}: and {more} more members"] if more > 0 else []
    return lines


def _lines(difference: Difference) -> list[str]:
    """A difference of content, as the index's refusals say it."""
    if difference.cause is Cause.MISSING:
        return [f"{difference.detail}: {difference.member}"]
    cause = "" if difference.cause is Cause.CONTENT else f", {difference.cause}"
    changed = f"changed: {difference.member} ({difference.detail}{cause})"
    if difference.member.endswith(".dist-info/METADATA"):
        return [changed, *(f"METADATA {quote}" for quote in difference.quotes)]
    return [changed]


def _packed(found: Sequence[Difference]) -> str:
    """What differs where no member's content does."""
    present = {each.cause for each in found}
    if Cause.ORDER in present:
        return "only the order of the members differs"
    kinds = [kind for cause, kind in _ATTRIBUTES.items() if cause in present]
    if kinds:
        return f"only {' and '.join(kinds)} of the members differ"
    return "the members and their attributes are the same; the archives are packed apart"


# --------------------------------------------------------------------------------- the comparison


def compare(old: Path, new: Path) -> tuple[Difference, ...]:
    """Everything in which two wheels differ; empty where only the packing itself could.

    Raises ArchiveError for what is no wheel.
    """
    with open_zip(old) as before, open_zip(new) as after:
        return (*_inside(before, after), *_outside(before, after))


def _inside(before: zipfile.ZipFile, after: zipfile.ZipFile) -> list[Difference]:
    old, new = set(before.namelist()), set(after.namelist())
    found = [_missing(name, "removed") for name in sorted(old - new)]
    found += [_missing(name, "added") for name in sorted(new - old)]
    for name in sorted(old & new):
        mine, other = before.read(name), after.read(name)
        if mine != other:
            sizes = f"{len(mine)} bytes, now {len(other)}"
            found += [
                Difference(member=name, cause=cause, detail=sizes, quotes=quotes)
                for cause, quotes in explain(mine, other)
            ]
    # RECORD changes with whatever else does, and then says nothing by itself.
    telling = [
        each for each in found if not (is_record(each.member) and each.cause is not Cause.SEED)
    ]
    return telling or found


def _missing(name: str, detail: str) -> Difference:
    return Difference(member=name, cause=Cause.MISSING, detail=detail)


def _outside(before: zipfile.ZipFile, after: zipfile.ZipFile) -> Iterator[Difference]:
    """Order, times, modes and compression of what both have."""
    old = {member.filename: member for member in before.infolist()}
    new = {member.filename: member for member in after.infolist()}
    mine, other = [name for name in old if name in new], [name for name in new if name in old]
    for first, second in zip(mine, other, strict=True):
        if first != second:
            detail = f"{first} stands where now {second} stands"
            yield Difference(member="", cause=Cause.ORDER, detail=detail, inside=False)
            break
    for name in sorted(mine):
        a, b = old[name], new[name]
        values = {
            Cause.TIME: (_stamp(a), _stamp(b)),
            Cause.MODE: (_mode(a), _mode(b)),
        }
        if a.CRC == b.CRC:
            values[Cause.PACKING] = (f"{a.compress_size} bytes", f"{b.compress_size}")
        for cause, (was, now) in values.items():
            if was.partition(" bytes")[0] != now:
                detail = f"{was}, now {now}"
                yield Difference(member=name, cause=cause, detail=detail, inside=False)


def _stamp(member: zipfile.ZipInfo) -> str:
    year, month, day, *clock = member.date_time
    return f"{year}-{month:02}-{day:02} " + ":".join(f"{part:02}" for part in clock)


def _mode(member: zipfile.ZipInfo) -> str:
    return f"{member.external_attr >> 16:o}"


# ------------------------------------------------------------------------------ causes by content


def explain(old: bytes, new: bytes) -> list[tuple[Cause, tuple[str, ...]]]:
    """Why two contents of one member differ, each cause with what it quotes of them."""
    if old.startswith(_ELF) and new.startswith(_ELF):
        return _explain_elf(_elf_sections(old), _elf_sections(new))
    try:
        before, after = old.decode(), new.decode()
    except UnicodeDecodeError:
        return _explain_strings(_strings(old), _strings(new)) or [(Cause.CONTENT, ())]
    lines, others = before.splitlines(), after.splitlines()
    gone = [line for line in lines if line not in others]
    come = [line for line in others if line not in lines]
    return [(_text_cause(before, after), _quotes(gone, come))]


def _text_cause(old: str, new: str) -> Cause:
    """What makes a text another one; two texts that are made equal by it tell the cause."""
    if _MOMENT.sub("", old) == _MOMENT.sub("", new):
        return Cause.TIME
    if _PATH.sub("", old) == _PATH.sub("", new):
        return Cause.PATH
    # Sets are written down in the order of their hashes, names in that of the locale, and a
    # locale that cannot spell a letter loses it.
    if sorted(_words(old)) == sorted(_words(new)):
        return Cause.SEED
    if old.encode("ascii", "ignore") == new.encode("ascii", "ignore"):
        return Cause.SEED
    return Cause.CONTENT


def _words(text: str) -> list[str]:
    return re.findall(r"[^\s,;:{}()\[\]]+", text)


def _explain_elf(
    old: Mapping[str, bytes], new: Mapping[str, bytes]
) -> list[tuple[Cause, tuple[str, ...]]]:
    """The causes in an extension module: first in what is loaded, then in its debug info."""
    names = sorted(old.keys() | new.keys())
    changed = [name for name in names if old.get(name) != new.get(name) and name != _BUILD_ID]
    debug = [name for name in changed if name.startswith(".debug")]
    loaded = [name for name in changed if name not in debug]
    found: dict[Cause, tuple[str, ...]] = {}
    for cause, quotes in _explain_sections(loaded, old, new):
        found.setdefault(cause, quotes)
    if loaded and not found:
        found[Cause.CONTENT] = ()
    for cause, quotes in _explain_sections(debug, old, new):
        found.setdefault(Cause.DEBUG_PATH if cause is Cause.PATH else cause, quotes)
    where = f"sections {' '.join(changed or [_BUILD_ID])}"
    return [(cause, (*quotes, where)) for cause, quotes in (found or {Cause.CONTENT: ()}).items()]


def _explain_sections(
    names: Iterable[str], old: Mapping[str, bytes], new: Mapping[str, bytes]
) -> list[tuple[Cause, tuple[str, ...]]]:
    readable = [name for name in names if _READABLE.match(name)]
    mine = [text for name in readable for text in _strings(old.get(name, b""))]
    other = [text for name in readable for text in _strings(new.get(name, b""))]
    return _explain_strings(mine, other)


def _explain_strings(old: list[str], new: list[str]) -> list[tuple[Cause, tuple[str, ...]]]:
    """The causes that differing strings tell of, each with its first pair; none without any."""
    if sorted(old) == sorted(new):
        return [(Cause.SEED, ("the same strings in another order",))] if old != new else []
    known, others = set(old), set(new)
    gone = [text for text in old if text not in others]
    come = [text for text in new if text not in known]
    found: list[tuple[Cause, tuple[str, ...]]] = []
    for cause, pattern in ((Cause.TIME, _MOMENT), (Cause.PATH, _PATH)):
        was = [text for text in gone if pattern.search(text)]
        now = [text for text in come if pattern.search(text)]
        if was and now:
            found.append((cause, _quotes(was[:1], now[:1])))
            gone = [text for text in gone if text not in was]
            come = [text for text in come if text not in now]
    if gone or come:
        found.append((Cause.CONTENT, _quotes(gone[:1], come[:1])))
    return found


def _quotes(gone: Iterable[str], come: Iterable[str]) -> tuple[str, ...]:
    return (
        *(f"without: {line[:_QUOTED]}" for line in gone),
        *(f"with: {line[:_QUOTED]}" for line in come),
    )


def _strings(content: bytes) -> list[str]:
    return [found.decode() for found in _TEXT.findall(content)]


def _elf_sections(content: bytes) -> dict[str, bytes]:
    """The sections of a 64-bit little-endian ELF file by name; {"": all} for a damaged one."""
    try:
        start, entry, count, names_at = (
            *struct.unpack_from("<Q", content, 0x28),
            *struct.unpack_from("<HHH", content, 0x3A),
        )
        headers = [
            struct.unpack_from("<IIQQQQ", content, start + entry * number)
            for number in range(count)
        ]
        names = content[headers[names_at][4] :]
        found = {}
        for name_at, kind, flags, _, offset, size in headers:
            body = b"" if kind == _NO_BITS else content[offset : offset + size]
            if flags & _COMPRESSED:
                body = zlib.decompress(body[24:])
            found[names[name_at : names.index(b"\0", name_at)].decode()] = body
    except (struct.error, IndexError, ValueError, zlib.error):
        return {"": content}
    return found
