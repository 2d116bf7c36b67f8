"""Tables of the documentation that people write name what there is: all of it, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from freewheel.audit.verdicts import Verdict as AuditVerdict
from freewheel.proof import programs
from freewheel.proof.control import Verdict
from freewheel.recipe import recipe
from freewheel.recipe.suite import Parallel, SuiteTable
from freewheel.recipe.tables import Table

ROOT = Path(__file__).parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text: str, head: str) -> Iterator[list[str]]:
    """The cells of every row of the tables whose first column has that head."""
    for table in re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE):
        for row in table.splitlines():
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def keys_of(*tables: type[Table]) -> set[str]:
    """The keys of tables as they are written in TOML."""
    return {field.alias or name for t in tables for name, field in t.model_fields.items()}


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


TABLES: dict[str, type[Table]] = {
    "project": recipe._ProjectTable,
    "build": recipe._BuildTable,
    'releases."X"': recipe._ReleaseTable,
    "suite": SuiteTable,
    "parallel": Parallel,
}


@pytest.mark.parametrize("name", TABLES)
def test_every_key_of_a_recipe_is_explained(name: str) -> None:
    words = set(re.findall(r"[\w-]+", read("docs/recipes.md")))

    assert keys_of(TABLES[name]) - words == set()


def test_every_key_that_is_explained_is_a_key_of_recipes() -> None:
    documented = [key for cells in rows(read("docs/recipes.md"), "key") for key in codes(cells[0])]

    assert len(documented) > 20
    for key in documented:
        table, _, own = key.rpartition(".")
        assert own == "*" or own in keys_of(TABLES[table or "suite"]), key


def test_the_keys_of_programs_are_those_that_are_explained() -> None:
    documented = {key for cells in rows(read("docs/probes.md"), "key") for key in codes(cells[0])}
    known = keys_of(programs._ProbeTable, programs._StressTable)

    assert documented == known - {"pythons"} | {"requires-python"}


def test_every_exit_code_of_a_probe_is_explained() -> None:
    text = " ".join(cells[0] for cells in rows(read("docs/probes.md"), "the process"))

    assert set(map(int, re.findall(r"\d+", text))) == set(programs.EXIT_CODES)


def test_the_verdicts_are_those_that_are_explained() -> None:
    proof = {cells[0].removesuffix(", flaky") for cells in rows(read("docs/proof.md"), "verdict")}
    audit = {cells[0].strip("*") for cells in rows(read("docs/audit.md"), "verdict")}

    assert proof == set(map(str, Verdict))
    assert audit == set(map(str, AuditVerdict))


def test_every_patch_in_the_limits_exists() -> None:
    present = {path.stem.partition("-")[2] for path in (ROOT / "patches").glob("*/*/*.patch")}

    for cells in rows(read("docs/limits.md"), "what"):
        if len(cells) == 4:
            for name in codes(cells[2]):
                assert re.sub(r"^\d{4}-", "", name) in present, name


def test_the_table_of_crashes_names_defects_and_releases_that_have_them() -> None:
    found = list(rows(read("README.md"), "what you see"))

    assert found
    for _, projects, defects in found:
        names = [name for name in re.findall(r"[a-z0-9]+", projects.lower()) if is_project(name)]
        loaded = [programs.load_programs(ROOT / "probes", name) for name in names]
        probes = {probe.defect: probe for one in loaded for probe in one.probes}
        named = re.findall(r"[A-Z]+\d+[A-Z]?", defects)
        assert set(named) <= set(probes), projects
        for version in re.findall(r"\d+(?:\.\d+)+", projects):
            assert any(version in probes[defect].releases for defect in named), (projects, version)


def is_project(name: str) -> bool:
    return (ROOT / "recipes" / f"{name}.toml").is_file()


DOCUMENTS = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_row_has_the_cells_of_its_head(path: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), re.MULTILINE):
        counts = {len(re.split(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(counts) == 1, table


def test_every_file_that_the_documentation_links_to_exists() -> None:
    for path in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (path.parent / link).exists(), f"{path.name}: {link}"
