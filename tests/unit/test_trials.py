"""Runs that are made, kept and made again: real programs, on an interpreter that is here."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from freewheel.base.console import Board
from freewheel.build.check import BaselineWheel
from freewheel.build.patches import Patch
from freewheel.machine.interpreter import Interpreter
from freewheel.proof import control
from freewheel.proof.cases import Case, WheelName
from freewheel.proof.control import Verdict
from freewheel.proof.programs import Programs
from freewheel.proof.result_cache import ResultCache
from freewheel.proof.running import Environment
from freewheel.proof.speed.scaling import WHEELS
from freewheel.proof.trials import Look, Trials, try_programs
from tests.unit.proofmaker import make_probe
from tests.unit.sbommaker import RECIPE, RELEASE, TARGET
from tests.unit.wheelmaker import as_verified, make_wheel

HERE = Interpreter(
    path=Path(sys.executable), version=platform.python_version(), build=sys.version, origin="here"
)
# It fails on the baseline, and on the patched wheel in the runs that are named, of which it counts
# all in a file.
COUNTING = """
import os, sys
from pathlib import Path
if "baseline" in sys.executable:
    sys.exit(3)
with Path("runs").open("a") as file:
    file.write("x")
number = Path("runs").stat().st_size
sys.exit(3 if {fails} else 0)
"""


def trials(tmp_path: Path, source: str, *, look: Look = "kept", quick: bool = True) -> Trials:
    """The trials of a case with one probe, whose wheels are told by their interpreters' paths."""
    probe = replace(make_probe(tmp_path / "probes", text=source), exclusive=True, seconds=60)
    patched = as_verified(make_wheel(tmp_path / "wheels", "demo", "1.0+ft.1"))
    patch = Patch(path=tmp_path / "0001.patch", sha256="0", fields={"X-Defect": "D1"})
    environments: dict[WheelName, Environment] = {}
    for name in WHEELS:
        python = tmp_path / name / "python"
        python.parent.mkdir(exist_ok=True)
        if not python.exists():
            python.symlink_to(sys.executable)
        environments[name] = Environment(python=python, wheel_sha256=name, interpreter=HERE)
    case = Case(
        recipe=RECIPE,
        release=RELEASE,
        target=TARGET,
        patched=patched,
        baseline=BaselineWheel(
            path=patched.path, project="demo", version="1.0", sha256="0", size=1, failures=()
        ),
        programs=Programs(probes=(probe,), stress=()),
        series=(patch,),
    )
    return Trials(
        case=case,
        environments=environments,
        services={},
        scratch=tmp_path,
        kept=ResultCache(tmp_path / "kept"),
        look=look,
        quick=quick,
        started=datetime.now(UTC),
    )


def finding(one: Trials) -> control.Finding:
    with Board() as board:
        ((_, found),) = try_programs(one, board).findings
    return found


def test_a_probe_that_failed_once_is_flaky_with_its_counts_and_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PROBES_AGAIN", 8)
    monkeypatch.setattr(control, "_CERTAINTY", 0.5)  # test_control.py has the numbers as they are
    source = COUNTING.format(fails="number == 4")

    first = finding(trials(tmp_path, source))
    runs = (tmp_path / "runs").stat().st_size
    second = finding(trials(tmp_path, source))

    for found in (first, second):
        assert found.verdict is Verdict.PROVEN
        assert (found.patched.failures, found.patched.failures_again) == (1, 0)
        assert found.patched.runs == control.QUICK_PATCHED_RUNS + control.PROBES_AGAIN
        assert found.patched.again == control.PROBES_AGAIN
        assert "flaky: the patched wheel failed in 1 of 18 runs" in found.explanation
        assert found.bound > 0.2  # 1 of 18 failed
    assert (tmp_path / "runs").stat().st_size == runs  # the second proof had them all


def test_a_probe_that_fails_in_one_of_twenty_runs_is_caught(tmp_path: Path) -> None:
    found = finding(trials(tmp_path, COUNTING.format(fails="number % 20 == 7")))

    assert found.verdict is Verdict.NOT_FIXED
    assert (found.patched.failures, found.patched.failures_again) == (2, 1)
    assert found.patched.again < control.PROBES_AGAIN  # one more failure was enough
    assert "in 1 of the 17 that were made again, alone" in found.explanation


@pytest.mark.parametrize(("look", "verdict"), [("again", "proven"), ("afresh", "proven")])
def test_a_failure_that_is_kept_counts_until_somebody_asks_to_look_again(
    tmp_path: Path, look: Look, verdict: str
) -> None:
    fails_always = COUNTING.format(fails="Path('spoilt').exists()")
    (tmp_path / "spoilt").touch()
    assert finding(trials(tmp_path, fails_always)).verdict is Verdict.NOT_FIXED
    (tmp_path / "spoilt").unlink()
    assert finding(trials(tmp_path, fails_always)).verdict is Verdict.NOT_FIXED

    assert finding(trials(tmp_path, fails_always, look=look)).verdict == verdict
    assert finding(trials(tmp_path, fails_always)).verdict == verdict


@pytest.mark.parametrize(("unclear", "verdict"), [(2, Verdict.PROVEN), (9, Verdict.NOT_RUN)])
def test_what_is_unclear_is_measured_again_and_is_no_verdict(
    tmp_path: Path, unclear: int, verdict: Verdict
) -> None:
    source = f"""
import sys
from pathlib import Path
if "baseline" in sys.executable:
    sys.exit(3)
with Path("runs").open("a") as file:
    file.write("x")
sys.exit(75 if Path("runs").stat().st_size <= {unclear} else 0)
"""
    found = finding(trials(tmp_path, source))

    assert found.verdict is verdict
    assert found.patched.runs == control.QUICK_PATCHED_RUNS
    assert found.patched.not_run == (0 if verdict is Verdict.PROVEN else 1)


def test_a_baseline_that_fails_too_rarely_to_tell_is_run_more_often(tmp_path: Path) -> None:
    source = """
import sys
from pathlib import Path
if "patched" in sys.executable:
    sys.exit(0)
with Path("runs").open("a") as file:
    file.write("x")
sys.exit(0 if Path("runs").stat().st_size == 2 else 3)
"""
    found = finding(trials(tmp_path, source))

    assert found.verdict is Verdict.PROVEN
    assert (found.baseline.runs, found.baseline.failures) == (5, 4)
    assert found.chance <= control.QUICK_CHANCE


@pytest.mark.parametrize(
    ("pythons", "exit_code", "verdict"),
    [
        (">=3.14", 0, Verdict.UNPROVEN),  # it claims the interpreter, and the baseline passes
        ("==3.15.*", 0, Verdict.MOOT),
        ("==3.15.*", 3, Verdict.PRESENT),
    ],
)
def test_requires_python_says_where_the_baseline_has_to_fail(
    tmp_path: Path, pythons: str, exit_code: int, verdict: Verdict
) -> None:
    source = f'import sys\nsys.exit({exit_code} if "baseline" in sys.executable else 0)\n'
    one = trials(tmp_path, source)
    (probe,) = one.case.programs.probes
    programs = Programs(probes=(replace(probe, pythons=SpecifierSet(pythons)),), stress=())

    with Board() as board:
        ((_, found),) = try_programs(
            replace(one, case=replace(one.case, programs=programs)), board
        ).findings

    assert found.verdict is verdict
