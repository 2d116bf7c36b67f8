"""Which file an installer would take for each distribution, and what else there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from freewheel.audit.available import Answer, Offer, Offers, version_of
from freewheel.audit.inputs.locked import Locked, LockedFile
from freewheel.audit.target import Target, WheelName, wheel_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A wheel: its name taken apart, its digest and where it can be downloaded from.

    ``relock`` says that the index has it, but the lock does not list it.
    """

    name: WheelName
    sha256: str
    urls: tuple[str, ...]
    relock: bool = False

    def also_from(self, offers: Iterable[Offer]) -> Candidate:
        """The same wheel, also from where an index has a file of that name and digest."""
        found = [
            offer.url
            for offer in offers
            if offer.filename == self.name.filename and offer.sha256 in ("", self.sha256)
        ]
        return replace(self, urls=tuple(dict.fromkeys([*found, *self.urls])))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a distribution is for the target, as far as file names tell.

    ``wheel`` is the one that is installed, None where there is none that fits. ``compiled_for`` are
    the interpreters that get compiled code on this platform. ``newer`` is the nearest newer release
    with a compiled wheel that fits, ``newest`` the last one; "" where the index has none.
    ``unlisted`` is a wheel that the index has, and that the lock would have to list. ``assumed``
    says how a version was found that the input does not pin. ``problems`` say why this may be not
    all.
    """

    locked: Locked
    version: str
    wheel: Candidate | None = None
    sdist: bool = False
    compiled_for: tuple[str, ...] = ()
    newer: str = ""
    newest: str = ""
    unlisted: str = ""
    assumed: str = ""
    problems: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What tells it apart from every other distribution, also of the same project."""
        return f"{self.locked.name} {self.version}"

    @property
    def fetched(self) -> Candidate | None:
        """The wheel, where it has to be downloaded to look into it."""
        return self.wheel if self.locked.installed is None else None

    @property
    def compiled(self) -> bool:
        """Whether it brings compiled code, by its tags or by what is installed."""
        installed = self.locked.installed
        by_tags = self.wheel is not None and self.wheel.name.compiled
        return by_tags or bool(installed and installed.extensions)


def choose(distributions: Sequence[Locked], target: Target, offers: Offers) -> list[Choice]:
    """The choice for each distribution; the index is asked for those where it matters."""
    asked = {entry.name for entry in distributions if needs_index(entry, target)}
    answers = offers.ask(asked)
    return [_choice(entry, target, answers.get(entry.name)) for entry in distributions]


def needs_index(entry: Locked, target: Target) -> bool:
    """Whether the input alone does not tell all: pure Python that is listed whole needs nothing."""
    if entry.source in ("git", "path", "url"):
        return False
    if entry.installed is not None:
        return True
    wheels = _wheels(entry.files)
    pure = bool(wheels) and not any(wheel.compiled for wheel in wheels)
    return not (pure and all(target.rank(wheel) is not None for wheel in wheels))


def _wheels(listed: Iterable[LockedFile]) -> list[WheelName]:
    return [name for file in listed if (name := wheel_name(file.name))]


def _choice(entry: Locked, target: Target, answer: Answer | None) -> Choice:
    releases: dict[Version, list[Offer]] = {}
    for offer in answer.offers if answer else ():
        if offer.version is not None:
            releases.setdefault(offer.version, []).append(offer)
    version, assumed = _version(entry, releases, target)
    problems = [answer.problem] if answer and answer.problem else []
    released = version_of(version)
    of_release = releases.get(released, []) if released else []
    if entry.hashes and of_release:
        of_release = [offer for offer in of_release if offer.sha256 in entry.hashes]
        if not of_release:
            problems.append("no file that the index has of this release has a digest of the lock's")
    candidates = _candidates(entry, of_release, version)
    fitting = sorted(
        (candidate for candidate in candidates if target.rank(candidate.name) is not None),
        key=lambda candidate: (
            target.rank(candidate.name),
            [-int(part) if isinstance(part, int) else 0 for part in candidate.name.build],
        ),
    )
    wheel = fitting[0] if fitting else None
    if entry.installed is not None:
        wheel = _installed(entry, candidates)
    newer = _newer(releases, version, target)
    names = [file.name for file in entry.files] + [offer.filename for offer in of_release]
    if answer and not answer.problem and not entry.files and entry.installed is None:
        if not releases:
            problems.append("the index does not have it (any more)")
        elif not of_release and not problems:
            wanted = version or entry.wanted
            problems.append(f"the index does not have release {wanted} (any more)")
    return Choice(
        locked=entry,
        version=version,
        wheel=wheel,
        sdist=any(name.endswith((".tar.gz", ".zip")) for name in names),
        compiled_for=_compiled_for(candidates, target),
        newer=str(min(newer, default="")),
        newest=str(max(newer, default="")),
        unlisted=_unlisted(entry, of_release, target) if wheel is None else "",
        assumed=assumed,
        problems=tuple(problems),
        others=tuple(sorted(set(names))),
    )


def _version(
    entry: Locked, releases: Mapping[Version, Sequence[Offer]], target: Target
) -> tuple[str, str]:
    """The release, and how it was found where the input does not pin it."""
    if entry.version:
        return entry.version, ""
    found = {
        version
        for version, offers in releases.items()
        for offer in offers
        if entry.wanted.contains(version)
        and not offer.yanked
        and _takes(offer, target)
        and (
            entry.before is None or (offer.uploaded is not None and offer.uploaded <= entry.before)
        )
    }
    newest = max((version for version in found if not version.is_prerelease), default=None)
    if newest is None:
        return "", ""
    wanted = f" that fits {entry.wanted}" if str(entry.wanted) else ""
    if entry.before is not None:
        wanted = f" of {entry.before.date()}"
    return str(newest), f"no lock names its version: the newest{wanted} is assumed"


def _takes(offer: Offer, target: Target) -> bool:
    try:
        return SpecifierSet(offer.requires_python).contains(target.full_version, prereleases=True)
    except InvalidSpecifier:
        return True


def _same(version: Version | None, wanted: str) -> bool:
    return version is not None and version == version_of(wanted)


def _candidates(entry: Locked, offers: Sequence[Offer], version: str) -> list[Candidate]:
    """The wheels that an installer may take: those of the lock, or all that the index has."""
    listed = {file.name: file for file in entry.files}
    offered = {offer.filename: offer for offer in offers}
    names = list(listed) if entry.complete and listed else [*listed, *offered]
    found = []
    for filename in dict.fromkeys(names):
        name = wheel_name(filename)
        if name is None or not _same(name.version, version):
            continue
        file, offer = listed.get(filename), offered.get(filename)
        urls = [offer.url] if offer else []
        urls += [file.url] if file and file.url else []
        digest = (file.sha256 if file else "") or (offer.sha256 if offer else "")
        relock = bool(listed) and file is None
        found.append(Candidate(name=name, sha256=digest, urls=tuple(urls), relock=relock))
    return found


def _installed(entry: Locked, candidates: Sequence[Candidate]) -> Candidate | None:
    """What lies in the environment, by the tags that it was installed with."""
    tags = entry.installed.tags if entry.installed else ()
    stem = f"{entry.name.replace('-', '_')}-{entry.version}"
    for candidate in candidates:
        if set(tags) == {str(tag) for tag in candidate.name.tags}:
            return candidate
    joined = [
        ".".join(dict.fromkeys(part)) for part in zip(*(t.split("-") for t in tags), strict=False)
    ]
    name = wheel_name(f"{stem}-{'-'.join(joined)}.whl") if tags else None
    return Candidate(name=name, sha256="", urls=()) if name else None


def _compiled_for(candidates: Iterable[Candidate], target: Target) -> tuple[str, ...]:
    """The interpreters that get compiled code on the target's platform."""
    found = {
        tag.abi if tag.abi != "abi3" else f"{tag.interpreter}+"
        for candidate in candidates
        for tag in candidate.name.tags
        if tag.platform in target.platforms and tag.abi != "none"
    }
    return tuple(sorted(found))


def _newer(
    releases: Mapping[Version, Sequence[Offer]], version: str, target: Target
) -> set[Version]:
    """The newer releases with a compiled wheel that fits."""
    now = version_of(version)
    if now is None:
        return set()
    return {
        released
        for released, offers in releases.items()
        if released > now and not released.is_prerelease and released.local is None
        if any(_fits(offer, target) for offer in offers if not offer.yanked)
    }


def _fits(offer: Offer, target: Target) -> bool:
    name = wheel_name(offer.filename)
    return name is not None and name.compiled and target.rank(name) is not None


def _unlisted(entry: Locked, offers: Sequence[Offer], target: Target) -> str:
    """A wheel that fits and that the index has, but the lock does not list."""
    listed = {file.name for file in entry.files}
    for offer in offers:
        name = wheel_name(offer.filename)
        if name is not None and offer.filename not in listed and target.rank(name) is not None:
            return offer.filename
    return ""
