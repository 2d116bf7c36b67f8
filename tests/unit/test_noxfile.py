"""The sessions: which there are, in which order tests run, what a faulty recipe does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCREEN = 26  # lines, besides four for each project


def nox(root: Path, *words: str) -> str:
    """What nox prints for a checkout's noxfile; fails the test where nox does."""
    command = [sys.executable, "-m", "nox", "-f", str(root / "noxfile.py"), *words]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nox_alone_lints_and_runs_the_unit_tests() -> None:
    listed = json.loads(nox(ROOT, "--list", "--json"))

    assert [session["session"] for session in listed] == ["unit", "lint"]


def test_the_list_of_sessions_fits_on_one_screen() -> None:
    projects = len(list((ROOT / "recipes").glob("*.toml")))
    assert len(nox(ROOT, "--list").splitlines()) <= SCREEN + 4 * projects


@pytest.mark.parametrize("text", ["\ufeff[project]", "[project", "", "[project]\nname = 'speedy'"])
def test_a_faulty_recipe_ends_no_session(tmp_path: Path, text: str) -> None:
    shutil.copyfile(ROOT / "noxfile.py", tmp_path / "noxfile.py")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "speedy.toml").write_text(text)

    listed = nox(tmp_path, "--list")
    assert "build-speedy" in listed
    assert "doctor" in listed


def test_unit_tests_run_before_all_others(tmp_path: Path) -> None:
    """With this project's settings, on a small tree of the same shape."""
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for room in ("unit", "integration"):
        (tmp_path / "tests" / room).mkdir(parents=True)
        (tmp_path / "tests" / room / f"test_{room}.py").write_text("def test_it(): pass\n")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    rooms = [line.split("/")[1] for line in done.stdout.splitlines() if "::" in line]
    assert rooms == ["unit", "integration"]
