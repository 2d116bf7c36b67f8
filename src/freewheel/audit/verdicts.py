"""What is said of each distribution: a verdict, the evidence for it, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from freewheel.audit.choosing import Choice
from freewheel.audit.declared import Declared, split_ours
from freewheel.audit.downloads import Failure
from freewheel.audit.examining import Examined, Import
from freewheel.audit.extensions import Extension


class Verdict(StrEnum):
    """The verdicts, the worst first."""

    NO_WHEEL = "no wheel"
    GIL = "turns the GIL on"
    FALLBACK = "pure fallback"
    DEFECTS = "known defects"
    NOT_IMPORTED = "not imported"
    UNPROVEN = "unproven"
    PROVEN = "proven"
    PURE = "pure Python"

    @property
    def slug(self) -> str:
        """How the command line writes it."""
        return self.value.lower().replace(" ", "-")

    @property
    def badness(self) -> int:
        """0 for the worst."""
        return list(Verdict).index(self)


MEANING = {
    Verdict.NO_WHEEL: "an installer has to compile it, or finds nothing",
    Verdict.GIL: "importing it turns the GIL on for the whole process",
    Verdict.FALLBACK: "other interpreters get compiled code, this one gets slow Python",
    Verdict.DEFECTS: "it has defects that Freewheel's probes show",
    Verdict.NOT_IMPORTED: "it could not be imported here, so nothing is known",
    Verdict.UNPROVEN: "it keeps the GIL off, and nobody has shown more",
    Verdict.PROVEN: "a certified wheel of Freewheel's",
    Verdict.PURE: "no compiled code",
}
_ONES_OWN = ("own",)
_MANY = 4  # names that are listed before the rest is counted

Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )


class KnownDefect(_Part):
    """A defect by the declaration of its probe; ``fixed-in`` is a version of ours, or ""."""

    id: str
    title: str
    use: Literal["supported", "misuse"]
    shows: list[str]
    fixed_in: str


class Modules(_Part):
    """How many extension modules there are, and how many of them were imported.

    Those of tests and plugins are counted apart, and are not among the others.
    """

    own: Count = 0
    own_imported: Count = 0
    apart: Count = 0
    apart_imported: Count = 0


class Finding(_Part):
    """What is said of one distribution.

    ``culprits`` are its modules that turn the GIL on. ``smoke`` are smoke tests that failed.
    ``incomplete`` says that trouble (the network, a wrong digest) kept the audit from looking.
    """

    name: str
    version: str
    verdict: Verdict
    origin: str
    development: bool = False
    wheel: str = ""
    sha256: str = ""
    modules: Modules = Modules()
    culprits: list[str] = []
    defects: list[KnownDefect] = []
    smoke: list[str] = []
    evidence: list[str] = []
    advice: str = ""
    install: str = ""
    incomplete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that was seen of one distribution: its choice, its wheel, its modules.

    ``trouble`` is why nothing was imported. ``certified`` describes its certificate, "" without.
    ``owners`` has the distribution of every module that was seen. ``missing`` says what it needs
    and could not be downloaded.
    """

    choice: Choice
    extensions: tuple[Extension, ...] | None
    examined: Examined | None
    trouble: Failure | None
    certified: str
    uncertified: str
    owners: Mapping[str, str]
    missing: tuple[str, ...] = ()


def find(seen: Seen, declared: Declared) -> Finding:
    """The verdict on a distribution, with its evidence and the advice."""
    choice = seen.choice
    name, version = choice.locked.name, choice.version
    defects = [
        KnownDefect(id=d.id, title=d.title, use=d.use, shows=list(d.shows), fixed_in=d.fixed_in)
        for d in declared.defects(name, version)
    ]
    evidence: list[str] = [choice.assumed] if choice.assumed else []
    verdicts = {_by_files(seen, evidence)}
    own = [e.module for e in seen.extensions or () if e.kind == "own"]
    apart = [e.module for e in seen.extensions or () if e.kind != "own"]
    culprits: list[str] = []
    failed: list[str] = []
    if seen.examined is not None:
        culprits = list(_culprits(seen.examined, [*own, *apart], seen.owners, evidence))
        if set(culprits) & set(own):
            verdicts.add(Verdict.GIL)
        verdicts |= set(_by_imports(seen.examined, own, apart, evidence))
        failed = list(_smoke(seen.examined))
        evidence += failed
    if defects:
        verdicts.add(Verdict.DEFECTS)
    if seen.certified:
        evidence.append(seen.certified)
        verdicts = (verdicts - {Verdict.UNPROVEN, Verdict.NOT_IMPORTED}) | {Verdict.PROVEN}
    elif seen.uncertified:
        evidence.append(seen.uncertified)
    verdict = min(verdicts, key=lambda each: each.badness)
    advice, install = _advice(seen, verdict, declared, failing=bool(failed))
    return Finding(
        name=name,
        version=version,
        verdict=verdict,
        origin=choice.locked.origin,
        development=choice.locked.development,
        wheel=choice.wheel.name.filename if choice.wheel else "",
        sha256=choice.wheel.sha256 if choice.wheel else "",
        modules=_counts(seen.examined, own, apart),
        culprits=culprits,
        defects=defects,
        smoke=failed,
        evidence=[*evidence, *choice.problems],
        advice=advice,
        install=install,
        incomplete=_incomplete(seen, verdict),
    )


def _incomplete(seen: Seen, verdict: Verdict) -> bool:
    """Whether trouble kept the audit from looking, and nothing worse is known."""
    if verdict is not Verdict.NOT_IMPORTED:
        return False
    trouble = seen.trouble is not None and not seen.trouble.intended
    return trouble or bool(seen.choice.problems)


# ---------------------------------------------------------------------------------- by the files


def _by_files(seen: Seen, evidence: list[str]) -> Verdict:
    """The verdict that names and tags alone give, and that imports may make worse."""
    choice = seen.choice
    if choice.wheel is None:
        return _without_wheel(choice, evidence)
    if choice.wheel.relock:
        evidence.append(f"the lock does not list {choice.wheel.name.filename}: lock again for this")
    if not choice.wheel.name.compiled and not seen.extensions:
        if choice.compiled_for:
            evidence.append(
                f"compiled for {_some(choice.compiled_for)} on this platform, and not for this "
                f"interpreter: it gets {choice.wheel.name.filename}"
            )
            return Verdict.FALLBACK
        return Verdict.PURE
    if seen.trouble is not None:
        evidence.append(seen.trouble.reason)
        return Verdict.NOT_IMPORTED
    evidence += seen.missing
    if seen.extensions is not None and not seen.extensions:
        evidence.append("it has no extension module: programs or libraries for this platform")
    return Verdict.UNPROVEN


def _without_wheel(choice: Choice, evidence: list[str]) -> Verdict:
    locked = choice.locked
    if locked.source in ("git", "path", "url"):
        kind = {"git": "a git repository", "path": "a directory", "url": "a URL"}[locked.source]
        evidence.append(
            f"it comes from {kind}, {locked.where}: what its wheel will be is not known"
        )
        return Verdict.NOT_IMPORTED
    if choice.problems and not choice.others and "any more" not in choice.problems[0]:
        return Verdict.NOT_IMPORTED
    if choice.compiled_for:
        evidence.append(f"there are wheels for {_some(choice.compiled_for)} on this platform")
    elif choice.unlisted:
        evidence.append(f"the index has {choice.unlisted}, which the lock does not list")
    elif any(name.endswith(".whl") for name in choice.others):
        evidence.append("there are wheels for other platforms or interpreters alone")
    if choice.sdist:
        evidence.append("there is an sdist, which an installer compiles if it can")
    elif choice.others:
        evidence.append("there is no sdist")
    return Verdict.NO_WHEEL


# -------------------------------------------------------------------------------- by what it does


def _culprits(
    examined: Examined, modules: Sequence[str], owners: Mapping[str, str], evidence: list[str]
) -> Iterator[str]:
    """The modules that turn the GIL on themselves; who only imports such a one is a victim."""
    own = set(modules)
    victims: dict[str, list[str]] = {}
    unclear: dict[str, list[str]] = {}
    for name in modules:
        found = examined.modules.get(name)
        if found is None or found.culprit is None:
            continue
        culprit = found.culprit.module
        if culprit == name:
            yield name
        elif culprit not in own or found.without is not None:
            again = found.without
            if again and again.culprit and again.culprit.module == name:
                yield name
            elif culprit not in own:
                clear = again is not None and again.outcome == "imported" and not again.culprit
                (victims if clear else unclear).setdefault(culprit, []).append(name)
    for culprit, names in victims.items():
        evidence.append(
            f"imports {_owned(culprit, owners)}, which turns the GIL on; {_some(names)} without it "
            "keeps the GIL off"
        )
    for culprit, names in unclear.items():
        evidence.append(
            f"{_some(names)} cannot be imported without {_owned(culprit, owners)}, which turns the "
            "GIL on, so whether it would do so itself is not known"
        )


def _owned(module: str, owners: Mapping[str, str]) -> str:
    owner = owners.get(module, "")
    return f"{module} of {owner}" if owner and owner != module else module


def _by_imports(
    examined: Examined, own: Sequence[str], apart: Sequence[str], evidence: list[str]
) -> Iterator[Verdict]:
    """Whether its modules could be imported at all, and if not, why."""
    wrong: dict[str, list[str]] = {}
    for name in [*own, *apart]:
        found = examined.modules.get(name)
        if found is None or found.outcome == "imported":
            continue
        wrong.setdefault(_why(found), []).append(name)
        if name in own and found.outcome in ("crashed", "hung"):
            yield Verdict.NOT_IMPORTED
    for why, names in wrong.items():
        evidence.append(f"not imported: {_some(names)}: {why}")
    outcomes = [examined.modules[name].outcome for name in own if name in examined.modules]
    if own and "imported" not in outcomes:
        yield Verdict.NOT_IMPORTED


def _why(found: Import) -> str:
    if found.outcome in ("crashed", "hung"):
        return f"{found.outcome} when it was imported: {found.ending}"
    return found.why.splitlines()[0] if found.why else "no reason was given"


def _smoke(examined: Examined) -> Iterator[str]:
    for test in examined.smoke:
        for failure in test.failures:
            of = failure.modules[0] if failure.modules else f"{test.modules} modules together"
            count = f"{failure.failed} of {failure.runs}"
            yield f"fails smoke: {test.test} of {of}, {failure.ending} {count}"


def _counts(examined: Examined | None, own: Sequence[str], apart: Sequence[str]) -> Modules:
    def imported(names: Sequence[str]) -> int:
        found = examined.modules if examined else {}
        return sum(name in found and found[name].outcome == "imported" for name in names)

    return Modules(
        own=len(own),
        own_imported=imported(own),
        apart=len(apart),
        apart_imported=imported(apart),
    )


# ------------------------------------------------------------------------------------ what to do


def _advice(seen: Seen, verdict: Verdict, declared: Declared, *, failing: bool) -> tuple[str, str]:
    """What to do, and the requirement to install for it where that is a wheel of ours."""
    choice = seen.choice
    name, version = choice.locked.name, choice.version
    if verdict is Verdict.PURE:
        return "", ""
    if split_ours(version):
        newer = declared.outdated(name, version)
        return (f"install {name} {newer} from our index", f"{name}=={newer}") if newer else ("", "")
    ours = declared.advised(name, version)
    if ours is not None:
        way = "install" if ours.version == version else "raise to"
        where, install = "from our index", f"{name}=={ours.local_version}"
        if reason := declared.why_unproven(ours):
            build = f"`nox -s build-{name} -- --release {ours.version}`"
            install = ""
            where = f"by {build}: for this platform it is built, not proven ({reason})"
        return f"{way} {name} {ours.local_version} {where}", install
    if verdict is Verdict.NOT_IMPORTED and seen.trouble is not None:
        return seen.trouble.remedy, ""
    return _without_ours(choice, verdict, failing=failing), ""


def _without_ours(choice: Choice, verdict: Verdict, *, failing: bool) -> str:
    """What to do about a project that Freewheel has no recipe for."""
    name = choice.locked.name
    recipe = f"write a recipe, `nox -s freewheel -- new-recipe {name} {choice.version}`"
    if choice.unlisted:
        return f"lock {name} again: the index has a wheel of this release"
    newer = f"{name} {choice.newer}" if choice.newer else ""
    newest = f"{name} {choice.newest}"
    elsewhere = choice.locked.source in ("git", "path", "url")
    build = "build its wheel (`uv build --wheel`) and audit that"
    again = build if elsewhere else "audit it with what it needs: its lock, or its environment"
    if choice.problems:
        again = "check the index that `pip config list` names, and audit again before you install"
    advice = {
        Verdict.NO_WHEEL: f"raise to {newer}, which has a wheel" if newer else recipe,
        Verdict.FALLBACK: f"raise to {newer}, which has a wheel" if newer else recipe,
        Verdict.GIL: f"audit {newest}; if that turns it on too, {recipe}" if newer else recipe,
        Verdict.NOT_IMPORTED: again,
        Verdict.UNPROVEN: f"avoid what fails, or {recipe}" if failing else "",
    }
    return advice.get(verdict, "")


def _some(names: Iterable[str]) -> str:
    """A list of names that does not grow without end."""
    listed = list(names)
    shown = ", ".join(listed[:_MANY])
    return shown if len(listed) <= _MANY else f"{shown} and {len(listed) - _MANY} more"
