"""Stage *patch*: the series of a release applied to its tree, with nothing left to chance.

``git apply`` knows no fuzz, but it accepts offsets, and inside another repository it can skip a
patch and still exit 0. So each patch is applied with the enclosing repositories out of sight, its
report is read for offsets, and afterwards every file it names must differ by the lines it counts.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from freewheel.base import git, process
from freewheel.base.errors import CommandFailed, PatchError
from freewheel.recipe.recipe import Release

REQUIRED_FIELDS = (
    "Description",
    "Origin",
    "Forwarded",
    "Author",
    "Last-Update",
    "X-Defect",
    "X-Release",
)
_OFFSET = re.compile(r"Hunk #(\d+) succeeded at (\d+) \(offset (-?\d+) lines?\)")
_HUNK = re.compile(r"^@@ -\d+(,(?P<old>\d+))? \+\d+(,(?P<new>\d+))? @@")
_FAILED = re.compile(r"^error: patch failed: (?P<file>.+):(?P<line>\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One patch file with its DEP-3 header."""

    path: Path
    sha256: str
    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def summary(self) -> str:
        """The first line of the description."""
        return self.fields["Description"].splitlines()[0]

    @property
    def defects(self) -> tuple[str, ...]:
        """The identifiers of the defects that the patch mends; one cause can have several."""
        return tuple(name.strip() for name in self.fields["X-Defect"].split(","))


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchedTree:
    """A source tree with every patch of ``series`` in it; an empty series makes a baseline.

    ``changed`` are the paths, relative to the tree, of the files that the series touched.
    """

    path: Path
    release: Release
    series: tuple[Patch, ...]
    changed: frozenset[str]


def read_series(release: Release) -> tuple[Patch, ...]:
    """The release's patches in order. Raises PatchError with the problems of all headers."""
    series: list[Patch] = []
    problems: list[str] = []
    for path in release.patches:
        patch = _read(path)
        series.append(patch)
        problems += _header_problems(patch, release)
    if problems:
        raise PatchError(
            f"{release.project} {release.version}: patch headers are not complete",
            problems=problems,
            hint="docs/patches.md shows a header (DEP-3) with every field",
        )
    return tuple(series)


def apply_series(tree: Path, release: Release, series: tuple[Patch, ...]) -> PatchedTree:
    """Apply each patch in order to ``tree``.

    Raises PatchError that tells a patch which is already upstream from one that does not apply,
    and shows the failing hunk.
    """
    changed: set[str] = set()
    for patch in series:
        changed |= _apply(tree, release, patch)
    return PatchedTree(path=tree, release=release, series=series, changed=frozenset(changed))


# ------------------------------------------------------------------------------------- headers


def _read(path: Path) -> Patch:
    """The header is text; the rest is whatever the sources are. Raises PatchError."""
    if path.is_symlink() or not path.is_file():
        raise PatchError(
            f"{path.name} is no file", hint="a patch is a file of its own, not a link to one"
        )
    content = path.read_bytes()
    try:
        header = content.partition(b"\n---\n")[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise PatchError(
            f"the header of {path.name} is not UTF-8: {error}",
            hint="save the file as UTF-8; only the lines of the diff keep the source's encoding",
        ) from error
    message = HeaderParser().parsestr(header)
    fields = {name: _unfold(str(value)) for name, value in message.items()}
    return Patch(path=path, sha256=hashlib.sha256(content).hexdigest(), fields=fields)


def read_diff(path: Path) -> str:
    """The text of a patch or a source; bytes that are not UTF-8 become lone surrogates."""
    return path.read_bytes().decode("utf-8", errors="surrogateescape")


def _unfold(value: str) -> str:
    """A field's lines without their indent; a lone dot stands for an empty line (DEP-3)."""
    lines = [line.strip() for line in value.splitlines()]
    return "\n".join("" if line == "." else line for line in lines).strip()


def _header_problems(patch: Patch, release: Release) -> list[str]:
    problems = [
        f"{patch.name}: no field {field}"
        for field in REQUIRED_FIELDS
        if not patch.fields.get(field)
    ]
    named = patch.fields.get("X-Release")
    if named and named != release.version:
        problems.append(f"{patch.name}: X-Release is {named}, the series is for {release.version}")
    return problems


# ------------------------------------------------------------------------------------ applying


def _apply(tree: Path, release: Release, patch: Patch) -> set[str]:
    _refuse_odd(tree, patch)
    counted = _count_lines(tree, patch)
    _refuse_links(tree, patch, counted)
    before = {name: _lines(tree / name) for name in counted}
    checked = _git(tree, ["apply", "--check", "--verbose", patch.path])
    if checked.returncode != 0:
        raise _refusal(tree, release, patch, checked.stderr)
    offsets = _OFFSET.findall(checked.stderr)
    if offsets:
        raise PatchError(
            f"{patch.name} fits {release.project} {release.version} only with an offset",
            problems=[f"hunk {n} lands at line {at}, {by} lines away" for n, at, by in offsets],
            hint="make the patch anew against this release, after the patches before it",
        )
    applied = _git(tree, ["apply", patch.path])
    if applied.returncode != 0:
        raise _refusal(tree, release, patch, applied.stderr)
    _account(tree, release, patch, counted, before)
    return set(counted)


def _refuse_odd(tree: Path, patch: Patch) -> None:
    """A patch changes lines of plain files below the tree, and nothing else about them."""
    problems = [f"{name}: not a path below a/ and b/" for name in _strange_names(patch.path)]
    told = _git(tree, ["apply", "--summary", patch.path])
    for line in told.stdout.splitlines():
        action, _, rest = line.strip().partition(" ")
        if action == "create" and not rest.startswith("mode 100644 "):
            problems.append(f"{rest}: not the mode of a plain new file (100644)")
        elif action not in ("create", "delete"):
            problems.append(f"{line.strip()}: a mode changes, or a file gets another name")
        elif rest.startswith(("mode 12", "mode 16")):
            problems.append(f"{rest}: a link, not a file")
    if problems:
        raise PatchError(
            f"{patch.name} does more than change lines of files",
            problems=problems,
            hint="a patch may not make or touch a link, change a mode, rename or copy; "
            "write a rename as one file that goes and one that comes",
        )


def _strange_names(path: Path) -> list[str]:
    """The names of files in a diff that do not start with a/ or b/, as git writes them.

    git itself cuts off whatever the first part is, also of an absolute path.
    """
    strange: list[str] = []
    old = new = 0
    for line in read_diff(path).split("\n"):
        hunk = _HUNK.match(line)
        if hunk:
            old, new = int(hunk["old"] or 1), int(hunk["new"] or 1)
        elif old > 0 or new > 0:
            old -= line[:1] in (" ", "-", "")
            new -= line[:1] in (" ", "+", "")
        elif line.startswith(("--- ", "+++ ")):
            name = line[4:].partition("\t")[0]
            if not name.lstrip('"').startswith(("a/", "b/")) and name != "/dev/null":
                strange.append(name)
    return strange


def _refuse_links(tree: Path, patch: Patch, named: Iterable[str]) -> None:
    """What is a link in the tree, or lies behind one, is not the file that the patch means."""
    linked = [
        name
        for name in named
        for part in (tree / name, *(tree / name).parents)
        if tree in part.parents and part.is_symlink()
    ]
    if linked:
        raise PatchError(
            f"{patch.name} touches a link",
            problems=[f"{name}: is a link in the source, or lies behind one" for name in linked],
            hint="change the file that the link points to",
        )


def _count_lines(tree: Path, patch: Patch) -> dict[str, tuple[int, int]]:
    """For each file that the patch names: lines added and lines removed."""
    told = _git(tree, ["apply", "--numstat", "-z", patch.path])
    if told.returncode != 0:
        raise PatchError(
            f"{patch.name} is not a patch that git understands",
            problems=told.stderr.strip().splitlines(),
            hint="make it with `git diff`; docs/patches.md shows how",
        )
    counted: dict[str, tuple[int, int]] = {}
    for record in filter(None, told.stdout.split("\0")):
        added, removed, name = record.split("\t")
        if added == "-":
            raise PatchError(
                f"{patch.name} changes the binary file {name}",
                hint="a patch must be readable: change sources only",
            )
        counted[name] = (int(added), int(removed))
    return counted


def _account(
    tree: Path,
    release: Release,
    patch: Patch,
    counted: Mapping[str, tuple[int, int]],
    before: Mapping[str, list[str]],
) -> None:
    """Every file named has changed by as many lines as counted, and the patch can be undone."""
    problems: list[str] = []
    for name, (added, removed) in counted.items():
        was, now = before[name], _lines(tree / name)
        if was == now:
            problems.append(f"{name}: did not change")
        elif len(now) - len(was) != added - removed:
            changed = len(now) - len(was)
            problems.append(f"{name}: {added - removed:+d} lines were due, came {changed:+d}")
    if not counted:
        problems.append("names no file")
    undo = _git(tree, ["apply", "--check", "--reverse", patch.path])
    if undo.returncode != 0:
        problems.append(f"cannot be undone, so a hunk is missing: {undo.stderr.strip()}")
    if problems:
        raise PatchError(
            f"{patch.name} said that it applied to {release.project} {release.version}; it did not",
            problems=problems,
            hint="make the patch anew with `git diff`: something in it has no effect",
        )


def _refusal(tree: Path, release: Release, patch: Patch, said: str) -> PatchError:
    reverse = _git(tree, ["apply", "--check", "--reverse", patch.path])
    if reverse.returncode == 0:
        return PatchError(
            f"{patch.name} is already in {release.project} {release.version}",
            problems=[f"every hunk of {patch.name} can be undone on the tree as it is"],
            hint="upstream has it: take the patch out of the recipe, and delete the file",
        )
    problems = [line.removeprefix("error: ") for line in said.splitlines() if "error:" in line]
    for match in _FAILED.finditer(said):
        hunk = _hunk(read_diff(patch.path), match["file"], int(match["line"]))
        problems.append(_compare(tree / match["file"], hunk, int(match["line"])))
    return PatchError(
        f"{patch.name} does not apply to {release.project} {release.version}",
        problems=problems,
        hint="mend the patch against the tree as the patches before it leave it; "
        "docs/patches.md shows how",
    )


def _hunk(text: str, name: str, line: int) -> list[str]:
    """The lines of the hunk for file ``name`` that starts at ``line`` of the old file."""
    inside = False
    found: list[str] = []
    for row in text.split("\n"):
        if row.startswith("--- a/"):
            inside = row == f"--- a/{name}"
        if row.startswith(("@@ ", "diff --git ")):
            if found:
                break
            start = re.match(r"@@ -(\d+)", row)
            if inside and start and int(start[1]) == line:
                found.append(row)
        elif found:
            found.append(row)
    return found


def _compare(path: Path, hunk: list[str], line: int) -> str:
    """The failing hunk, and what the tree has in its place."""
    expected = [row[1:] for row in hunk[1:] if row[:1] in (" ", "-")]
    there = _lines(path)[line - 1 : line - 1 + len(expected)]
    difference = difflib.unified_diff(expected, there, "the hunk expects", "the tree has", n=1)
    shown = [*hunk, *(row.rstrip("\n") for row in difference)]
    return "the failing hunk:\n" + "\n".join(f"      {row}" for row in shown)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    # Not splitlines(): to git, a form feed ends no line.
    text = read_diff(path)
    return text.removesuffix("\n").split("\n") if text else []


def _git(tree: Path, arguments: list[str | Path]) -> process.Finished:
    try:
        return git.run_outside(tree, arguments)
    except CommandFailed as error:
        raise PatchError(
            "git cannot be started, and patches are applied with it",
            problems=[error.output],
            hint="install git (on Debian: apt-get install git)",
        ) from error
