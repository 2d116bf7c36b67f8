"""Letting stress programs work for long: real processes, on a wheel made for it."""

import platform
import sys
from pathlib import Path

import pytest

from freewheel.base.console import Board
from freewheel.base.workspace import Workspace
from freewheel.machine.interpreter import Interpreter
from freewheel.proof import soaking
from freewheel.proof.programs import Outcome
from freewheel.proof.soaking import Soaked, soak
from freewheel.recipe.pythons import DEFAULT
from tests.unit.wheelmaker import ANY_TAG, as_verified, make_wheel

HERE = Interpreter(
    path=Path(sys.executable),
    version=platform.python_version(),
    build=sys.version,
    origin="here",
)
DECLARED = """\
# /// script
# [tool.freewheel.stress]
# title = "does as it is told"
# use = "supported"
# work = { quick = 1, full = 2 }
# seconds = 60
# ///
"""


def soaked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> list[Soaked]:
    workspace = Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")
    program = workspace.probes / "speedy" / "stress.py"
    program.parent.mkdir(parents=True)
    program.write_text(DECLARED + source, encoding="utf-8")
    wheel = as_verified(make_wheel(tmp_path, "speedy", "1.0", tag=ANY_TAG))
    monkeypatch.setattr(soaking, "find_interpreter", lambda *_: HERE)
    with Board() as board:
        return soak(workspace, [(DEFAULT, wheel)], board, seconds=0.25)


def test_a_stress_program_works_on_the_wheel_for_as_long_as_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import speedy, sys\nprint(speedy.__version__, sys.argv[1:])\n"

    (found,) = soaked(tmp_path, monkeypatch, source)

    assert (found.run.outcome, found.run.said) == (Outcome.PASS, "1.0 ['0.25']\n")
    assert (found.title, found.problem) == ("speedy 1.0: stress", "")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("print('more and more')\nraise SystemExit(4)\n", "leak: more and more\n"),
        ("print('no server')\nraise SystemExit(77)\n", "not run: no server\n"),
    ],
)
def test_whatever_is_no_pass_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, problem: str
) -> None:
    (found,) = soaked(tmp_path, monkeypatch, source)

    assert found.problem == f"speedy 1.0: stress: {problem}"
