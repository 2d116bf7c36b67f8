"""Rates of benchmarks: measured by real processes, and what is made of them."""

import sys
from pathlib import Path

import pytest

from freewheel.base.errors import ProofError
from freewheel.machine.interpreter import Interpreter
from freewheel.proof.form import Figure
from freewheel.proof.programs import Benchmark
from freewheel.proof.running import Environment
from freewheel.proof.speed import scaling
from tests.unit.proofmaker import make_benchmark

PROGRAM = """\
import sys, time

def steady():
    while True:
        time.sleep(0.001)
        yield 1

def cleaned():
    try:
        while True:
            time.sleep(0.001)
            yield 1
    finally:
        print("cleaned up")
        with open(__file__ + ".cleaned", "a") as file:
            file.write("x")

def broken():
    yield 1
    raise ValueError("no more")

def mortal(name=__file__ + ".died"):
    # Like a baseline with a defect: the second measurement is its first.
    with open(name, "a+") as file:
        file.write("x")
    if len(open(name).read()) == 2:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    yield from steady()

def endless():
    yield 1
    while True:
        time.sleep(1)
"""


def make(tmp_path: Path, case: str, seconds: float = 20) -> Benchmark:
    path = tmp_path / "bench.py"
    path.write_text(PROGRAM)
    return make_benchmark(path, case, seconds=seconds)


def measure(tmp_path: Path, case: str, seconds: float = 20) -> Figure:
    here = Interpreter(path=Path(sys.executable), version="3", build="3", origin="here")
    environment = Environment(python=Path(sys.executable), wheel_sha256="0", interpreter=here)
    (figure,) = (
        figure
        for figure in scaling.measure(
            make(tmp_path, case, seconds),
            {"baseline": environment, "patched": environment},
            tmp_path,
            rounds=2,
            seconds=0.2,
            services={},
        )
        if figure.workers == 2
    )
    return figure


def test_what_threads_lose_to_processes_is_in_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {"1 thread": 500.0, "2 threads": 400.0, "2 processes": 1000.0}
    monkeypatch.setattr(scaling, "rate_of", lambda *args, **_: rates[args[2].name])

    figure = measure(tmp_path, "shared")

    assert (figure.case, figure.title, figure.rounds) == ("shared", "what it does", 2)
    assert (figure.one.median, figure.several.median) == (1.0, 1.0)
    assert figure.patched_scaling.median == figure.baseline_scaling.median == 0.4
    for taken in figure.rates.values():
        assert list(taken) == list(rates)


def test_figures_are_kept_as_they_are(tmp_path: Path) -> None:
    figure = measure(tmp_path, "steady")

    assert figure.one.lowest <= figure.one.median <= figure.one.highest
    assert scaling.FIGURES.validate_json(scaling.FIGURES.dump_json([figure])) == [figure]


def test_a_case_cleans_up(tmp_path: Path) -> None:
    figure = measure(tmp_path, "cleaned")

    # Two rounds of both wheels, of 1 thread, 2 threads and 2 processes.
    assert len((tmp_path / "bench.py.cleaned").read_text()) == 2 * 2 * (1 + 2 + 2)
    assert figure.rates["patched"]["2 processes"] > 0  # whatever else was printed


def test_a_baseline_that_dies_is_measured_again_and_that_is_told(tmp_path: Path) -> None:
    figure = measure(tmp_path, "mortal")

    assert figure.failed == 1
    assert figure.rates["baseline"]["1 thread"] > 0


@pytest.mark.parametrize(
    ("case", "seconds", "reason"),
    [("broken", 20, "ended with 1"), ("endless", 1, "took too long"), ("absent", 20, "ended with")],
)
def test_a_case_that_fails_is_an_error_with_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, seconds: float, reason: str
) -> None:
    monkeypatch.setattr(scaling, "_PATIENCE", 1.0)
    with pytest.raises(ProofError, match=f"demo/bench.py {case}, 1 thread: {reason}") as error:
        measure(tmp_path, case, seconds)

    if reason == "ended with 1":
        assert "no more" in error.value.output
