"""What puts stress programs to work: real processes, on an interpreter that is here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freewheel.proof.programs import LOAD

# The interpreter of the tests may have a GIL; what is run here takes its word for it.
START = """
import runpy, sys
sys._is_gil_enabled = lambda: {gil}
sys.argv = {words!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PROGRAM = """
import sys
from load import expect

def counts(worker):
    expect("a sum", 3, worker.random.choice([1]) + 2)
    return 1

def other(worker):
    {body}
    return 2

def prepare():
    print("prepared")

KINDS = [counts, other]
"""


def put_to_work(
    tmp_path: Path, body: str = "pass", *, gil: bool = False, kinds: str = "", more: str = ""
) -> tuple[int, str]:
    """How a program ended, and what it printed."""
    path = tmp_path / "stress.py"
    path.write_text(PROGRAM.format(body=body) + more, encoding="utf-8")
    source = START.format(gil=gil, words=[str(LOAD), str(path), "0.6"])
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "FREEWHEEL_STRESS_KINDS": kinds, "FREEWHEEL_STRESS_SEED": "7"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_all_kinds_are_done_in_all_threads_and_memory_is_measured(tmp_path: Path) -> None:
    code, said = put_to_work(tmp_path, 'worker.random.random(); assert "load" in sys.modules')

    assert code == 0, said
    assert said.startswith("seed 7\nprepared\n")
    done = {line.split()[1]: int(line.split()[0]) for line in said.splitlines()[2:4]}
    assert done.keys() == {"counts", "other"}
    assert min(done.values()) >= 4  # once in each thread
    (blocks,) = (line for line in said.splitlines() if line.startswith("blocks of memory:"))
    assert len(blocks.split()) == 3 + 12


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ('expect("a list", [1, 2, 3], [1, 2, 4])', 3, "from number 2 on\n  expected [3]"),
        ('expect("a dict", {"a": 1, "b": 2}, {"a": 1})', 3, "expected {'b': 2}\n  got      {}"),
        ('raise KeyError("nobody catches it")', 1, "KeyError: 'nobody catches it'"),
        ("sys._is_gil_enabled = lambda: True", 3, "the GIL\n  expected 'off'"),
    ],
)
def test_what_is_wrong_ends_it_with_its_code(
    tmp_path: Path, body: str, code: int, told: str
) -> None:
    ended, said = put_to_work(tmp_path, body)

    assert ended == code, said
    assert told in said


def test_memory_that_grows_from_rest_to_rest_is_a_leak(tmp_path: Path) -> None:
    more = "KEPT = []\ndef resting():\n    KEPT.extend(object() for _ in range(300))\n"

    code, said = put_to_work(tmp_path, more=more)

    assert code == 4, said
    assert "blocks of memory: " in said.splitlines()[-1]


def test_kinds_can_be_chosen(tmp_path: Path) -> None:
    code, said = put_to_work(tmp_path, "raise KeyError", kinds="counts")

    assert code == 0, said


def test_with_the_gil_it_does_not_run(tmp_path: Path) -> None:
    assert put_to_work(tmp_path, gil=True) == (77, "not run: the GIL is on\n")
