"""The comparison with the default build: what is measured in turn, and what is made of it."""

import sys
from pathlib import Path

import pytest

from freewheel.machine.interpreter import Interpreter
from freewheel.proof.running import Environment
from tests.benchmarks import default_build
from tests.unit.proofmaker import make_benchmark

PROGRAM = """\
import pathlib, time, sys

def case():
    with open(__file__ + ".order", "a") as file:
        file.write(pathlib.Path(sys.executable).parents[1].name + "\\n")
    while True:
        time.sleep(0.001)
        yield {"default-baseline": 10, "default-patched": 20}.get(
            pathlib.Path(sys.executable).parents[1].name, 5)
"""


def test_each_case_is_measured_in_turn_and_told_by_the_unpatched_default_build(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bench.py"
    path.write_text(PROGRAM)
    benchmark = make_benchmark(path, "case")
    here = Interpreter(path=Path(sys.executable), version="3", build="3", origin="here")
    names = ("default-baseline", "default-patched", "free-patched")
    environments = {}
    for contender, name in zip(default_build.CONTENDERS, names, strict=True):
        python = tmp_path / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        # Its own name for itself is all that tells them apart.
        python.write_text(f'#!/bin/bash\nexec -a "$0" {sys.executable} "$@"\n')
        python.chmod(0o755)
        environments[contender] = Environment(python=python, wheel_sha256="0", interpreter=here)

    (figure,) = default_build.measure(
        benchmark, environments, tmp_path, rounds=2, seconds=0.2, services={}
    )

    assert (figure.case, figure.title, figure.rounds) == ("case", "what it does", 2)
    assert figure.patched.median == pytest.approx(2, rel=0.4)
    assert figure.free_threaded.median == pytest.approx(0.5, rel=0.4)
    order = (tmp_path / "bench.py.order").read_text().split()
    assert order == [*names[::-1], *names]
