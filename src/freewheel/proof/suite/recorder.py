"""A pytest plugin that writes down how each test ended, as it ends.

It stands alone, for it runs in the interpreter that a wheel is tested with: in pytest-xdist's
controller, and in its worker, the process which runs the tests and may die of one. Each line of the
record is a JSON object with a ``kind``. A file of results that pytest writes at its end, such as
JUnit's, would be lost with a run that does not come to its end, and names neither the signal that
ended a worker nor the state of the GIL.

What to do stands in ``settings.json`` in the current directory: the ``module`` to watch; ``only``,
the identifiers to run where not all; ``chosen`` and ``skip``, patterns of identifiers; in how many
``threads`` each test runs at once; whether they are ``thread_safe`` even where pytest-run-parallel
would run one in a single thread; and ``warm_up``, the function that each thread calls first.
"""

import contextlib
import fnmatch
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import unittest
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

_GIL = "global interpreter lock"  # of CPython's warning that a module turned it on
_MESSAGE = 300  # characters that are kept of a message
_DYING = 0.5  # seconds for joined threads to be gone
_DEATH = 10.0  # seconds for a worker whose pipe is closed to be gone


_gil_is_on: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)


def pytest_configure(config: pytest.Config) -> None:
    """Both sides write to the same file: each line in one write, to its end."""
    settings = json.loads(Path("settings.json").read_text(encoding="utf-8"))
    here = _Worker if hasattr(config, "workerinput") else _Controller
    config.pluginmanager.register(here(settings), "freewheel-recorder")


class _Side:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def write(self, kind: str, **facts: str | float | bool | None) -> None:
        line = json.dumps({"kind": kind, **facts}) + "\n"
        file = os.open("record.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)


class _Controller(_Side):
    """Hears of every report, and of every worker's death."""

    started = 0.0  # when the test that runs now was started

    def pytest_runtest_logstart(self) -> None:
        self.started = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # pytest-xdist's own word, for a test that its worker did not survive.
        if str(report.when) == "???":
            seconds = time.monotonic() - self.started
            status = self._status(vars(report)["node"])
            self.write("death", id=report.nodeid, status=status, seconds=seconds)
            _stop_servers()
        else:
            self._write_report(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write_report(report)

    def _write_report(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        self.write(
            "report",
            id=report.nodeid,
            when=getattr(report, "when", "collect"),
            outcome=report.outcome,
            expected=hasattr(report, "wasxfail"),
            message=message(report),
            seconds=getattr(report, "duration", 0.0),
            **getattr(report, "freewheel", {}),
        )

    @staticmethod
    def _status(node: Any) -> int | None:  # noqa: ANN401  pytest-xdist has no types
        """What the worker ended with: the negative number of a signal, or an exit code."""
        worker = node.gateway._io.popen  # noqa: SLF001  execnet hides it
        deadline = time.monotonic() + _DEATH
        while worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        status: int | None = worker.poll()
        return status

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        text = str(warning_message.message)
        if _GIL in text:
            self.write("gil", message=text)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.write("end", status=int(exitstatus))


class _Worker(_Side):
    """Chooses the tests, and adds to each report what only this process knows."""

    tasks = 0  # the threads that live on from one test to the next

    def pytest_collection(self) -> None:
        """Take pytest's own objects out of sight of the collector.

        They are more than a suite's. One that looks at all objects after each of its tests, to see
        whether they leak, would spend most of its time on these.
        """
        gc.collect()
        gc.freeze()
        self.tasks = _tasks()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        kept: list[pytest.Item] = []
        dropped: list[pytest.Item] = []
        for item in items:
            (kept if self._wanted(item.nodeid) else dropped).append(item)
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
        if self.settings["threads"] > 1:
            threads: Any = config.pluginmanager.get_plugin("_run-parallel")
            for item in kept:
                # What the plugin holds for unsafe it will run in one thread, as it is.
                if self.settings["thread_safe"] or not threads._is_thread_unsafe(item)[0]:  # noqa: SLF001
                    _set_apart(item, self.settings)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        self.tasks = _wait_for_ends(self.tasks)
        return (yield)

    def _wanted(self, name: str) -> bool:
        only = self.settings["only"]
        # A module that could not be imported goes by its own name, for all of its tests.
        if only and not {name, name.partition("::")[0]} & set(only):
            return False
        for pattern in self.settings["skip"]:
            if fnmatch.fnmatchcase(name, pattern):
                self.write("left out", id=name, pattern=pattern)
                return False
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.settings["chosen"])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        threads: Any = item.config.pluginmanager.get_plugin("_run-parallel")
        module = sys.modules.get(self.settings["module"])
        # What is an attribute of a report reaches the controller with it.
        vars(report)["freewheel"] = {
            "threads": threads.run_in_parallel.get(item.nodeid, 1),
            "gil": _gil_is_on(),
            "file": getattr(module, "__file__", None),
        }
        return report


class _Raised(unittest.TestResult):
    """Keeps the first exception itself; unittest keeps only the text of its traceback."""

    first: BaseException | None = None

    def addError(self, test: Any, err: Any) -> None:  # noqa: ANN401, N802  as unittest has it
        super().addError(test, err)
        self.first = self.first or err[1]

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: ANN401, N802
        super().addFailure(test, err)
        self.first = self.first or err[1]

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: ANN401, N802
        super().addSubTest(test, subtest, err)
        self.first = self.first or (err and err[1])


def _set_apart(item: Any, settings: dict[str, Any]) -> None:  # noqa: ANN401  items differ
    """Let each thread of pytest-run-parallel make a test case of its own, with its own set-up.

    As it is, the plugin sets one instance up and calls its test method in all threads: they would
    share what applications do not, such as a connection or an event loop.
    """
    kind, name = item.cls, item.name
    if not (isinstance(kind, type) and issubclass(kind, unittest.TestCase)):
        return

    together = threading.Barrier(settings["threads"])
    module, _, function = settings["warm_up"].rpartition(".")

    def whole() -> None:
        if module:
            getattr(importlib.import_module(module), function)()
            together.wait()
        # What the class sets up, it sets on itself.
        own = type(kind.__name__, (kind,), {"__module__": kind.__module__})
        result = _Raised()
        unittest.TestSuite([own(name)]).run(result)
        # A thread that ends while others still are at it may leave work to the main thread, which
        # waits for all of them; and a test that waits until that is done waits in vain.
        together.wait()
        if result.first:
            raise result.first
        for _, reason in result.skipped:
            raise unittest.SkipTest(reason)

    item.obj = whole
    item.instance.setUp = item.instance.tearDown = lambda: None


def _tasks() -> int:
    """The number of the process's threads as the system counts them; 0 where it does not say."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 0


def _wait_for_ends(tasks: int) -> int:
    """Wait until the threads of the test before are gone, so that there are ``tasks`` again.

    A thread that was joined has still to be taken down, and what a project does then it may leave
    to the main thread: which does nothing once it waits for the threads of the next test. Returns
    how many there are now; a test may have left some for good.
    """
    patience = time.monotonic() + _DYING
    while _tasks() > tasks and time.monotonic() < patience:
        time.sleep(0.001)
    return _tasks()


def _stop_servers() -> None:
    """Stop the PostgreSQL servers that a worker had started and, dying, could not stop."""
    for file in Path(tempfile.gettempdir()).glob("*/postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(int(file.read_text().split()[0]), signal.SIGINT)


def message(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What went wrong, in one line: the exception's, where there is one."""
    long = report.longrepr
    if isinstance(long, tuple):  # of a skip: where and why
        return _short(str(long[2]).removeprefix("Skipped: "))
    if reason := getattr(report, "wasxfail", ""):
        return _short(str(reason))
    crash = getattr(long, "reprcrash", None)
    return _short(crash.message if crash else str(long or ""))


def _short(text: str) -> str:
    """The first line that says something; of a traceback, the first that pytest marks with E."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line.removeprefix("E ").strip() for line in lines if line.startswith("E ")]
    return (marked or lines or [""])[0][:_MESSAGE]
