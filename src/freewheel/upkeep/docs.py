"""The tables of the documentation that follow from recipes, probes and platforms: made, not kept.

A table stands between two comments, ``<!-- freewheel docs: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from freewheel.base import errors, files
from freewheel.base.errors import FreewheelError
from freewheel.base.workspace import Workspace
from freewheel.build import known_good, static_checks
from freewheel.build.patches import read_series
from freewheel.proof.programs import load_programs
from freewheel.recipe.platforms import ROWS
from freewheel.recipe.recipe import Recipe, load_recipes
from freewheel.trust import verify
from freewheel.upkeep import changelog

_BLOCK = re.compile(
    r"(?P<begin><!-- freewheel docs: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)


class DocsError(FreewheelError):
    """A document names a table that nobody makes."""


def renew(workspace: Workspace) -> list[Path]:
    """Write every table again; the documents that changed."""
    changed = stale(workspace)
    for path, text in changed.items():
        files.write_text(path, text)
    return list(changed)


def stale(workspace: Workspace) -> dict[Path, str]:
    """The documents whose tables are not what they should be, with what should be in each."""
    recipes = load_recipes(workspace.recipes, workspace.patches)
    found: dict[Path, str] = {}
    for path in (workspace.root / "README.md", *sorted((workspace.root / "docs").rglob("*.md"))):
        text = path.read_text(encoding="utf-8")
        made = _BLOCK.sub(partial(_renewed, path, workspace, recipes), text)
        if made != text:
            found[path] = made
    return found


def _renewed(
    path: Path, workspace: Workspace, recipes: Sequence[Recipe], block: re.Match[str]
) -> str:
    make = _TABLES.get(block["name"])
    if make is None:
        raise DocsError(
            f"{path.name}: there is no table {block['name']}",
            hint=f"it is one of {', '.join(_TABLES)}",
        )
    lines = "".join(f"{line}\n" for line in make(workspace, recipes))
    return f"{block['begin']}{lines}{block['end']}"


# -------------------------------------------------------------------------------------- the tables


def _titles(workspace: Workspace, recipe: Recipe) -> dict[str, str]:
    programs = load_programs(workspace.probes, recipe.name)
    return {probe.defect: probe.title.replace("|", r"\|") for probe in programs.probes}


def _proven(_: Workspace, recipes: Iterable[Recipe]) -> Iterator[str]:
    """One line for each project: releases, interpreters, and how many defects are fixed."""
    yield "| project | releases, and the interpreters they are for | defects fixed |"
    yield "|---|---|---|"
    for recipe in recipes:
        fixed = {
            code
            for release in recipe.releases
            for patch in read_series(release)
            for code in patch.defects
        }
        told = [
            f"{release.version} ({', '.join(_pythons(recipe, release.version))})"
            for release in recipe.releases
        ]
        link = f"[{recipe.name}](docs/defects.md#{recipe.name})"
        yield f"| {link} | {', '.join(told)} | {len(fixed)} |"


def _pythons(recipe: Recipe, version: str) -> list[str]:
    """The interpreters that a release has targets for which are proven."""
    proven = [
        target
        for target in recipe.targets.of_release(version)
        if not recipe.targets.why_unproven(target, version)
    ]
    return list(dict.fromkeys(target.partition("-")[0] for target in proven))


def _defects_with_patches(workspace: Workspace, recipes: Iterable[Recipe]) -> Iterator[str]:
    """A table for each project: each defect, and by which patch of which release it is fixed."""
    for recipe in recipes:
        yield ""
        yield f"## {recipe.name}"
        yield ""
        yield f"{recipe.summary[0].upper()}{recipe.summary[1:]}."
        yield ""
        yield "| defect | what goes wrong | fixed by |"
        yield "|---|---|---|"
        fixes: dict[str, list[str]] = {}
        for release in recipe.releases:
            for patch in read_series(release):
                link = f"../patches/{recipe.name}/{release.version}/{patch.name}"
                for code in patch.defects:
                    fixes.setdefault(code, []).append(f"[{release.version}]({link})")
        titles = _titles(workspace, recipe)
        for code in sorted(fixes, key=_order):
            program = f"[{code}](../probes/{recipe.name}/{code}.py)"
            yield f"| {program} | {titles.get(code, '')} | {', '.join(fixes[code])} |"
    yield ""


def _order(code: str) -> tuple[str, int, str]:
    letters, number, rest = re.match(r"([A-Z]+)(\d*)(.*)", code).groups()  # type: ignore[union-attr]
    return letters, int(number or 0), rest


def _pins(recipes: Iterable[Recipe]) -> str:
    return ", ".join(
        f'"{recipe.name}=={recipe.default_release.local_version}"' for recipe in recipes
    )


def _uv(_: Workspace, recipes: Sequence[Recipe]) -> Iterator[str]:
    yield "```toml"
    yield "[tool.uv]"
    yield "# Holds for indirect dependencies too, which sources alone do not reach."
    yield f"constraint-dependencies = [{_pins(recipes)}]"
    yield ""
    yield "[tool.uv.sources]"
    yield from (f'{recipe.name} = {{ index = "freewheel" }}' for recipe in recipes)
    yield ""
    yield "[[tool.uv.index]]"
    yield 'name = "freewheel"'
    yield 'url = "https://index.example.com/simple/"'
    yield "explicit = true"
    yield "```"


def _poetry(_: Workspace, recipes: Sequence[Recipe]) -> Iterator[str]:
    yield "```toml"
    yield "[project]"
    yield f"dependencies = [{_pins(recipes)}]  # and yours"
    yield ""
    yield "[tool.poetry.dependencies]"
    yield from (f'{recipe.name} = {{ source = "freewheel" }}' for recipe in recipes)
    yield ""
    yield "[[tool.poetry.source]]"
    yield 'name = "freewheel"'
    yield 'url = "https://index.example.com/simple/"'
    yield 'priority = "explicit"'
    yield "```"


def _platforms(_: Workspace, __: Sequence[Recipe]) -> Iterator[str]:
    yield "| platform | built in | on the runner | |"
    yield "|---|---|---|---|"
    for row in ROWS:
        place = f"the official {row.policy} image" if row.policy else "the machine itself"
        state = "experimental: never built" if row.experimental else "built and proven"
        yield f"| {row.name} | {place} | {row.runner} | {state} |"


def _changelog(workspace: Workspace, recipes: Sequence[Recipe]) -> Iterator[str]:
    return changelog.lines(known_good.read(workspace.known_good), recipes)


def _checks(checks: Mapping[str, str], *_: object) -> Iterator[str]:
    yield "| code | what must hold |"
    yield "|---|---|"
    yield from (f"| {code} | {text} |" for code, text in checks.items())


# What is no error of Freewheel's own tree.
_OTHER_EXITS = {
    0: "done",
    1: "any other error; `doctor`: something that a build needs is missing; `audit`: something "
    "fails the audit",
    2: "the command has wrong options or arguments",
    130: "interrupted; nothing half-written was left",
}


def _exit_codes(*_: object) -> Iterator[str]:
    """Each kind of error by its code, with the first line of its docstring."""
    kinds = [kind for kind in FreewheelError.__subclasses__() if kind.__module__ == errors.__name__]
    meanings = {
        kind.exit_code: (kind.__doc__ or "").splitlines()[0].replace("``", "`").rstrip(".")
        for kind in kinds
    }
    yield "| code | meaning |"
    yield "|---|---|"
    yield from (f"| {code} | {text} |" for code, text in sorted((_OTHER_EXITS | meanings).items()))


_TABLES: dict[str, Callable[[Workspace, Sequence[Recipe]], Iterator[str]]] = {
    "changelog": _changelog,
    "checks-beside": partial(_checks, verify.CHECKS),
    "checks-of-a-build": partial(_checks, static_checks.CHECKS),
    "exit-codes": _exit_codes,
    "defects-with-patches": _defects_with_patches,
    "platforms": _platforms,
    "poetry": _poetry,
    "proven": _proven,
    "uv": _uv,
}
