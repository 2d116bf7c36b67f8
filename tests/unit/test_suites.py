"""Upstream's suite: what a run's record says, and what two results differ in."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from freewheel.base.errors import ProofError
from freewheel.base.process import Ended
from freewheel.machine.interpreter import Interpreter
from freewheel.proof.suite import running
from freewheel.proof.suite.results import (
    COMPARISON,
    Case,
    Comparison,
    Ending,
    SuiteResult,
    Tally,
    compare,
    differing,
    fold,
)
from freewheel.recipe.recipe import load_recipes
from freewheel.recipe.suite import Known, Pass, Suite
from tests.unit.test_buildinfo import RECIPE, RELEASE, gather

ROOT = Path(__file__).parents[2]
PART = Pass(
    threads=1,
    thread_safe_because="",
    warm_up="",
    tests=("*",),
    needs=(),
    environment={},
    skip=(),
    failing=(),
    expects_defect=(),
)
SUITE = Suite(
    tests=PurePosixPath("tests"),
    package="",
    unprivileged=False,
    seconds=60,
    ordinary=PART,
    parallel=None,
)
WHEEL = Path("speedy-1.0-py3-none-any.whl")
HERE = Interpreter(path=Path("python3.14t"), version="3.14.7", build="b", origin="here")


def report(when: str, outcome: str, message: str = "", *, test: str = "t") -> dict[str, Any]:
    return {
        "kind": "report",
        "id": test,
        "when": when,
        "outcome": outcome,
        "message": message,
        "seconds": 1.0,
    }


def death(status: int | None, seconds: float = 1.0) -> dict[str, Any]:
    return {"kind": "death", "id": "t", "status": status, "seconds": seconds}


def result(**endings: Ending | tuple[Ending, str]) -> SuiteResult:
    cases = []
    for name, ending in endings.items():
        kind, message = ending if isinstance(ending, tuple) else (ending, "")
        cases.append(Case(id=name, ending=kind, message=message))
    return SuiteResult(
        wheel=WHEEL.name,
        wheel_sha256="1" * 64,
        python="3.14.7",
        parallel=False,
        gil="",
        cases=tuple(cases),
        left_out={},
        seconds=1.0,
    )


def compared(
    baseline: SuiteResult,
    patched: SuiteResult,
    again: Sequence[tuple[SuiteResult, SuiteResult]] = (),
    part: Pass = PART,
) -> Comparison:
    return compare(baseline, patched, again, part)


# ----------------------------------------------------------------------------- a run's record

ENDED_WELL = [report("setup", "passed"), report("call", "passed"), report("teardown", "passed")]


@pytest.mark.parametrize(
    ("lines", "ending", "message"),
    [
        (ENDED_WELL, Ending.PASSED, ""),
        ([report("setup", "failed", "no server")], Ending.ERROR, "no server"),
        (
            [report("setup", "passed"), report("call", "failed", "1 != 2")],
            Ending.FAILED,
            "1 != 2",
        ),
        ([*ENDED_WELL[:2], report("teardown", "failed", "leaks")], Ending.ERROR, "leaks"),
        (
            [report("call", "failed", "1 != 2"), report("teardown", "failed", "leaks")],
            Ending.FAILED,
            "1 != 2",
        ),
        (
            [report("setup", "skipped", "no k5test"), report("teardown", "passed")],
            Ending.SKIPPED,
            "no k5test",
        ),
        # The first part of a test with subtests failed, the others and the test itself ended well.
        ([report("call", "failed", "i=1"), *ENDED_WELL], Ending.FAILED, "i=1"),
        ([report("collect", "failed", "no module")], Ending.ERROR, "no module"),
        ([report("setup", "passed"), death(-11)], Ending.CRASHED, "SIGSEGV"),
        ([report("setup", "passed"), death(-6)], Ending.CRASHED, "SIGABRT"),
        ([death(1, seconds=60.1)], Ending.TIMED_OUT, "no end after 60 s"),
        ([death(1, seconds=3)], Ending.CRASHED, "the process exited with 1"),
        ([death(3, seconds=61)], Ending.CRASHED, "the process exited with 3"),
        ([death(None)], Ending.CRASHED, "the process exited with None"),
    ],
)
def test_the_stages_of_a_test_make_one_case(
    lines: list[dict[str, Any]], ending: Ending, message: str
) -> None:
    (case,) = fold(lines, seconds=60)

    assert (case.id, case.ending, case.message) == ("t", ending, message)


def test_an_expected_failure_is_no_pass() -> None:
    (case,) = fold([report("call", "skipped", "later") | {"expected": True}], seconds=60)

    assert (case.ending, case.message) == (Ending.SKIPPED, "expected failure: later")


def test_times_add_up_and_a_death_covers_what_was_before() -> None:
    (well,) = fold(ENDED_WELL, seconds=60)
    (dead,) = fold([report("setup", "passed"), death(-11, seconds=5)], seconds=60)

    assert (well.seconds, dead.seconds) == (3.0, 5.0)


def test_the_number_of_threads_is_kept_for_a_test_that_died() -> None:
    (case,) = fold([report("setup", "passed") | {"threads": 8}, death(-11)], seconds=60)

    assert case.threads == 8


def test_half_a_line_at_the_end_of_a_record_is_left_out(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    record.write_text(json.dumps(death(-9)) + '\n{"kind": "rep')

    assert running._read_record(record) == [death(-9)]
    assert running._read_record(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    "text", ["[1]\n", "{}\n", '{"kind": 1}\n', "[" * 100_000 + "\n", "?\n", "\udcff"]
)
def test_what_a_test_wrote_in_the_records_place_is_an_error(tmp_path: Path, text: str) -> None:
    record = tmp_path / "record.jsonl"
    record.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(ProofError, match="cannot be read"):
        running._read_record(record)


def test_a_link_in_the_records_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"kind": "end"}\n')
    record = tmp_path / "record.jsonl"
    record.symlink_to(tmp_path / "secret")

    with pytest.raises(ProofError, match="cannot be read"):
        running._read_record(record)


def test_a_result_counts_by_ending() -> None:
    assert result(a=Ending.PASSED, b=Ending.PASSED, c=Ending.FAILED).counts() == {
        "passed": 2,
        "failed": 1,
    }


# ----------------------------------------------------------------------------- the difference

GOOD, BAD, SKIP = Ending.PASSED, Ending.FAILED, Ending.SKIPPED


def test_two_equal_results_do_not_differ() -> None:
    same = result(a=GOOD, b=BAD, c=SKIP)

    assert differing(same, same) == ()
    assert compared(same, same).errors == ()


@pytest.mark.parametrize("kind", [k for k in Ending if k.bad and k is not Ending.ABSENT])
def test_what_fails_each_time_on_the_patched_wheel_alone_is_an_error(kind: Ending) -> None:
    baseline, patched = result(a=GOOD, b=GOOD), result(a=GOOD, b=(kind, "why"))
    found = compared(baseline, patched, [(result(b=GOOD), result(b=kind))] * 3)

    (difference,) = found.newly_failing
    assert difference.id == "b"
    assert (difference.baseline_runs, difference.patched_runs) == (
        Tally(runs=4, failures=0),
        Tally(runs=4, failures=4),
    )
    assert found.errors == (f"b: {kind}, why (the baseline: passed)",)
    assert not found.flaky


def test_a_test_that_is_not_there_any_more_is_an_error() -> None:
    found = compared(result(a=GOOD, b=GOOD), result(a=GOOD))

    assert [(d.id, d.patched) for d in found.newly_failing] == [("b", Ending.ABSENT)]


def test_a_test_that_is_skipped_on_the_patched_wheel_alone_is_an_error() -> None:
    assert len(compared(result(a=GOOD), result(a=SKIP)).newly_failing) == 1


def test_the_other_way_round_it_passes_newly() -> None:
    found = compared(result(a=BAD, b=SKIP), result(a=GOOD, b=GOOD))

    assert found.newly_passing == ("a", "b")
    assert found.errors == ()


@pytest.mark.parametrize(
    ("baseline_again", "patched_again", "failures"),
    [
        ([GOOD, GOOD, GOOD], [BAD, GOOD, BAD], (0, 3)),
        ([GOOD, BAD, GOOD], [BAD, BAD, BAD], (1, 4)),
        ([GOOD, GOOD, GOOD], [GOOD, GOOD, GOOD], (0, 1)),
    ],
)
def test_what_does_not_repeat_is_flaky_and_counted(
    baseline_again: list[Ending], patched_again: list[Ending], failures: tuple[int, int]
) -> None:
    again = [
        (result(a=one), result(a=other))
        for one, other in zip(baseline_again, patched_again, strict=True)
    ]
    found = compared(result(a=GOOD), result(a=BAD), again)

    assert not found.newly_failing
    (test,) = found.flaky
    assert (test.baseline_failures, test.patched_failures) == failures


def test_what_differs_is_repeated_and_nothing_else() -> None:
    asked: list[Sequence[str]] = []

    def again(only: Sequence[str]) -> tuple[SuiteResult, SuiteResult]:
        asked.append(only)
        return result(b=GOOD), result(b=GOOD)

    found = running.settle(result(a=GOOD, b=GOOD), result(a=GOOD, b=BAD), again, PART)
    assert asked == [("b",)] * running.RERUNS
    assert [test.test for test in found.flaky] == ["b"]

    asked.clear()
    running.settle(result(a=BAD), result(a=BAD), again, PART)
    assert asked == []


def test_what_fails_on_both_has_its_reason_or_is_unexplained() -> None:
    failing = (
        Known(tests=("tests/*::test_a*",), reason="upstream's own bug"),
        Known(tests=("*test_z",), reason="never seen"),
    )
    endings: dict[str, Ending | tuple[Ending, str]] = {
        "tests/t.py::test_a1": (BAD, "boom"),
        "tests/t.py::test_b": Ending.CRASHED,
    }
    both = result(**endings)
    found = compared(both, both, part=replace(PART, failing=failing))

    assert [(f.test, f.reason, f.outcome) for f in found.failing_on_both] == [
        ("tests/t.py::test_a1", "upstream's own bug", "failed: boom"),
        ("tests/t.py::test_b", "", "crashed: "),
    ]
    assert found.unneeded == ("*test_z",)
    assert found.errors == ()


OUTDATED = Known(tests=("b",), reason="it expects the leak", message="Expected * to leak*")


@pytest.mark.parametrize(
    ("first", "second", "excused"),
    [
        ((BAD, "Expected f to leak but"), (BAD, "Expected g to leak, but"), True),
        ((BAD, "Expected f to leak but"), (BAD, "1 != 2"), False),
        ((BAD, "Expected f to leak but"), (Ending.CRASHED, "SIGSEGV"), False),
        ((Ending.CRASHED, "SIGSEGV"), (Ending.CRASHED, "SIGSEGV"), False),
        ((Ending.ERROR, "Expected f to leak"), (Ending.ERROR, "Expected f to leak"), False),
    ],
)
def test_a_test_that_expects_a_defect_may_fail_in_the_words_of_the_recipe_and_no_others(
    first: tuple[Ending, str], second: tuple[Ending, str], *, excused: bool
) -> None:
    found = compared(
        result(a=GOOD, b=GOOD),
        result(a=GOOD, b=first),
        [(result(b=GOOD), result(b=second))],
        replace(PART, expects_defect=(OUTDATED,)),
    )

    assert [test.test for test in found.outdated] == (["b"] if excused else [])
    assert [test.id for test in found.newly_failing] == ([] if excused else ["b"])
    assert found.unneeded == (() if excused else ("b",))
    assert bool(found.errors) is not excused


def test_skips_and_what_is_left_out_are_counted_by_reason() -> None:
    patched = result(a=(SKIP, "no k5test"), b=(SKIP, "no k5test"), c=(SKIP, "Windows"), d=GOOD)
    patched = replace(patched, left_out={"e": "slow", "f": "slow"})
    found = compared(patched, patched)

    assert found.skipped == {"no k5test": 2, "Windows": 1}
    assert found.left_out == {"slow": 2}


def test_tests_in_several_threads_are_counted() -> None:
    patched = result(a=GOOD, b=GOOD)
    patched = replace(
        patched, cases=(replace(patched.cases[0], threads=8), patched.cases[1]), parallel=True
    )

    assert compared(patched, patched).in_parallel == 1


def test_a_patched_wheel_that_turns_the_gil_on_has_not_stood_it() -> None:
    one = result(a=GOOD)
    assert compared(replace(one, gil="speedy.fast"), one).errors == ()
    assert compared(one, replace(one, gil="speedy.fast")).errors == (
        "speedy.fast turned the GIL on",
    )


def test_a_comparison_survives_json() -> None:
    leaks = (BAD, "Expected f to leak")
    baseline = result(a=GOOD, b=BAD, c=GOOD, d=BAD, e=SKIP, f=GOOD)
    patched = result(a=BAD, b=GOOD, c=BAD, d=Ending.TIMED_OUT, e=SKIP, f=leaks)
    again = [(result(a=GOOD, b=BAD, c=GOOD, f=GOOD), result(a=BAD, b=GOOD, c=GOOD, f=leaks))]
    part = replace(PART, expects_defect=(OUTDATED.model_copy(update={"tests": ("f",)}),))
    found = compared(baseline, patched, again, part)

    assert found.newly_failing
    assert found.newly_passing
    assert found.flaky
    assert found.failing_on_both
    assert found.outdated
    assert COMPARISON.validate_json(COMPARISON.dump_json(found)) == found


# ----------------------------------------------------------------------------- a run's validity


def end(status: int) -> dict[str, Any]:
    return {"kind": "end", "status": status}


ENDED = Ended(returncode=0, said="what pytest said", seconds=1.0)


@pytest.mark.parametrize("status", [0, 1])
def test_a_run_that_came_to_its_end_is_taken(status: int) -> None:
    running._check_end(WHEEL, [end(status)], ENDED, only=())


@pytest.mark.parametrize(
    ("lines", "ended", "problem"),
    [
        ([], replace(ENDED, returncode=4), "pytest exited with 4"),
        ([end(2)], replace(ENDED, returncode=2), "pytest exited with 2"),
        ([end(5)], replace(ENDED, returncode=5), "pytest exited with 5"),
        (ENDED_WELL, replace(ENDED, returncode=None, seconds=1800.0), "no end after 1800 s"),
    ],
)
def test_a_run_that_did_not_come_to_its_end_proves_nothing(
    lines: list[dict[str, Any]], ended: Ended, problem: str
) -> None:
    with pytest.raises(ProofError, match="did not come to its end") as caught:
        running._check_end(WHEEL, lines, ended, only=())
    assert problem in caught.value.problems
    assert caught.value.output == "what pytest said"


def test_a_repetition_may_find_no_test() -> None:
    running._check_end(WHEEL, [end(5)], ENDED, only=["t"])


def gil_warning(module: str) -> dict[str, Any]:
    said = f"The global interpreter lock (GIL) has been enabled to load module '{module}', which"
    return {"kind": "gil", "message": said}


ON = report("call", "passed") | {"gil": True}


def test_a_module_of_the_project_that_turns_the_gil_on_is_a_finding() -> None:
    assert running._gil_culprit(WHEEL, [report("call", "passed")], "speedy") == ""
    found = running._gil_culprit(WHEEL, [gil_warning("speedy.fast"), ON], "speedy")
    assert found == "speedy.fast"


@pytest.mark.parametrize("modules", [["psutil._ps"], ["speedy.fast", "psutil"], ["speedyish"], []])
def test_anything_else_that_turns_the_gil_on_ends_the_proof(modules: list[str]) -> None:
    lines = [*map(gil_warning, modules), ON]

    with pytest.raises(ProofError, match="GIL was turned on") as caught:
        running._gil_culprit(WHEEL, lines, "speedy")
    assert (", ".join(sorted(modules)) or "unknown") in caught.value.problems[0]
    assert "seen in t" in caught.value.problems


def test_the_project_must_come_out_of_the_wheel(tmp_path: Path) -> None:
    inside = report("call", "passed") | {"file": str(tmp_path / "env/lib/speedy/__init__.py")}
    outside = report("call", "passed") | {"file": str(tmp_path / "run/speedy/__init__.py")}
    neither = report("call", "passed") | {"file": None}

    running._check_origin(WHEEL, [neither, inside], tmp_path / "env", only=())
    running._check_origin(WHEEL, [neither], tmp_path / "env", only=["t"])
    with pytest.raises(ProofError, match=r"(?s)did not test.*run/speedy"):
        running._check_origin(WHEEL, [inside, outside], tmp_path / "env", only=["t"])
    with pytest.raises(ProofError, match="nothing imported it"):
        running._check_origin(WHEEL, [neither], tmp_path / "env", only=())


def test_upstreams_own_tests_take_the_place_of_those_in_the_wheel(tmp_path: Path) -> None:
    tests, installed, cache = (tmp_path / name for name in ("tests", "installed", "cache"))
    write_tree(tests, {"test_a.py": "upstream's", "sub/test_b.py": "b", "fast.c": "no Python"})
    write_tree(installed, {"test_new.py": "a patch's", "fast.so": "compiled"})
    write_tree(cache, {"test_a.py": "a patch's"})
    (installed / "test_a.py").hardlink_to(cache / "test_a.py")

    running.put_back(tests, installed)
    assert read_tree(installed) == {
        "test_a.py": "upstream's",
        "sub/test_b.py": "b",
        "fast.so": "compiled",
    }
    assert read_tree(cache) == {"test_a.py": "a patch's"}


def write_tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def read_tree(root: Path) -> dict[str, str]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


# ----------------------------------------------------------------------------- what is run


def test_a_recipe_that_says_nothing_of_a_suite_is_named() -> None:
    with pytest.raises(ProofError, match="does not say how to run"):
        running.chosen_pass(RECIPE, RELEASE, HERE, parallel=False)
    with pytest.raises(ProofError, match="no part of speedy's suite runs in parallel"):
        running.chosen_pass(replace(RECIPE, suite=SUITE), RELEASE, HERE, parallel=True)


def test_the_digest_follows_what_a_result_depends_on_and_no_reason_for_a_failure() -> None:
    def digest(suite: Suite) -> str:
        return running.suite_digest(replace(RECIPE, suite=suite), RELEASE, HERE, parallel=False)

    known = Known(tests=("*",), reason="because it is so")
    assert digest(SUITE) == digest(replace(SUITE, ordinary=replace(PART, failing=(known,))))
    assert digest(SUITE) != digest(replace(SUITE, ordinary=replace(PART, skip=(known,))))
    assert digest(SUITE) != digest(replace(SUITE, seconds=61))


def test_no_wheel_is_built_again_for_what_its_recipe_says_of_the_suite() -> None:
    assert gather(replace(RECIPE, suite=SUITE)) == gather()


def test_every_recipe_of_this_checkout_has_tests_in_each_pass_of_its_suite() -> None:
    for recipe in load_recipes(ROOT / "recipes", ROOT / "patches"):
        if recipe.name == "psycopg":  # its sdist has no tests
            assert recipe.suite is None
            continue
        assert recipe.suite is not None
        for release in recipe.releases:
            for parallel in (False, True) if recipe.suite.parallel else (False,):
                assert running.chosen_pass(recipe, release, HERE, parallel=parallel).tests
