"""What a run under ThreadSanitizer comes to: its record, what it refuses, what it may leave out."""

from dataclasses import replace
from pathlib import Path

import pytest

from freewheel.base.errors import ProofError, UnprovenError
from freewheel.proof.programs import Outcome
from freewheel.proof.races.instrumented import cython_place
from freewheel.proof.races.reports import Frame, Origin, Race, Report, Stack
from freewheel.proof.races.sanitizer import RESULT as KEPT
from freewheel.proof.races.sanitizer import (
    SUPPRESSIONS,
    SanitizedRun,
    SanitizerResult,
    require_clean,
)
from freewheel.proof.races.suppressions import merge_suppressions, read_suppressions

RUN = SanitizedRun(
    program="stress", outcome=Outcome.PASS, signal="", declined=False, seconds=8.5, reports=1
)
FRAME = Frame(
    function="__pyx_f_parse", file="parser.c", line=7068, module="/e/p.so", cython="parser.pyx:300"
)
RACE = Race(
    report=Report(
        kind="data race",
        stacks=(
            Stack(what="Write of size 8 by thread T1", frames=(FRAME,)),
            Stack(what="Previous read of size 8 by main thread", frames=()),
        ),
        memory="heap block of size 88 allocated by thread T2",
    ),
    origin=Origin.PROJECT,
    seen=2,
    programs=("stress",),
)
RESULT = SanitizerResult(
    project="httptools",
    version="0.9.0+ft.1",
    baseline=False,
    python="3.14.7",
    clang="Debian clang version 22.1.8 (1~deb12u1)",
    runs=(RUN,),
    races=(),
    suppressed=(("race_top:rangeiter_next", 3),),
    broken=(),
)

C_FILE = """\
/* "parser.pyx":10
 *     before
 */
static int __pyx_f_before(void) {
  return 0;
}

static int __pyx_f_parse(void) {
  int t;

  /* "httptools/parser/parser.pyx":300
 *         if self._feeding:
 *             self.count += 1             # <<<<<<<<<<<<<<
 */
  t = 1;
  return t;
}
static void __Pyx_helper(void) {
  t = 2;
}
""".splitlines()


def test_a_result_survives_the_way_through_json() -> None:
    result = replace(RESULT, races=(RACE,), broken=("FATAL: ThreadSanitizer: x",))

    assert KEPT.validate_json(KEPT.dump_json(result)) == result


def test_a_result_without_races_is_clean() -> None:
    assert RESULT.problems == ()
    require_clean([RESULT])


@pytest.mark.parametrize("origin", [Origin.PROJECT, Origin.CALLED])
def test_a_race_of_the_project_is_an_error_that_shows_both_accesses(origin: Origin) -> None:
    result = replace(RESULT, races=(replace(RACE, origin=origin),))

    with pytest.raises(UnprovenError) as caught:
        require_clean([RESULT, result])

    (problem,) = caught.value.problems
    assert "httptools 0.9.0+ft.1: data race" in problem
    assert "__pyx_f_parse (parser.pyx:300, p.so)" in problem
    assert "Previous read of size 8 by main thread:\n      (no longer known)" in problem


def test_a_race_elsewhere_is_listed_and_no_error() -> None:
    result = replace(RESULT, races=(replace(RACE, origin=Origin.ELSEWHERE),))

    assert result.problems == ()
    assert len(result.of(Origin.ELSEWHERE)) == 1


@pytest.mark.parametrize(
    ("outcome", "bad"),
    [
        (Outcome.PASS, False),
        (Outcome.EXCEPTION, False),
        (Outcome.WRONG, False),
        (Outcome.LEAK, False),
        (Outcome.CRASH, True),
        (Outcome.HANG, True),
        (Outcome.NOT_RUN, True),
    ],
)
def test_what_was_not_seen_whole_proves_nothing(outcome: Outcome, bad: bool) -> None:  # noqa: FBT001
    result = replace(RESULT, runs=(replace(RUN, outcome=outcome),))

    assert bool(result.problems) is bad


def test_a_probe_may_decline_but_not_all_programs_may() -> None:
    declined = replace(RUN, program="GP1", outcome=Outcome.NOT_RUN, declined=True)

    assert replace(RESULT, runs=(RUN, declined)).problems == ()
    assert replace(RESULT, runs=(declined,)).problems == ("no program was run",)


def test_a_failure_of_the_sanitizer_and_an_empty_run_are_errors() -> None:
    assert replace(RESULT, broken=("stress: FATAL: ThreadSanitizer: x",)).problems
    assert replace(RESULT, runs=()).problems


# ---------------------------------------------------------------------------------- suppressions


def suppressions(directory: Path, text: str) -> Path:
    path = directory / "ours.supp"
    path.write_text(text)
    return path


def test_ours_have_their_reasons() -> None:
    read_suppressions(SUPPRESSIONS)


def test_an_entry_needs_a_reason_right_above_it(tmp_path: Path) -> None:
    path = suppressions(
        tmp_path,
        "# Read once at import, before there are threads.\nrace_top:setup\n"
        "# Two lines of\n# good reasons here.\nrace:two words(int)\n",
    )

    assert read_suppressions(path) == ("race_top:setup", "race:two words(int)")


@pytest.mark.parametrize(
    "text",
    [
        "race_top:setup\n",
        "# A reason for something else.\n\nrace_top:setup\n",
        "# The reason of the first one.\nrace_top:first\nrace_top:second\n",
        "# todo\nrace_top:setup\n",
        "#\n#\n#\n#\nrace_top:setup\n",
    ],
)
def test_an_entry_without_one_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ProofError) as caught:
        read_suppressions(suppressions(tmp_path, text))

    assert len(caught.value.problems) == 1
    assert "no reason" in caught.value.problems[0]


@pytest.mark.parametrize("entry", ["race", "race:", "rase:setup", "* everything", "src:file.c"])
def test_what_is_no_entry_is_refused_also_with_a_reason(tmp_path: Path, entry: str) -> None:
    path = suppressions(tmp_path, f"# A reason of many good words.\n{entry}\n")

    with pytest.raises(ProofError, match=r"ours\.supp") as caught:
        read_suppressions(path)

    assert "not a suppression" in caught.value.problems[0]


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ProofError) as caught:
        read_suppressions(suppressions(tmp_path, "race:a\nnonsense\nrace:b\n"))

    assert len(caught.value.problems) == 3


def test_both_lists_are_merged(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.txt"
    theirs.write_text("# theirs\nrace_top:rangeiter_next")
    ours = suppressions(tmp_path, "# Read once, before there are threads.\nrace_top:setup\n")

    merge_suppressions(theirs, ours, tmp_path / "merged.txt")

    lines = (tmp_path / "merged.txt").read_text().splitlines()
    assert [line for line in lines if ":" in line] == ["race_top:rangeiter_next", "race_top:setup"]


# --------------------------------------------------------------------------- back to the source


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (14, "httptools/parser/parser.pyx:300"),
        (15, "httptools/parser/parser.pyx:300"),
        (9, ""),
        (18, ""),
        (5, "parser.pyx:10"),
    ],
)
def test_a_line_of_c_leads_to_the_statement_in_its_own_function(line: int, place: str) -> None:
    assert cython_place(C_FILE, line) == place
