"""The gate: a wheel that reproduces passes, and each remedy that is taken away is missed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from freewheel.base import console
from freewheel.base.workspace import SHARED, share_cache
from freewheel.build.job import Job
from freewheel.build.wheel import host_target
from freewheel.recipe.recipe import choose_recipe, load_recipes
from freewheel.trust import reproduce
from tests.integration.conftest import ROOT, Checkout, make_checkout

pytestmark = pytest.mark.integration

WITHOUT = Path(__file__).with_name("without_remedy.py")


@pytest.fixture
def checkout(cache: Path, tmp_path: Path) -> Checkout:
    """A checkout whose cache has the fetched inputs and nothing else."""
    mine = make_checkout(
        tmp_path / "mine", cache=tmp_path / "cache", data=tmp_path / "data", copy=False
    )
    for name in SHARED:
        (cache / name).mkdir(parents=True, exist_ok=True)
    share_cache(cache, mine.workspace.cache)
    return mine


def _reproduce(checkout: Checkout, command: Sequence[str | Path]) -> reproduce.Reproduction:
    recipe = choose_recipe(load_recipes(ROOT / "recipes", ROOT / "patches"), "httptools")
    release = recipe.release("0.9.0")
    target = host_target(recipe, release)
    jobs = [Job(recipe=recipe, release=release, baseline=False, target=target)]
    with console.Board() as board:
        (reproduction,) = reproduce.reproduce(
            checkout.workspace, jobs, board, command=[str(word) for word in command]
        )
    return reproduction


def test_httptools_reproduces(checkout: Checkout) -> None:
    said = checkout.freewheel("reproduce", "httptools", "--release", "0.9.0")

    (row,) = (line for line in said.splitlines() if line.startswith("httptools  0.9.0+ft"))
    assert row.endswith("identical")
    varied = [line for line in said.splitlines() if line.startswith("varied ")]
    # What every machine that can build can vary; `nox -s reproduce` says what else it did.
    for name in (
        "checkout, cache and temporary files, host",
        "umask, host",
        "time zone, host",
        "locale, host",
        "hash seed, host",
        "home directory, host",
        "variables that no build may see, host",
        "host name, container",
        "time zone, container",
        "hash seed, container",
    ):
        assert any(line.startswith(f"varied      {name}: ") for line in varied), (name, said)


@pytest.mark.parametrize(
    ("remedy", "cause", "member"),
    [
        ("epoch", "time", ".dist-info/METADATA"),
        ("repack", "mode", ".dist-info/WHEEL"),
        ("prefix-map", "path in debug info", "httptools/parser/parser.cpython-314t-"),
    ],
)
def test_the_gate_misses_a_remedy(checkout: Checkout, remedy: str, cause: str, member: str) -> None:
    reproduction = _reproduce(checkout, [sys.executable, WITHOUT, remedy])

    assert reproduction.verdict == "different"
    assert reproduction.error is not None
    assert reproduction.error.exit_code == 23
    named = [line for line in reproduction.error.problems if line.startswith(f"{cause}: ")]
    assert any(member in line for line in named), str(reproduction.error)
    # No cause is named that this remedy is not for.
    others = {"time", "mode", "path in debug info", "path", "hash seed or locale"} - {cause}
    assert not [p for p in reproduction.error.problems if p.partition(": ")[0] in others]
    first, second = reproduction.builds
    assert first.sha256 != second.sha256
    assert first.path.is_file()
    assert second.path.is_file()
    assert str(second.path) in str(reproduction.error)


def test_the_prefix_map_hides_where_the_compiler_ran(checkout: Checkout) -> None:
    reproduction = _reproduce(checkout, [sys.executable, WITHOUT, "moved"])

    assert reproduction.verdict == "identical", reproduction.error
    log = next((checkout.workspace.cache / "reproductions").rglob("first.log"))
    assert "without_remedy.py moved" in log.read_text()


def test_a_build_that_fails_is_a_failure(checkout: Checkout) -> None:
    reproduction = _reproduce(checkout, [sys.executable, "-c", "print('no'); raise SystemExit(3)"])

    assert reproduction.verdict == "failed"
    assert reproduction.builds == ()
    assert reproduction.error is not None
    assert "first and second build failed" in reproduction.error.summary
    assert "no" in reproduction.error.output
