"""Upstream's suite, run for real: tests that crash, hang, meet in threads, or pass by chance."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from freewheel.base.workspace import Workspace, find_workspace
from freewheel.machine.interpreter import Interpreter, find_interpreter
from freewheel.machine.jail import Jail, running_jail
from freewheel.proof.suite import running
from freewheel.proof.suite.results import Ending, SuiteResult
from freewheel.proof.suite.running import Wheels, prove_suite, run_suite
from freewheel.recipe.building import Build, Place
from freewheel.recipe.recipe import Recipe, Release
from freewheel.recipe.suite import Known, Pass, Suite
from freewheel.recipe.targets import Targets
from tests.integration.conftest import ROOT
from tests.unit.wheelmaker import ANY_TAG, make_wheel

pytestmark = pytest.mark.integration

# What it says of itself in the source tree must never be what is tested.
IN_THE_TREE = 'raise RuntimeError("the source tree was imported, not the wheel")\n'
ORDINARY = """\
import ctypes, getpass, os, threading, time, unittest
import speedy

class Endings(unittest.TestCase):
    def test_crash(self): ctypes.string_at(0)
    def test_exit(self): os._exit(3)
    def test_fail(self): self.assertEqual(speedy.__version__, "another")
    def test_hang(self): threading.Event().wait()
    def test_hang_in_c(self): ctypes.PyDLL(None).pause()  # no thread can run Python any more
    def test_pass(self): self.assertEqual(speedy.__version__, os.environ["SPEEDY_VERSION"])
    def test_skip(self): self.skipTest("for a reason")
    def test_user(self): self.assertNotEqual(os.getuid(), 0)
    def test_writes(self):
        for name in ("HOME", "TMPDIR"):
            with open(os.environ[name] + "/file", "w"): pass
    def test_zleft(self): self.fail("is not run")

class NoClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise OSError("no server")
    def test_error(self): pass
"""
PARALLEL = """\
import threading, unittest
from unittest import mock
import speedy

THREADS = set()
TOGETHER = threading.Barrier(4)

class Apart(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.mine = []
    def setUp(self): self.own = threading.get_ident()
    def test_each_thread_sets_up_its_own(self):
        TOGETHER.wait(30)
        self.mine.append(self.own)
        self.assertEqual(self.own, threading.get_ident())
        TOGETHER.wait(30)
        self.assertEqual(self.mine, [self.own])
    def test_fails_in_one_thread(self):
        THREADS.add(self.own)
        TOGETHER.wait(30)
        self.assertNotEqual(self.own, max(THREADS), "the last of them")
    def test_patches_for_all_threads(self):
        with mock.patch.object(speedy, "__version__", "mine"):
            self.assertEqual(speedy.__version__, "mine")
"""
DIFFERENT = """\
import os, unittest
import speedy

class Different(unittest.TestCase):
    def test_both(self): self.fail("always")
    def test_broken(self): self.assertNotIn("+ft", speedy.__version__)
    def test_by_chance(self):
        if "+ft" in speedy.__version__ and not os.path.exists(os.environ["SPEEDY_STATE"]):
            open(os.environ["SPEEDY_STATE"], "w").close()
            self.fail("the first time")
    def test_expects_a_defect(self): self.assertNotIn("+ft", speedy.__version__, "it leaks no more")
    def test_mended(self): self.assertIn("+ft", speedy.__version__)
    def test_same(self): pass
"""


class Project:
    """A project of one module, with two wheels and a suite."""

    def __init__(self, root: Path, tests: str, part: Pass, *, seconds: float = 60) -> None:
        content = sdist({"speedy/__init__.py": IN_THE_TREE, "tests/test_speedy.py": tests})
        digest = hashlib.sha256(content).hexdigest()
        self.workspace = Workspace(root=root, cache=root / "cache", data=root / "data")
        self.release = Release(
            project="speedy",
            version="1.0",
            sha256=digest,
            released=datetime(2026, 1, 1, tzinfo=UTC),
            revision=1,
            patches=(),
        )
        archive = self.workspace.sources / digest / self.release.sdist_name
        archive.parent.mkdir(parents=True)
        archive.write_bytes(content)
        self.recipe = Recipe(
            path=root / "speedy.toml",
            name="speedy",
            summary="something fast",
            import_name="speedy",
            source_url="https://example.org",
            build=Build(version=(Place(file="speedy/__init__.py"),), requires=("setuptools",)),
            targets=Targets(served=("cp314t-manylinux_x86_64",)),
            releases=(self.release,),
            suite=Suite(
                tests=PurePosixPath("tests"),
                package="",
                unprivileged=True,
                seconds=seconds,
                ordinary=part,
                parallel=replace(part, threads=4),
            ),
        )
        self.baseline = make_wheel(root / "baseline", "speedy", "1.0", tag=ANY_TAG)
        self.patched = make_wheel(root / "wheels", "speedy", "1.0+ft.1", tag=ANY_TAG)

    def run(self, interpreter: Interpreter, *, parallel: bool = False) -> SuiteResult:
        return run_suite(
            self.workspace,
            self.recipe,
            self.release,
            self.patched,
            interpreter,
            parallel=parallel,
        )


def sdist(files: dict[str, str]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"speedy-1.0/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return raw.getvalue()


PART = Pass(
    threads=1,
    thread_safe_because="",
    warm_up="",
    tests=("*",),
    needs=(),
    environment={"SPEEDY_VERSION": "{version}"},
    skip=(Known(tests=("*::test_zleft",), reason="only for this test"),),
    failing=(),
    expects_defect=(),
)


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    return find_interpreter(find_workspace(ROOT))


def endings(result: SuiteResult) -> dict[str, tuple[Ending, str]]:
    return {case.id.rpartition("::")[2]: (case.ending, case.message) for case in result.cases}


def test_each_end_of_a_test_is_told_from_the_others(
    tmp_path: Path, interpreter: Interpreter
) -> None:
    result = Project(tmp_path, ORDINARY, PART, seconds=4).run(interpreter)

    assert endings(result) == {
        "test_crash": (Ending.CRASHED, "SIGSEGV"),
        "test_exit": (Ending.CRASHED, "the process exited with 3"),
        "test_fail": (Ending.FAILED, "AssertionError: '1.0+ft.1' != 'another'"),
        "test_hang": (Ending.TIMED_OUT, "no end after 4 s"),
        "test_hang_in_c": (Ending.TIMED_OUT, "no end after 4 s"),
        "test_pass": (Ending.PASSED, ""),
        "test_skip": (Ending.SKIPPED, "for a reason"),
        "test_user": (Ending.PASSED, ""),
        "test_writes": (Ending.PASSED, ""),
        "test_error": (Ending.ERROR, "OSError: no server"),
    }
    assert result.left_out == {"tests/test_speedy.py::Endings::test_zleft": "only for this test"}
    assert result.gil == ""


def test_each_thread_has_a_test_case_of_its_own(tmp_path: Path, interpreter: Interpreter) -> None:
    result = Project(tmp_path, PARALLEL, PART).run(interpreter, parallel=True)

    assert endings(result) == {
        "test_each_thread_sets_up_its_own": (Ending.PASSED, ""),
        "test_fails_in_one_thread": (Ending.FAILED, endings(result)["test_fails_in_one_thread"][1]),
        "test_patches_for_all_threads": (Ending.PASSED, ""),
    }
    assert "the last of them" in endings(result)["test_fails_in_one_thread"][1]
    threads = {case.id.rpartition("::")[2]: case.threads for case in result.cases}
    assert threads == {
        "test_each_thread_sets_up_its_own": 4,
        "test_fails_in_one_thread": 4,
        "test_patches_for_all_threads": 1,
    }


def test_what_differs_is_repeated_on_both_wheels(
    tmp_path: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    tmp_path.chmod(0o755)

    def leaky(
        *, readable: Sequence[Path], writable: Sequence[Path]
    ) -> AbstractContextManager[Jail]:
        """Runs have nothing in common; this test needs one that knows of another."""
        return running_jail(readable=readable, writable=[*writable, shared])

    monkeypatch.setattr(running, "running_jail", leaky)
    part = replace(
        PART,
        environment={"SPEEDY_STATE": str(shared / "seen")},
        failing=(Known(tests=("*::test_both",), reason="it always does"),),
        expects_defect=(
            Known(
                tests=("*::test_expects_a_defect",),
                reason="expects the leak",
                message="*it leaks no more",
            ),
        ),
    )
    project = Project(tmp_path, DIFFERENT, part)
    wheels = Wheels(baseline=project.baseline, patched=project.patched, interpreter=interpreter)

    found = prove_suite(project.workspace, project.recipe, project.release, wheels, parallel=False)

    def names(*tests: str) -> list[str]:
        return [f"tests/test_speedy.py::Different::{test}" for test in tests]

    assert [test.id for test in found.newly_failing] == names("test_broken")
    assert list(found.newly_passing) == names("test_mended")
    assert [test.test for test in found.outdated] == names("test_expects_a_defect")
    assert [test.test for test in found.failing_on_both] == names("test_both")
    assert found.failing_on_both[0].reason == "it always does"
    (flaky,) = found.flaky
    assert (flaky.baseline_failures, flaky.patched_failures) == (0, 1)
    assert flaky.patched_runs == 4
    assert len(found.errors) == 1
