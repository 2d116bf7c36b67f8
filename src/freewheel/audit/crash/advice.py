"""From a crash dump to one line of advice: whose modules were there, and what crashes like this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from freewheel.audit.choosing import Choice
from freewheel.audit.crash.dump import Dump
from freewheel.audit.crash.owners import owner
from freewheel.audit.declared import Declared, Defect
from freewheel.audit.inputs.locked import Given, Locked
from freewheel.audit.outcome import Crash, CrashedDistribution
from freewheel.audit.target import Target
from freewheel.recipe.pythons import PYTHONS
from freewheel.recipe.targets import PLATFORMS

FORM = "crash dump"
_DEEPEST = 5  # frames that are shown
_HOW = {"hang": "hang"}  # by which outcome of a probe a signal shows itself; else a crash


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A distribution that a dump names: its modules, and whether a stack leads to them.

    A stack does where a frame is theirs, or is called after them: ``greenlet_spawn`` runs
    greenlets, whose own frames a C stack that is cut off does not reach. ``known`` says that a lock
    has it; else it is taken to be called as it is imported.
    """

    name: str
    modules: tuple[str, ...]
    on_stack: bool
    known: bool


def target_of(dump: Dump, fallback: Target) -> Target:
    """The interpreter and platform of the dump, where they are ones that Freewheel knows."""
    python = f"cp{''.join(dump.python.split('.')[:2])}t" if dump.python else ""
    platform = f"{dump.platform}_{dump.machine}"
    return Target(
        python if python in map(str, PYTHONS) else fallback.python,
        platform if platform in PLATFORMS else fallback.platform,
    )


def named(dump: Dump, known: Iterable[str]) -> list[Named]:
    """The distributions whose modules the dump names, those on a stack first.

    Where the list of modules is cut off, those of the frames in Python code are named too.
    """
    locked = set(known)
    modules: dict[str, list[str]] = {}
    certain: set[str] = set()
    stack: dict[str, None] = {}
    for module in dump.extensions:
        name, found = owner(module, locked)
        modules.setdefault(name, []).append(module)
        certain |= {name} if found else set()
    for frame in dump.frames:
        if not frame.installed:
            continue
        name, found = owner(frame.module, locked)
        if frame.binary:
            listed = modules.setdefault(name, [])
            if frame.module not in listed:
                listed.append(frame.module)
            stack.setdefault(name)
        elif name in modules or dump.total is None:
            modules.setdefault(name, [])
            stack.setdefault(name)
        certain |= {name} if found else set()
    words = {word for frame in dump.frames for word in frame.words}
    for name, listed in modules.items():
        if words & {module.partition(".")[0].strip("_").lower() for module in listed}:
            stack.setdefault(name)
    return [
        Named(
            name=name,
            modules=tuple(modules[name]),
            on_stack=name in stack,
            known=name in certain,
        )
        for name in sorted(modules, key=lambda name: (name not in stack, name))
    ]


def locked_by(
    path: Path, dump: Dump, found: Sequence[Named], locks: Sequence[Given]
) -> tuple[Locked, ...]:
    """What should be audited: the release that a lock has, else the newest on the dump's day."""
    entries = {entry.name: entry for given in locks for entry in given.distributions}
    return tuple(
        entries.get(one.name)
        or Locked(name=one.name, version="", origin=str(path), before=dump.date)
        for one in found
    )


def advise(
    path: Path, dump: Dump, found: Sequence[Named], choices: Sequence[Choice], declared: Declared
) -> Crash:
    """What the dump says, which known defects end like that, and what to install.

    A module that is only loaded is no suspect, unless nothing on a stack has such a defect: corrupt
    memory may show anywhere.
    """
    by_name = {choice.locked.name: choice for choice in choices}
    how = _HOW.get(dump.signal, "crash") if dump.signal else ""
    listed = []
    matches: dict[str, tuple[str, list[Defect]]] = {}
    for one in found:
        version, assumed = _version(one.name, dump, by_name.get(one.name), declared)
        defects = [d for d in declared.defects(one.name, version) if how in d.shows]
        listed.append(
            CrashedDistribution(
                name=one.name,
                version=version,
                assumed=assumed,
                modules=list(one.modules),
                on_stack=one.on_stack,
                known=one.known,
                defects=[defect.id for defect in defects],
            )
        )
        ours = declared.advised(one.name, version)
        if defects and ours is not None:
            matches[one.name] = (ours.local_version, defects)
    seen = {one.name: matches[one.name] for one in found if one.on_stack and one.name in matches}
    only_loaded = bool(matches) and not seen
    matches = seen or matches
    return Crash(
        path=str(path),
        signal=dump.signal,
        wording=dump.wording,
        python=dump.python + ("t" if dump.free_threaded and dump.python else ""),
        platform=f"{dump.platform}_{dump.machine}".strip("_"),
        deepest=[f"{f.module}: {f.function or 'unnamed'}" for f in dump.deepest[:_DEEPEST]],
        modules=len(dump.extensions),
        total=dump.total,
        complete=dump.complete,
        distributions=listed,
        install=[f"{name}=={version}" for name, (version, _) in matches.items()],
        advice=_line(dump, found, matches, only_loaded=only_loaded),
    )


def _version(name: str, dump: Dump, choice: Choice | None, declared: Declared) -> tuple[str, str]:
    """The release that crashed, and how that is known where no lock says it."""
    if choice is not None and choice.version:
        return choice.version, choice.assumed
    recipe = declared.recipes.get(name)
    if recipe is None:
        return "", "no lock names its version"
    if dump.date is None:
        return recipe.default_release.version, "no lock names its version: the newest is assumed"
    earlier = [release for release in recipe.releases if release.released <= dump.date]
    release = max(earlier, key=lambda r: Version(r.version), default=recipe.releases[-1])
    day = dump.date.date()
    return release.version, f"no lock names its version: the newest of {day} is assumed"


def _line(
    dump: Dump,
    found: Sequence[Named],
    matches: Mapping[str, tuple[str, Sequence[Defect]]],
    *,
    only_loaded: bool,
) -> str:
    """The advice, in one line."""
    if not dump.frames and not dump.extensions:
        return (
            "nothing in it is what faulthandler writes: no stack, no list of extension modules; "
            "run the program with PYTHONFAULTHANDLER=1, and audit what it writes"
        )
    if not found and dump.total is None:
        return "it was cut off: neither a frame nor a module in it is of a distribution"
    if not found:
        return "no extension module of any distribution is in it: report it to CPython"
    if not matches:
        ending = dump.wording or "an unknown end"
        return (
            f"no known defect matches: none of these {len(found)} distributions is known to end "
            f"with {ending.lower()}; audit them with --lock, and look at the deepest frames first"
        )
    what = _and([f"{name} {version}" for name, (version, _) in matches.items()])
    several = [defect for _, defects in matches.values() for defect in defects]
    supported = [defect.id for defect in several if defect.use == "supported"]
    ids = supported or [defect.id for defect in several]
    advice = f"install {what}; {_and(ids)} {_verb(dump, ids)} like this"
    unseen = " (not on the stack, but loaded: nothing on the stack is known to do so)"
    return advice + unseen if only_loaded else advice


def _verb(dump: Dump, ids: Sequence[str]) -> str:
    verb = "hang" if dump.signal == "hang" else "crash"
    return f"{verb}{'es' if verb == 'crash' else 's'}" if len(ids) == 1 else verb


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
