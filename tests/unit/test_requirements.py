"""Build requirements: a project gets what it names of the one lock, and what that needs."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from freewheel.base import process
from freewheel.base.errors import FetchError
from freewheel.base.workspace import find_workspace
from freewheel.machine.requirements import (
    BUILD_REQUIREMENTS,
    SUITE_REQUIREMENTS,
    build_lock,
    fetch_requirements,
    part_of,
    read_lock,
    suite_lock,
    write_lock,
)
from freewheel.recipe.recipe import load_recipes

ROOT = Path(__file__).parents[2]
WORKSPACE = find_workspace(ROOT)
LOCK = """\
apart==1.0 \\
    --hash=sha256:{a}
    # via -r build-requirements.in
backend==2.0 \\
    --hash=sha256:{b} \\
    --hash=sha256:{c}
    # via -r build-requirements.in
deep==3.0 ; python_full_version < '3.13' \\
    --hash=sha256:{a}
    # via helper
helper==4.0 \\
    --hash=sha256:{a}
    # via
    #   -r build-requirements.in
    #   backend
""".format(a="a" * 64, b="b" * 64, c="c" * 64)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "build-requirements.txt"
    path.write_text(LOCK)
    return path


def part(lock: Path, *names: str) -> str:
    return part_of(lock, names, key="build.requires")


def names(text: str) -> list[str]:
    return [pin.name for pin in read_lock(text)]


def test_what_is_named_comes_with_what_it_needs(lock: Path) -> None:
    assert names(part(lock, "backend")) == ["backend", "deep", "helper"]
    assert names(part(lock, "helper")) == ["deep", "helper"]
    assert names(part(lock, "apart")) == ["apart"]


def test_an_entry_keeps_its_marker_and_all_its_hashes(lock: Path) -> None:
    backend, deep, _ = read_lock(part(lock, "backend"))

    assert backend.hashes == ("b" * 64, "c" * 64)
    assert "python_full_version < '3.13'" in deep.text


def test_another_project_s_entry_changes_nothing_for_the_rest(lock: Path) -> None:
    before = part(lock, "backend")
    more = f"zoo==1.0 \\\n    --hash=sha256:{'d' * 64}\n    # via -r build-requirements.in\n"
    lock.write_text(LOCK.replace("    # via helper\n", "    # via\n    #   helper\n") + more)

    assert part(lock, "backend") == before


def test_what_the_lock_does_not_have_is_named_with_the_nearest(lock: Path) -> None:
    with pytest.raises(FetchError, match=r"build-requirements\.txt does not pin") as caught:
        part(lock, "backed", "helper")

    assert caught.value.problems == ("backed; did you mean backend?",)


def test_a_lock_s_part_is_written_under_its_digest(tmp_path: Path, lock: Path) -> None:
    text = part(lock, "apart")

    path = write_lock(text, tmp_path)

    assert path.read_text() == text
    assert write_lock(text, tmp_path) == path
    assert write_lock(LOCK, tmp_path) != path


def test_the_locks_have_what_the_recipes_name() -> None:
    for recipe in load_recipes(WORKSPACE.recipes, WORKSPACE.patches):
        assert set(recipe.build.requires) <= set(names(build_lock(recipe.build.requires)))
        wanted = recipe.suite.requires if recipe.suite else ()
        assert {*wanted, "pytest", "pluggy"} <= set(names(suite_lock(wanted)))


def test_a_suite_does_not_get_what_another_imports() -> None:
    assert {"distro", "psutil"} & set(names(suite_lock(["distro"]))) == {"distro"}


def test_every_entry_of_the_locks_is_named_or_says_who_needs_it() -> None:
    """Without that, what a project needs would be left out."""
    recipes = load_recipes(WORKSPACE.recipes, WORKSPACE.patches)
    named = {name for recipe in recipes for name in recipe.build.requires}
    named |= {name for recipe in recipes if recipe.suite for name in recipe.suite.requires}
    for lock in (BUILD_REQUIREMENTS, SUITE_REQUIREMENTS):
        lines = lock.with_suffix(".in").read_text(encoding="utf-8").splitlines()
        here = {line.split("=")[0].split()[0] for line in lines if not line.startswith("#")}
        for pin in read_lock(lock.read_text(encoding="utf-8")):
            assert pin.needed_by or pin.name in named | here, pin.name


# -------------------------------------------------------------------- what was kept is compared


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Fetch into a cache, from an index that has one wheel; each call is a use."""
    content = b"a wheel"
    text = f"apart==1.0 \\\n    --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"
    asked = []

    def download(words: list[str], **_options: object) -> None:
        asked.append(words)
        directory = Path(words[words.index("--dest") + 1])
        (directory / "apart-1.0-py3-none-any.whl").write_bytes(content)

    monkeypatch.setattr(process, "run", download)

    def use() -> Path:
        asked.clear()
        directory = fetch_requirements(text, tmp_path / "cache")
        use.fetched = bool(asked)  # type: ignore[attr-defined]
        return directory

    return use


def changed(path: Path) -> None:
    path.write_bytes(b"b wheel")


def added(path: Path) -> None:
    path.with_name("evil-1.0-py3-none-any.whl").write_bytes(b"x")


def doubled(path: Path) -> None:
    path.with_name("again-1.0-py3-none-any.whl").write_bytes(path.read_bytes())


def linked(path: Path) -> None:
    other = path.parents[1] / "other"
    path.rename(other)
    path.symlink_to(other)


@pytest.mark.parametrize("change", [changed, added, doubled, linked, Path.unlink])
def test_what_is_kept_is_compared_with_the_lock_at_each_use(
    kept: Callable[[], Path], change: Callable[[Path], None]
) -> None:
    (wheel,) = kept().iterdir()
    assert kept.fetched  # type: ignore[attr-defined]
    kept()
    assert not kept.fetched  # type: ignore[attr-defined]

    change(wheel)

    assert [path.read_bytes() for path in kept().iterdir()] == [b"a wheel"]
    assert kept.fetched  # type: ignore[attr-defined]
    assert not wheel.is_symlink()
