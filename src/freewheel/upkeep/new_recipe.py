"""A recipe for a project that has none: what an index and an sdist tell, written as a recipe.

What they cannot tell is not guessed. A recipe is written only if it is valid; what is missing for
that is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from packaging.utils import canonicalize_name

from freewheel.base import files
from freewheel.base.errors import UpstreamError
from freewheel.base.workspace import Workspace
from freewheel.build import source
from freewheel.machine import native
from freewheel.recipe.building import Place
from freewheel.recipe.platforms import ROWS
from freewheel.recipe.pythons import DEFAULT, PYTHONS
from freewheel.recipe.recipe import Recipe, Release, load_recipe
from freewheel.recipe.targets import CANDIDATES
from freewheel.upkeep.recipe_text import quoted, release_lines
from freewheel.upkeep.sdist_facts import Facts, look_at
from freewheel.upkeep.upstream import offer_of

_NOT_YET = "there is no proof on it yet"
_SUMMARY = 80  # characters, as a recipe allows


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A recipe that was written, and what a person must look at."""

    recipe: Recipe
    notes: tuple[str, ...]


def begin(
    workspace: Workspace,
    name: str,
    version: str,
    *,
    import_name: str | None = None,
    place: Place | None = None,
) -> Begun:
    """Write ``recipes/<name>.toml`` for one release of a project, and give it as it is read.

    ``import_name`` and ``place`` are for what the sdist does not tell. Raises UpstreamError with
    everything that it does not.
    """
    project = canonicalize_name(name)
    path = workspace.recipes / f"{project}.toml"
    if path.exists():
        raise UpstreamError(
            f"there is a recipe for {project}",
            hint=f"add a release to it: `nox -s refresh-{project} -- {version}`",
        )
    release = offer_of(project, version).as_release()
    scratch = files.empty_directory(workspace.work / f"begin-{project}")
    archive = source.fetch(release, workspace.sources)
    tree = source.unpack(archive, files.empty_directory(scratch / "tree"))
    facts = look_at(tree, project, release.version, import_name or "")
    if place:
        facts = replace(facts, places=(place,))
    if not facts.import_name or not facts.places:
        raise UpstreamError(
            f"the sdist of {project} {release.version} does not tell all that a recipe says",
            problems=[
                *(["which package is imported"] if not facts.import_name else []),
                *([_no_version(release)] if not facts.places else []),
            ],
            hint="name it: --import-name PACKAGE, --version-file FILE --version-pattern "
            "\"__version__ = '{version}'\"; docs/recipes.md explains both",
        )
    text = "\n".join(_lines(tree, release, facts)) + "\n"
    files.write_text(path, text)
    try:
        recipe = load_recipe(path, workspace.patches)
    except BaseException:
        path.unlink()
        raise
    return Begun(recipe=recipe, notes=facts.notes)


def _no_version(release: Release) -> str:
    return (
        f"where {release.version} is set: no file says it in one piece and only once, so "
        f"{release.local_version} cannot be set either"
    )


def _lines(tree: Path, release: Release, facts: Facts) -> Iterator[str]:
    about = _metadata(tree)
    yield f"# What Freewheel knows of {release.project}. Reference: docs/recipes.md"
    yield "[project]"
    yield f"name = {quoted(release.project)}"
    yield f"summary = {quoted(_summary(about, release.project))}"
    yield f"import-name = {quoted(facts.import_name)}"
    yield f"source-url = {quoted(_source_url(about))}"
    yield ""
    yield "[build]"
    yield "version = ["
    yield from (f"    {_inline(place)}," for place in facts.places)
    yield "]"
    yield f"requires = [{', '.join(map(quoted, facts.requires))}]"
    yield from _target_lines(facts)
    if facts.generated:
        yield f"generated = [{', '.join(map(quoted, facts.generated))}]"
    if (tree / "tests").is_dir():
        yield ""
        yield "[suite]"
        yield 'tests = "tests"'
        yield "seconds = 120"
    yield ""
    yield from release_lines(release, ())


def _inline(place: Place) -> str:
    """A place as a table in one line."""
    told = place.model_dump(exclude_defaults=True, by_alias=True)
    values = (f"{key} = {quoted(v) if isinstance(v, str) else 'false'}" for key, v in told.items())
    return f"{{ {', '.join(values)} }}"


def _target_lines(facts: Facts) -> Iterator[str]:
    if facts.pure:
        yield "pure = true  # one wheel for every platform, built and proven on this one"
        yield f"targets = [{quoted(f'{DEFAULT}-{ROWS[0].name}')}]"
        return
    known = native.pinned_targets()
    targets = [t for t in CANDIDATES if t.startswith(f"{DEFAULT}-") and t in known]
    yield "targets = ["
    yield from (f"    {quoted(target)}," for target in targets)
    yield "]"
    yield "# Built by two builders, compared and imported, but not published."
    yield "unproven = ["
    for reason in dict.fromkeys(row.unproven for row in ROWS if row.unproven):
        names = [quoted(f"*-{row.name}") for row in ROWS if row.unproven == reason]
        yield f"    {{ targets = [{', '.join(names)}], reason = {quoted(reason)} }},"
    yield "]"
    others = ", ".join(quoted(f"{python}-*") for python in PYTHONS if python != DEFAULT)
    yield f"excluded = [{{ targets = [{others}], reason = {quoted(_NOT_YET)} }}]"


def _metadata(tree: Path) -> Message:
    path = tree / "PKG-INFO"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return HeaderParser().parsestr(text)


def _summary(about: Message, project: str) -> str:
    said = " ".join(str(about.get("Summary", "")).split()) or project
    return said if len(said) <= _SUMMARY else said[: _SUMMARY - 1].rstrip() + "…"


def _source_url(about: Message) -> str:
    """The place of the sources, by the words that projects use for it."""
    urls = {
        label.strip().lower(): url.strip()
        for label, _, url in (str(u).partition(",") for u in about.get_all("Project-URL", []))
    }
    named = [urls[k] for k in ("source", "source code", "repository", "github") if k in urls]
    named += [str(about.get("Home-page", "")), *urls.values()]
    return next((url for url in named if url.startswith("https://")), "https://example.invalid/")
