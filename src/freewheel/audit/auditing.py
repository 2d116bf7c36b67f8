"""The audit itself: from inputs to findings. Composes the other modules, and decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from freewheel.audit import examining, ours, outcome
from freewheel.audit.available import Index, Offers
from freewheel.audit.choosing import Choice, choose, needs_index
from freewheel.audit.crash import advice
from freewheel.audit.crash.dump import Dump, parse
from freewheel.audit.declared import Declared
from freewheel.audit.downloads import (
    Downloads,
    Failure,
    Tree,
    closure,
    names_in,
    requirements_in,
)
from freewheel.audit.examining import Examined, Specimen
from freewheel.audit.extensions import Extension
from freewheel.audit.extensions import find as find_extensions
from freewheel.audit.inputs import reading
from freewheel.audit.inputs.locked import Given, Locked, Selection
from freewheel.audit.outcome import Audit
from freewheel.audit.places import Importing, why_not
from freewheel.audit.target import Target
from freewheel.audit.verdicts import Finding, Seen, find
from freewheel.base import console
from freewheel.base.errors import AuditError, FreewheelError
from freewheel.base.workspace import Workspace
from freewheel.build.source import configured_places


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to audit: for which target, which groups, where to import, whether to ask again."""

    target: Target
    selection: Selection
    importing: Importing = "container"
    refresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything to audit: what is locked or installed, and dumps of crashes, by their path."""

    givens: tuple[Given, ...] = ()
    dumps: Mapping[Path, Dump] = field(default_factory=dict)


def read_all(paths: Sequence[Path], settings: Settings) -> Inputs:
    """All inputs. Raises AuditError with the problems of every one that cannot be read."""
    givens: list[Given] = []
    dumps: dict[Path, Dump] = {}
    errors: list[AuditError] = []
    for path in paths:
        try:
            if reading.is_crash_file(path):
                dumps[path] = parse(reading.read_text(path))
            else:
                givens.append(reading.read(path, settings.target, settings.selection))
        except AuditError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise AuditError(
            f"{len(errors)} of {len(paths)} inputs cannot be read",
            problems=[str(error).replace("\n", " ") for error in errors],
            hint="correct or leave out what is named",
        )
    return Inputs(givens=tuple(givens), dumps=dumps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What an installer would take of everything that is given, and the index that was asked."""

    choices: tuple[Choice, ...]
    index: Index
    downloads: Downloads


def choose_all(
    workspace: Workspace, entries: Sequence[Locked], settings: Settings, board: console.Board
) -> Chosen:
    """The choice for each distribution, after the index was asked for those where it matters."""
    places = configured_places()
    kept = workspace.cache / "audit"
    asked = sum(needs_index(entry, settings.target) for entry in entries)
    with board.counted("asking the index", asked) as advance:
        index = Index(places, kept / "index", refresh=settings.refresh, progress=advance)
        choices = choose(entries, settings.target, index)
    return Chosen(choices=tuple(choices), index=index, downloads=Downloads(places, kept))


def audit(workspace: Workspace, inputs: Inputs, settings: Settings, board: console.Board) -> Audit:
    """What is found about everything that the inputs bring to the target.

    Where there are crash dumps, only the distributions that they name are audited; what else is
    given says which releases these are.
    """
    named = {
        path: advice.named(dump, {e.name for given in inputs.givens for e in given.distributions})
        for path, dump in inputs.dumps.items()
    }
    entries = merged(given.distributions for given in inputs.givens)
    if inputs.dumps:
        entries = merged(
            advice.locked_by(path, dump, named[path], inputs.givens)
            for path, dump in inputs.dumps.items()
        )
    chosen = choose_all(workspace, entries, settings, board)
    choices, downloads = chosen.choices, chosen.downloads
    trees: dict[str, Tree | Failure] = {}
    if not why_not(settings.target, settings.importing):
        wheels = sum(choice.compiled and choice.fetched is not None for choice in choices)
        with board.counted("wheels on disk", wheels) as advance:
            trees = _trees(choices, downloads, chosen.index, advance)
    findings, notes = judge(workspace, settings, choices, trees, downloads, board=board)
    declared = Declared(workspace, settings.target)
    return outcome.make(
        str(settings.target),
        _listed(inputs, named),
        findings,
        notes=notes,
        crashes=[
            advice.advise(path, dump, named[path], choices, declared)
            for path, dump in inputs.dumps.items()
        ],
    )


def _listed(inputs: Inputs, named: Mapping[Path, Sequence[advice.Named]]) -> list[outcome.Input]:
    """The inputs as the audit lists them."""
    listed = [
        outcome.Input(
            path=str(given.path),
            form=given.form,
            distributions=len(given.distributions),
            notes=list(given.notes),
        )
        for given in inputs.givens
    ]
    listed += [
        outcome.Input(path=str(path), form=advice.FORM, distributions=len(found), notes=[])
        for path, found in named.items()
    ]
    return listed


def merged(several: Iterable[Sequence[Locked]]) -> list[Locked]:
    """All distributions; the same release of several inputs once."""
    found: dict[tuple[str, str], Locked] = {}
    for entries in several:
        for entry in entries:
            found.setdefault((entry.name, entry.version), entry)
    return list(found.values())


def judge(
    workspace: Workspace,
    settings: Settings,
    choices: Sequence[Choice],
    trees: Mapping[str, Tree | Failure],
    downloads: Downloads,
    *,
    board: console.Board,
) -> tuple[list[Finding], list[str]]:
    """The verdict on each choice, its modules imported where that can be; and what to say."""
    extensions = _extensions(choices, trees, settings.target.python)
    error: FreewheelError | None = why_not(settings.target, settings.importing)
    examined: Mapping[str, Examined] = {}
    if error is None:
        specimens = _specimens(choices, trees, extensions)
        with board.counted("importing", len(specimens)) as advance:
            roots = _roots(workspace, choices)
            examined, error = _imported(workspace, settings, specimens, roots, advance)
    declared = Declared(workspace, settings.target)
    owners = {e.module: key for key, found in extensions.items() for e in found}
    by_name = {choice.locked.name: choice for choice in choices}
    findings = []
    for choice in choices:
        tree = trees.get(choice.key)
        trouble = tree if isinstance(tree, Failure) else None
        if error and trouble is None and choice.compiled and extensions.get(choice.key, True):
            intended = settings.importing == "no"
            trouble = Failure(reason=error.summary, remedy=error.hint, intended=intended)
        certified, uncertified = ours.certified(choice, workspace, downloads)
        seen = Seen(
            choice=choice,
            extensions=extensions.get(choice.key),
            examined=examined.get(choice.key),
            trouble=trouble,
            certified=certified,
            uncertified=uncertified,
            owners=owners,
            missing=_missing(choice, trees, by_name),
        )
        findings.append(find(seen, declared))
    return findings, [str(error).replace("\n", " ")] if error else []


def _trees(
    choices: Sequence[Choice],
    downloads: Downloads,
    index: Offers,
    progress: Callable[[], None],
) -> dict[str, Tree | Failure]:
    """The compiled wheels unpacked, and what they need of the others; by key."""
    by_name = {choice.locked.name: choice for choice in choices}
    wanted = [choice for choice in choices if choice.compiled]
    trees: dict[str, Tree | Failure] = {}
    while wanted:
        answers = index.ask({choice.locked.name for choice in wanted})
        asked = {
            choice.key: wheel.also_from(answers[choice.locked.name].offers)
            for choice in wanted
            if (wheel := choice.fetched)
        }
        trees |= downloads.get(asked, progress)
        needed = {
            need
            for tree in trees.values()
            if isinstance(tree, Tree)
            for need in requirements_in(tree.root)
        }
        wanted = [
            choice
            for name, choice in by_name.items()
            if name in needed and choice.fetched and choice.key not in trees
        ]
        progress = _nothing  # what they need is not what was counted
    return trees


def _missing(
    choice: Choice, trees: Mapping[str, Tree | Failure], by_name: Mapping[str, Choice]
) -> tuple[str, ...]:
    """What could not be downloaded of what a wheel needs."""
    tree = trees.get(choice.key)
    if not isinstance(tree, Tree):
        return ()
    needed = [by_name[name] for name in sorted(set(requirements_in(tree.root))) if name in by_name]
    failures = [trees.get(other.key) for other in needed]
    return tuple(failure.reason for failure in failures if isinstance(failure, Failure))


def _nothing() -> None:
    """No progress to show."""


def _specimens(
    choices: Sequence[Choice],
    trees: Mapping[str, Tree | Failure],
    extensions: Mapping[str, tuple[Extension, ...]],
) -> list[Specimen]:
    """What should be imported: each distribution with modules, and the trees that it needs."""
    roots: dict[str, tuple[Path, str]] = {}
    needs: dict[str, list[str]] = {}
    keys = {choice.locked.name: choice.key for choice in choices}
    for choice in choices:
        tree = trees.get(choice.key)
        if (installed := choice.locked.installed) is not None:
            roots[choice.key] = (installed.root, installed.digest)
            names: Iterable[str] = installed.needs
        elif isinstance(tree, Tree):
            roots[choice.key] = (tree.root, tree.digest)
            names = requirements_in(tree.root)
        else:
            continue
        needs[choice.key] = [keys[name] for name in names if name in keys]
    found = []
    for key, modules in extensions.items():
        if not modules:
            continue
        others = [other for other in closure([key], needs) if other in roots and other != key]
        root, digest = roots[key]
        found.append(
            Specimen(
                name=key,
                digest=digest,
                modules=tuple(extension.module for extension in modules),
                paths=tuple(dict.fromkeys([root, *(roots[other][0] for other in others)])),
                needs=tuple(roots[other][1] for other in others),
            )
        )
    return found


def _extensions(
    choices: Iterable[Choice], trees: Mapping[str, Tree | Failure], python: str
) -> dict[str, tuple[Extension, ...]]:
    """The extension modules of every distribution whose files are here, by key."""
    found = {}
    for choice in choices:
        tree = trees.get(choice.key)
        if (installed := choice.locked.installed) is not None:
            found[choice.key] = find_extensions(installed.root, installed.extensions, python)
        elif isinstance(tree, Tree):
            found[choice.key] = find_extensions(tree.root, names_in(tree.root), python)
    return found


def _imported(
    workspace: Workspace,
    settings: Settings,
    specimens: Sequence[Specimen],
    roots: Sequence[Path],
    advance: Callable[[], None],
) -> tuple[Mapping[str, Examined], FreewheelError | None]:
    """What importing them shows, or why nothing can be imported."""
    if not specimens:
        return {}, None
    try:
        examined = examining.examine(
            workspace,
            settings.target,
            specimens,
            importing=settings.importing,
            roots=roots,
            done=lambda _: advance(),
        )
    except FreewheelError as error:
        return {}, error
    return examined, None


def _roots(workspace: Workspace, choices: Iterable[Choice]) -> list[Path]:
    """The directories that hold everything that is imported."""
    installed = [c.locked.installed.root for c in choices if c.locked.installed is not None]
    trees = workspace.cache / "audit" / "trees"
    trees.mkdir(parents=True, exist_ok=True)
    return list(dict.fromkeys([trees, *installed]))
