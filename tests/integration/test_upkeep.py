"""The watch and the refresh with real releases: httptools 0.7.1, after which 0.9.0 came out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from freewheel.base.workspace import share_cache
from freewheel.build import source
from freewheel.recipe.recipe import Release, choose_recipe, load_recipes
from tests.integration.conftest import ROOT, Builder, Checkout, make_checkout
from tests.unit.indexmaker import make_index

pytestmark = pytest.mark.integration

OLD, NEW = "0.7.1", "0.9.0"


@pytest.fixture(scope="module")
def httptools(built: Builder) -> dict[str, Release]:
    """Both releases, as the repository's recipe has them."""
    recipes = load_recipes(ROOT / "recipes", ROOT / "patches")
    recipe = choose_recipe(recipes, "httptools")
    releases = {version: recipe.release(version) for version in (OLD, NEW)}
    assert built.workspace.sources.is_dir()
    return releases


@pytest.fixture(scope="module")
def index(
    built: Builder, httptools: dict[str, Release], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An index that has both sdists, and nothing that comes after."""
    archives = [source.fetch(one, built.workspace.sources).path for one in httptools.values()]
    files = {path.name: path.read_bytes() for path in archives}
    return make_index(tmp_path_factory.mktemp("index"), "httptools", files)


@pytest.fixture
def before(built: Builder, tmp_path: Path) -> Checkout:
    """A checkout as it was when 0.7.1 was the newest release."""
    checkout = make_checkout(
        tmp_path / "before", cache=built.workspace.cache, data=tmp_path / "data", copy=True
    )
    for path in checkout.workspace.recipes.glob("*.toml"):
        if path.stem != "httptools":
            path.unlink()
    for name in ("asyncpg", "greenlet"):
        shutil.rmtree(checkout.workspace.patches / name)
    shutil.rmtree(checkout.workspace.patches / "httptools" / NEW)
    path = checkout.workspace.recipes / "httptools.toml"
    text = path.read_text(encoding="utf-8")
    newer = re.compile(rf'(?s)^\[releases\."{NEW}"\].*?(?=^\[releases\."{OLD}"\])', re.MULTILINE)
    text, changed = newer.subn("", text)
    assert changed == 1
    # 0.7.1 is excluded on 3.15, so nothing is left that serves it.
    text, changed = re.subn(r'(?m)^    "cp315t-.*\n', "", text)
    assert changed
    path.write_text(text, encoding="utf-8")
    return checkout


def test_a_newer_release_is_put_to_our_probes(
    before: Checkout, index: Path, tmp_path: Path
) -> None:
    output = tmp_path / "report"

    before.freewheel("watch", "--output", str(output), env={"UV_DEFAULT_INDEX": str(index)})

    (seen,) = json.loads((output / "report.json").read_text())["projects"]
    newer = seen["newer"]
    assert (seen["carried"], newer["version"], newer["trouble"]) == (OLD, NEW, "")
    verdicts = {one["defect"]: one["verdict"] for one in newer["evidence"]}
    assert {defect for defect, verdict in verdicts.items() if verdict == "gone"} == {"H0", "H0U"}
    assert verdicts["H2"] == "still there"
    assert set(newer["droppable"]) == {
        "0001-declare-free-threading-support.patch",
        "0006-refuse-urls-that-are-too-long.patch",
    }
    fits = {fit["patch"]: fit for fit in newer["patches"]}
    assert fits["0002-release-the-buffer-of-each-call.patch"]["state"] == "applies"
    conflict = fits["0006-refuse-urls-that-are-too-long.patch"]
    assert conflict["state"] == "does not apply"
    assert conflict["hunks"] == ["httptools/parser/url_parser.pyx: hunk 2"]
    assert seen["retire"] == ""


def test_the_series_is_carried_over_as_far_as_it_goes(
    before: Checkout, index: Path, httptools: dict[str, Release], tmp_path: Path
) -> None:
    # A cache of its own, so that nothing is left in the one that everybody uses.
    share_cache(before.workspace.cache, tmp_path / "cache")
    settings = {"UV_DEFAULT_INDEX": str(index), "FREEWHEEL_CACHE": str(tmp_path / "cache")}

    said = before.freewheel("refresh", "httptools", NEW, code=12, env=settings)

    assert "0006-refuse-urls-that-are-too-long.patch conflicts with httptools 0.9.0" in said
    repository = tmp_path / "cache" / "refresh" / f"httptools-{NEW}"
    text = (repository / "httptools" / "parser" / "url_parser.pyx").read_text()
    assert "<<<<<<<" in text
    assert httptools[OLD].patches
    assert not (before.workspace.patches / "httptools" / NEW).exists()
