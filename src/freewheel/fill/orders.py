"""What to do about each distribution of a lock, from the audit's choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from freewheel.audit.available import Answer
from freewheel.audit.choosing import Candidate, Choice
from freewheel.audit.declared import Declared, split_ours
from freewheel.audit.target import Target
from freewheel.recipe.building import SystemPackages
from freewheel.recipe.recipe import Recipe, Release

_SDISTS = (".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A wheel to build from its sdist, as upstream published it.

    ``target`` is a cibuildwheel build identifier, ``packages`` what the system has to have.
    """

    project: str
    version: str
    filename: str
    sha256: str
    urls: tuple[str, ...]
    target: str
    packages: SystemPackages = field(default_factory=SystemPackages)

    @property
    def slug(self) -> str:
        return f"{self.project}-{self.version}-{self.target}"

    @property
    def title(self) -> str:
        return f"{self.project} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A distribution that is not available, why, and what to do about it."""

    project: str
    version: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where each distribution comes from.

    ``ours`` are releases that Freewheel patches, ``public`` wheels that an index has, ``orders``
    what is built, and ``absent`` what cannot be.
    """

    ours: tuple[tuple[Recipe, Release], ...]
    public: tuple[tuple[Choice, Candidate], ...]
    orders: tuple[Order, ...]
    absent: tuple[Absent, ...]


def plan(
    choices: Iterable[Choice], answers: Mapping[str, Answer], declared: Declared, target: Target
) -> Plan:
    """The plan for all choices; ``answers`` are the index's, where its sdists are listed."""
    ours: list[tuple[Recipe, Release]] = []
    public: list[tuple[Choice, Candidate]] = []
    orders: list[Order] = []
    absent: list[Absent] = []
    for choice in choices:
        patched = _patched(choice, declared)
        if patched is not None:
            ours.append(patched)
        elif choice.wheel is not None:
            public.append((choice, choice.wheel))
        else:
            wanted = _order(choice, answers.get(choice.locked.name), target)
            if isinstance(wanted, Order):
                orders.append(wanted)
            else:
                absent.append(wanted)
    return Plan(ours=tuple(ours), public=tuple(public), orders=tuple(orders), absent=tuple(absent))


def _patched(choice: Choice, declared: Declared) -> tuple[Recipe, Release] | None:
    """Our release in the place of that very one of upstream's; None where there is none."""
    name, version = choice.locked.name, choice.version
    ours = None if split_ours(version) else declared.advised(name, version)
    if ours is None or ours.version != version:
        return None
    return declared.recipes[name], ours


def _order(choice: Choice, answer: Answer | None, target: Target) -> Order | Absent:
    locked, version = choice.locked, choice.version

    def absent(cause: str, remedy: str) -> Absent:
        return Absent(project=locked.name, version=version, cause=cause, remedy=remedy)

    if locked.source in ("git", "path", "url"):
        return absent(
            f"it comes from {locked.where or locked.source}, not from an index",
            "build its wheel there (`uv build --wheel`), and lock that",
        )
    if choice.problems:
        return absent(choice.problems[0], "check the index that `pip config list` names")
    files = {file.name: (file.sha256, [file.url] if file.url else []) for file in locked.files}
    for offer in answer.offers if answer else ():
        if offer.filename in files or not locked.complete or not locked.files:
            digest, urls = files.setdefault(offer.filename, (offer.sha256, []))
            if offer.sha256 in ("", digest):
                urls.insert(0, offer.url)
    wanted = [name for name in choice.others if name in files and name.endswith(_SDISTS)]
    if not wanted:
        zips = [name for name in choice.others if name.endswith(".zip")]
        odd = f"its sdist {zips[0]} is no .tar.gz" if zips else "there is no sdist of it"
        return absent(odd, f"raise to {choice.newest}" if choice.newest else "do without it")
    digest, urls = files[wanted[0]]
    if not digest:
        return absent(f"nothing says the digest of {wanted[0]}", "lock it with hashes")
    return Order(
        project=locked.name,
        version=version,
        filename=wanted[0],
        sha256=digest,
        urls=tuple(urls),
        target=str(target),
    )
