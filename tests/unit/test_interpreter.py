"""Which interpreters will do, judged by what they answer."""

import os
import sys
from pathlib import Path

import pytest

from freewheel.base.errors import MachineError
from freewheel.base.files import PARTIAL
from freewheel.base.workspace import Workspace
from freewheel.machine.interpreter import check, find_interpreter, runtime_packages, unfit
from freewheel.recipe.pythons import DEFAULT, Python

GOOD: dict[str, object] = {
    "version": "3.14.7",
    "build": "3.14.7 free-threading build (main, Nov 1 2026) [GCC 12.2.0]",
    "minor": [3, 14],
    "implementation": "cpython",
    "free_threaded": True,
    "gil": False,
    "failed": {},
}
CP315T = Python("cp315t")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """No interpreter anywhere: nothing on PATH, an empty cache, nothing named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("freewheel.machine.interpreter.uv_program", lambda: None)
    monkeypatch.delenv("FREEWHEEL_PYTHON", raising=False)
    return Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")


def pretend_interpreter(path: Path, **changes: object) -> Path:
    """A program that answers as a good interpreter does, but for the changes."""
    answers = (
        repr({**GOOD, **changes})
        .replace("'", '"')
        .replace("True", "true")
        .replace("False", "false")
    )
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho '{answers}'\n")
    path.chmod(0o755)
    return path


def test_a_good_interpreter_is_fit() -> None:
    assert unfit(GOOD, DEFAULT) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"minor": [3, 13], "version": "3.13.9"}, "not CPython 3.14"),
        ({"implementation": "pypy"}, "not CPython 3.14"),
        ({"free_threaded": False, "gil": True}, "not a free-threaded build"),
        ({"gil": True}, "GIL on"),
        ({"failed": {"ssl": "no libssl.so.3"}}, "cannot use ssl: no libssl.so.3"),
    ],
)
def test_every_fault_is_named(changes: dict[str, object], reason: str) -> None:
    reasons = unfit({**GOOD, **changes}, DEFAULT)

    assert len(reasons) == 1
    assert reason in reasons[0]


def test_all_faults_are_named_at_once() -> None:
    wrong = {**GOOD, "minor": [3, 13], "gil": True, "failed": {"lzma": "x"}}

    assert len(unfit(wrong, DEFAULT)) == 3


def test_it_is_fit_for_the_wheels_of_its_own_version_alone() -> None:
    newer = {**GOOD, "version": "3.15.0rc2", "minor": [3, 15]}

    assert unfit(newer, CP315T) == []
    assert unfit(newer, DEFAULT) == ["is cpython 3.15.0rc2, not CPython 3.14"]
    assert unfit(GOOD, CP315T) == ["is cpython 3.14.7, not CPython 3.15"]
    assert unfit({**GOOD, "free_threaded": False, "gil": True}, DEFAULT.with_gil) == []


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 14) and not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="the tests run on the very interpreter that is looked for",
)
def test_an_interpreter_of_another_kind_is_refused_by_running_it() -> None:
    problems: list[str] = []

    assert check(Path(sys.executable), DEFAULT, "here", problems) is None
    assert len(problems) == 1
    assert "free-threaded" in problems[0] or "not CPython 3.14" in problems[0]


def test_a_program_that_is_no_interpreter_is_refused() -> None:
    problems: list[str] = []

    assert check(Path("/bin/true"), DEFAULT, "here", problems) is None
    assert "does not run" in problems[0]


def test_a_named_interpreter_must_be_good(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEWHEEL_PYTHON", "/nowhere/python")

    with pytest.raises(MachineError, match="FREEWHEEL_PYTHON"):
        find_interpreter(workspace)


def test_of_several_named_interpreters_the_one_of_the_version_is_taken(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = pretend_interpreter(workspace.root / "a/python3.14t")
    newer = pretend_interpreter(workspace.root / "b/python3.15t", version="3.15.0", minor=[3, 15])
    monkeypatch.setenv("FREEWHEEL_PYTHON", f"{older}{os.pathsep}{newer}")

    assert find_interpreter(workspace).path == older
    assert find_interpreter(workspace, CP315T).path == newer
    with pytest.raises(MachineError, match="no interpreter to test cp316t wheels") as error:
        find_interpreter(workspace, Python("cp316t"))
    assert len(error.value.problems) == 2


def test_without_any_interpreter_the_error_says_what_to_do(workspace: Workspace) -> None:
    with pytest.raises(MachineError, match=r"uv python install 3\.14t"):
        find_interpreter(workspace, obtain=False)


def test_one_kept_in_the_cache_is_found(workspace: Workspace) -> None:
    kept = pretend_interpreter(workspace.cache / "interpreters/image-1/bin/python3.14t")

    found = find_interpreter(workspace, obtain=False)

    assert (found.path, found.version, found.origin) == (kept, "3.14.7", "cache")


def test_of_two_kept_in_the_cache_each_is_found_for_its_own_wheels(workspace: Workspace) -> None:
    older = pretend_interpreter(workspace.cache / "interpreters/image-1/bin/python3.14t")
    newer = pretend_interpreter(
        workspace.cache / "interpreters/image-2/bin/python3.15t", version="3.15.0", minor=[3, 15]
    )

    assert find_interpreter(workspace, DEFAULT, obtain=False).path == older
    assert find_interpreter(workspace, CP315T, obtain=False).path == newer


def test_one_that_is_still_being_copied_is_not_used(workspace: Workspace) -> None:
    pretend_interpreter(workspace.cache / f"interpreters/image-1{PARTIAL}/bin/python3.14t")

    with pytest.raises(MachineError):
        find_interpreter(workspace, obtain=False)


def test_the_libraries_of_a_copied_interpreter_are_known_by_name() -> None:
    installed = ("bash", "libffi-dev", "libffi8", "libssl-dev", "libssl3", "libzstd1", "zlib1g-dev")

    assert runtime_packages(installed) == ("libffi8", "libssl3", "libzstd1")
