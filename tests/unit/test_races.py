"""ThreadSanitizer's reports: read, told apart by whose code it is, made one. Texts of real runs."""

from pathlib import Path

import pytest

from freewheel.proof.races.reports import Frame, Origin, Report, gather, origin, parse_log

PACKAGES = Path("/scratch/env")
MODULES = "/scratch/env/lib/python3.14t/site-packages"
PYTHON = "/cache/tsan/cpython/bin/python3.14t"


def frames(*lines: str) -> str:
    """Frames as the sanitizer writes them, of lines ``function | source | module``."""
    modules = {
        "record": f"{MODULES}/asyncpg/protocol/record.cpython-314t-x86_64-linux-gnu.so",
        "greenlet": f"{MODULES}/greenlet/_greenlet.cpython-314t-x86_64-linux-gnu.so",
        "parser": f"{MODULES}/httptools/parser/parser.cpython-314t-x86_64-linux-gnu.so",
        "asyncio": "/cache/tsan/cpython/lib/python3.14t/lib-dynload/_asyncio.cpython-314t.so",
        "python": PYTHON,
    }
    written = []
    for number, line in enumerate(lines):
        function, source, module = line.split(" | ")
        written.append(f"    #{number} {function}\t{source}\t{modules[module]}")
    return "\n".join(written)


LOOP = "_PyEval_EvalFrameDefault | CPython/Python/generated_cases.c.h:5747:36 | python"
BELOW = "_PyEval_EvalFrame | CPython/./Include/internal/pycore_ceval.h:120:16 | python"
CREATED = f"""\
  Thread T2 'Thread-2 (recor' (tid=4162, running) created by main thread at:
{frames("pthread_create | <null> | python", "main | CPython/Python/main.c:1:1 | python")}
"""

RECORD = f"""\
==================
WARNING: ThreadSanitizer: data race (pid=2493)
  Read of size 8 at 0x7fcd90153d30 by thread T2:
{frames("record_items_next | asyncpg/protocol/record/recordobj.c:903:15 | record", LOOP, BELOW)}

  Previous write of size 8 at 0x7fcd90153d30 by thread T4:
{frames("record_items_next | asyncpg/protocol/record/recordobj.c:939:5 | record", LOOP, BELOW)}

{CREATED}
SUMMARY: ThreadSanitizer: data race asyncpg/protocol/record/recordobj.c:903:15 in record_items_next
==================
"""

STATE = "greenlet::StackState::operator=(greenlet::StackState const&)"
GREENLET = f"""\
==================
WARNING: ThreadSanitizer: data race (pid=12040)
  Write of size 8 at 0x7fc62a110638 by thread T4:
{frames(f"{STATE} | src/greenlet/TStackState.cpp:71:24 | greenlet", LOOP)}

  Previous atomic read of size 8 at 0x7fc62a110638 by thread T1:
{frames("greenlet::StackState::active() const | ./src/greenlet/TStackState.cpp:176:18 | greenlet")}

SUMMARY: ThreadSanitizer: data race src/greenlet/TStackState.cpp:71:24 in {STATE}
==================
"""

MEMSET = f"""\
==================
WARNING: ThreadSanitizer: data race (pid=3509)
  Write of size 8 at 0x7fed301a0520 by thread T2:
{frames("__tsan_memset | <null> | python", "llhttp_init | ./vendor/llhttp/src/api.c:35:3 | parser")}

  Previous read of size 1 at 0x7fed301a0529 by thread T4:
    [failed to restore the stack]

SUMMARY: ThreadSanitizer: data race ({PYTHON}+0x5fdce) in __tsan_memset
==================
"""

LOCKS = f"""\
==================
WARNING: ThreadSanitizer: lock-order-inversion (potential deadlock) (pid=27501)
  Cycle in lock order graph: M0 (0x7ff7f2447070) => M1 (0x7ff7f2447098) => M0

  Mutex M1 acquired here while holding mutex M0 in thread T1:
{frames("pthread_mutex_lock | <null> | python", "lib_ab | lib.c:11:45 | greenlet")}

  Mutex M0 previously acquired by the same thread here:
{frames("pthread_mutex_lock | <null> | python", "other | lib.c:1:1 | python")}

  Mutex M0 acquired here while holding mutex M1 in thread T2:
{frames("pthread_mutex_lock | <null> | python", "lib_ba | CPython/x.c:12:45 | python")}

{CREATED}
SUMMARY: ThreadSanitizer: lock-order-inversion (potential deadlock) in pthread_mutex_lock
==================
"""


def race(first: str, second: str, memory: str = "") -> Report:
    """The report of two accesses, each with the frames given."""
    located = f"\n  Location is {memory}\n" if memory else ""
    text = (
        "WARNING: ThreadSanitizer: data race (pid=1)\n"
        f"  Write of size 4 at 0x1 by main thread:\n{first}\n\n"
        f"  Previous write of size 4 at 0x1 by thread T1:\n{second}\n{located}\n"
        "SUMMARY: ThreadSanitizer: data race\n"
    )
    (report,) = parse_log(text).reports
    return report


def test_a_report_has_both_accesses_and_no_others() -> None:
    (report,) = parse_log(RECORD).reports

    assert report.kind == "data race"
    assert [stack.what for stack in report.stacks] == [
        "Read of size 8 by thread T2",
        "Previous write of size 8 by thread T4",
    ]
    assert report.stacks[0].frames[0] == Frame(
        function="record_items_next",
        file="asyncpg/protocol/record/recordobj.c",
        line=903,
        module=f"{MODULES}/asyncpg/protocol/record.cpython-314t-x86_64-linux-gnu.so",
    )


def test_a_stack_ends_where_python_code_called() -> None:
    (report,) = parse_log(RECORD).reports

    for stack in report.stacks:
        assert [frame.function for frame in stack.frames] == [
            "record_items_next",
            "_PyEval_EvalFrameDefault",
        ]


def test_names_with_blanks_are_whole() -> None:
    (report,) = parse_log(GREENLET).reports

    assert report.stacks[0].frames[0].function == STATE
    assert report.stacks[1].what == "Previous atomic read of size 8 by thread T1"
    assert report.stacks[1].frames[0].file == "src/greenlet/TStackState.cpp"


def test_a_stack_may_be_lost() -> None:
    (report,) = parse_log(MEMSET).reports

    assert [len(stack.frames) for stack in report.stacks] == [2, 0]


def test_the_memory_is_told_without_its_address() -> None:
    where = "global 'shared' of size 4 at 0x7ff7f2447108 (liblib.so+0x4108)"

    assert race(frames(LOOP), frames(LOOP), where).memory.startswith("global 'shared' of size 4 (")


def test_all_reports_of_a_log_are_read_and_matches_counted() -> None:
    text = (
        f"{RECORD}{GREENLET}ThreadSanitizer: reported 2 warnings\n"
        "ThreadSanitizer: Matched 3 suppressions (pid=1):\n"
        "          2 race_top:rangeiter_next\n          1 race:PyObject_Realloc\n"
    )

    log = parse_log(text)

    assert len(log.reports) == 2
    assert log.matched == (("race_top:rangeiter_next", 2), ("race:PyObject_Realloc", 1))
    assert log.broken == ()


def test_a_report_that_was_cut_off_counts() -> None:
    (report,) = parse_log(RECORD[: RECORD.index("  Previous write")]).reports

    assert len(report.stacks) == 1


@pytest.mark.parametrize(
    "said",
    [
        "FATAL: ThreadSanitizer: unexpected memory mapping 0x5559e2c44000-0x5559e2c46000",
        "==5842==ThreadSanitizer: hard rss limit exhausted (8192Mb vs 8308Mb)",
        'ThreadSanitizer: CHECK failed: tsan_rtl.cpp:1 "((thr->slot)) != (0)" (0x0, 0x0)',
    ],
)
def test_the_sanitizers_own_failure_is_seen(said: str) -> None:
    assert parse_log(said + "\n").broken == (said,)


@pytest.mark.parametrize("text", [RECORD, GREENLET, MEMSET, LOCKS])
def test_an_access_in_the_wheel_is_the_projects(text: str) -> None:
    (report,) = parse_log(text).reports

    assert origin(report, PACKAGES) == Origin.PROJECT


def test_in_a_report_of_locks_each_acquisition_counts_and_nothing_else() -> None:
    (report,) = parse_log(LOCKS).reports

    assert [stack.frames[1].function for stack in report.stacks] == ["lib_ab", "lib_ba"]


def test_what_is_expanded_in_the_wheel_is_the_projects() -> None:
    inline = "Py_INCREF | CPython/include/python3.14t/refcount.h:258:5 | parser"
    other = frames("unicode_hash | CPython/Objects/unicodeobject.c:1:1 | python", LOOP)

    assert origin(race(frames(inline), other), PACKAGES) == Origin.PROJECT


def test_a_function_of_cpython_that_the_wheel_called_is_told_apart() -> None:
    called = frames(
        "PyDict_Next | CPython/Objects/dictobject.c:1:1 | python",
        "decode | ./parser.c:1:1 | parser",
        LOOP,
    )
    other = frames("insertdict | CPython/Objects/dictobject.c:2:1 | python", LOOP)

    assert origin(race(called, other), PACKAGES) == Origin.CALLED
    assert origin(race(other, called), PACKAGES) == Origin.CALLED


def test_python_code_in_between_makes_it_cpythons() -> None:
    through = frames(
        "insertdict | CPython/Objects/dictobject.c:2:1 | python",
        LOOP,
        "callback | ./parser.c:1:1 | parser",
    )

    assert origin(race(through, through), PACKAGES) == Origin.ELSEWHERE


def test_a_module_of_the_standard_library_is_not_the_projects() -> None:
    step = frames("task_step | CPython/Modules/_asynciomodule.c:1:1 | asyncio", LOOP)

    assert origin(race(step, step), PACKAGES) == Origin.ELSEWHERE


def test_one_race_is_counted_once_whichever_access_came_first() -> None:
    (one,) = parse_log(RECORD).reports
    other = Report(kind=one.kind, stacks=one.stacks[::-1], memory="")
    (different,) = parse_log(GREENLET).reports
    python = frames("insertdict | CPython/Objects/dictobject.c:2:1 | python", LOOP)
    elsewhere = race(python, python)

    races = gather([("b", elsewhere), ("a", one), ("P3", other), ("a", different)], PACKAGES)

    assert [(r.seen, r.programs, r.origin) for r in races] == [
        (2, ("P3", "a"), Origin.PROJECT),
        (1, ("a",), Origin.PROJECT),
        (1, ("b",), Origin.ELSEWHERE),
    ]
