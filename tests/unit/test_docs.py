"""What the documentation names is what the recipes, probes and platforms have."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build.known_good import Entry
from freewheel.build.patches import read_series
from freewheel.recipe.recipe import load_recipes
from freewheel.upkeep import changelog, docs

ROOT = Path(__file__).parents[2]
WORKSPACE = find_workspace(ROOT)


def test_the_tables_of_the_documentation_are_of_today() -> None:
    stale = [str(path.relative_to(ROOT)) for path in docs.stale(WORKSPACE)]

    assert stale == [], "run: nox -s freewheel -- docs"


def test_every_table_is_used_somewhere() -> None:
    text = "".join(path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")))

    for name in docs._TABLES:
        assert f"<!-- freewheel docs: {name} -->" in text


@pytest.fixture
def checkout(tmp_path: Path) -> Workspace:
    for name in ("README.md", "docs", "patches", "probes", "recipes", "wheels/known-good.json"):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    return Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")


def test_a_raised_revision_is_renewed_in_every_table(checkout: Workspace) -> None:
    recipes = load_recipes(checkout.recipes, checkout.patches)
    recipe = recipes[0]
    release = recipe.default_release
    text = recipe.path.read_text()
    at = text.index(f'[releases."{release.version}"]')
    raised = text[at:].replace(f"revision = {release.revision}\n", "revision = 99\n", 1)
    recipe.path.write_text(text[:at] + raised)

    assert [path.name for path in docs.renew(checkout)] == ["changelog.md", "consume.md"]
    assert (
        f"{recipe.name}=={release.version}+ft.99" in (checkout.root / "docs/consume.md").read_text()
    )
    assert docs.renew(checkout) == []


def test_each_project_is_in_the_readme_and_each_defect_in_its_document(
    checkout: Workspace,
) -> None:
    rows = (ROOT / "README.md").read_text().splitlines()
    defects = (ROOT / "docs" / "defects.md").read_text()
    for recipe in load_recipes(checkout.recipes, checkout.patches):
        (row,) = [row for row in rows if row.startswith(f"| [{recipe.name}](")]
        assert all(release.version in row for release in recipe.releases)
        for release in recipe.releases:
            for patch in read_series(release):
                for code in patch.defects:
                    assert f"| [{code}](../probes/{recipe.name}/{code}.py) |" in defects


def test_the_changelog_says_what_each_revision_changed() -> None:
    recipes = load_recipes(WORKSPACE.recipes, WORKSPACE.patches)
    recipe = next(one for one in recipes if one.default_release.revision > 1)
    release = replace(recipe.default_release, revision=3)
    first, *others = read_series(release)
    same = {f"patch {first.name}": first.sha256}
    entries = [
        Entry(
            project=recipe.name,
            version=f"{release.version}+ft.{number}",
            target="",
            builder="",
            wheel="",
            sha256="",
            inputs=inputs,
        )
        for number, inputs in (
            (1, {f"patch {first.name}": "another", "patch 0000-gone.patch": "x", "recipe": "1"}),
            (2, {**same, "recipe": "2"}),
        )
    ]

    told = list(changelog.lines(entries, [replace(recipe, releases=(release,))]))

    third, second, _ = [row for row in told if row.startswith(f"| {release.version}+ft.")]
    assert second.count("changed: ") == 1
    assert f"changed: [{first.summary}]" in second
    assert "dropped: `0000-gone.patch`" in second
    assert third.count("new: ") == len(others)
    entries[1] = replace(entries[1], inputs={**entries[0].inputs, "recipe": "2"})
    told = list(changelog.lines(entries, [replace(recipe, releases=(release,))]))
    assert any("the same patches, built with other inputs: recipe" in row for row in told)


def test_a_table_that_nobody_makes_is_an_error(checkout: Workspace) -> None:
    path = checkout.root / "docs" / "odd.md"
    path.write_text("<!-- freewheel docs: defetcs -->\n<!-- end -->\n")

    with pytest.raises(docs.DocsError, match="there is no table defetcs"):
        docs.stale(checkout)
