"""The record of a suite's run, by a real pytest on a small suite."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from freewheel.proof.suite import recorder

SUITE = """
import unittest, warnings
import pytest

def test_good():
    pass

def test_bad():
    assert 1 == 2, "one is not two"

@pytest.mark.xfail(reason="known")
def test_known():
    assert False

def test_skipped():
    pytest.skip("no server")

def test_turns_the_gil_on():
    warnings.warn(RuntimeWarning("The global interpreter lock (GIL) has been enabled to load x"))

class TestCase(unittest.TestCase):
    def test_inside(self):
        raise ValueError("inside")
"""
SETTINGS = {
    "module": "json",
    "only": [],
    "chosen": ["*"],
    "skip": {},
    "threads": 1,
    "thread_safe": False,
    "warm_up": "",
}
# pytest-run-parallel is in the environment of a wheel alone; one thread for each test is the same.
STAND_IN = """
import pytest

class Parallel:
    run_in_parallel = {}

def pytest_configure(config):
    config.pluginmanager.register(Parallel(), "_run-parallel")
    # A process without pytest-xdist is both sides: it runs the tests, and hears of their reports.
    import recorder, json
    from pathlib import Path
    settings = json.loads(Path("settings.json").read_text())
    config.pluginmanager.register(recorder._Worker(settings), "freewheel-worker")
"""


def run(directory: Path, **settings: Any) -> list[dict[str, Any]]:  # noqa: ANN401  JSON
    """What the recorder writes of ``SUITE``."""
    shutil.copyfile(recorder.__file__, directory / "recorder.py")
    (directory / "standin.py").write_text(STAND_IN)
    (directory / "test_small.py").write_text(SUITE)
    (directory / "settings.json").write_text(json.dumps(SETTINGS | settings))
    plugins = ("-p", "no:cacheprovider", "-p", "recorder", "-p", "standin")
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir=.", *plugins, "."],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(directory), "HOME": str(directory)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    lines = (directory / "record.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def calls(record: list[dict[str, Any]]) -> Mapping[str, dict[str, Any]]:
    return {
        line["id"].partition("::")[2]: line
        for line in record
        if line["kind"] == "report" and line["when"] == "call"
    }


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(tmp_path_factory.mktemp("suite"))


def test_each_test_is_recorded_as_it_ended(record: list[dict[str, Any]]) -> None:
    found = calls(record)

    assert found["test_good"]["outcome"] == "passed"
    assert found["test_bad"]["outcome"] == "failed"
    assert found["test_bad"]["message"].startswith("AssertionError: one is not two")
    assert found["TestCase::test_inside"]["message"] == "ValueError: inside"
    assert (found["test_skipped"]["outcome"], found["test_skipped"]["message"]) == (
        "skipped",
        "no server",
    )


def test_an_expected_failure_is_marked(record: list[dict[str, Any]]) -> None:
    assert calls(record)["test_known"]["expected"] is True
    assert calls(record)["test_bad"]["expected"] is False


def test_the_worker_says_where_the_module_is_and_what_the_gil_is(
    record: list[dict[str, Any]],
) -> None:
    line = calls(record)["test_good"]

    assert line["file"] == json.__file__
    assert line["gil"] is recorder._gil_is_on()
    assert line["threads"] == 1


def test_a_warning_about_the_gil_is_recorded_and_so_is_the_end(
    record: list[dict[str, Any]],
) -> None:
    (warning,) = [line for line in record if line["kind"] == "gil"]

    assert "to load x" in warning["message"]
    assert record[-1] == {"kind": "end", "status": 1}


def test_what_is_skipped_or_not_chosen_does_not_run(tmp_path: Path) -> None:
    record = run(tmp_path, skip=["*test_bad"], chosen=["*test_good", "*test_bad"])

    assert list(calls(record)) == ["test_good"]
    assert [line for line in record if line["kind"] == "left out"] == [
        {"kind": "left out", "id": "test_small.py::test_bad", "pattern": "*test_bad"}
    ]


def test_only_some_tests_run_again(tmp_path: Path) -> None:
    record = run(tmp_path, only=["test_small.py::test_good"])

    assert list(calls(record)) == ["test_good"]


def test_a_module_that_is_named_runs_whole(tmp_path: Path, record: list[dict[str, Any]]) -> None:
    assert calls(run(tmp_path, only=["test_small.py"])).keys() == calls(record).keys()
