"""Crash dumps: what faulthandler writes, whatever a terminal or a tracker made of its lines."""

from __future__ import annotations

import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freewheel.audit.choosing import Choice
from freewheel.audit.crash import advice, owners
from freewheel.audit.crash.dump import Dump, parse
from freewheel.audit.declared import Declared, find_workspace
from freewheel.audit.inputs.locked import Given, Locked
from freewheel.audit.inputs.reading import is_crash_dump
from freewheel.audit.outcome import Crash
from freewheel.audit.target import Target

LINUX = Target("cp314t", "manylinux_x86_64")
SHARED = Path(__file__).parents[3] / "shared" / "crash.txt"

DUMP = """\
2026-11-02 10:00:00 worker 7 exited unexpectedly (code -11)
Fatal Python error: Segmentation fault

<Cannot show all threads while the GIL is disabled>
Stack (most recent call first):
  File "/srv/app/.venv/lib/python3.14t/site-packages/asyncpg/connection.py", line 443 in _get
  File "/srv/app/.venv/lib/python3.14t/site-packages/sqlalchemy/util/_concurrency_py3k.py", \
line 196 in greenlet_spawn
  File "/srv/app/work.py", line 3 in <module>

Current thread's C stack trace (most recent call first):
  Binary file "/usr/lib/libpython3.14t.so.1.0", at _Py_DumpStack+0x44 [0x7f0001]
  Binary file "/srv/app/.venv/lib/python3.14t/site-packages/asyncpg/protocol/protocol.\
cpython-314t-x86_64-linux-gnu.so", at __pyx_f_write+0x90 [0x7f0002]
  Binary file "/srv/app/.venv/lib/python3.14t/site-packages/asyncpg/protocol/protocol.\
cpython-314t-x86_64-linux-gnu.so", at +0x1 [0x7f0003]
  <truncated rest of calls>

Extension modules: greenlet._greenlet, asyncpg.pgproto.pgproto, asyncpg.protocol.protocol, \
markupsafe._speedups, _cffi_backend, yaml._yaml, zope.interface._zope_interface_coptimizations, \
psycopg2._psycopg (total: 8)
"""


def essence(dump: Dump) -> tuple[object, ...]:
    """What a dump says, except for the spelling of paths."""
    frames = [(frame.installed, frame.line, frame.binary) for frame in dump.frames]
    return dump.signal, dump.python, dump.platform, dump.machine, dump.extensions, frames


def test_a_dump_is_read() -> None:
    dump = parse(DUMP)

    assert (dump.signal, dump.wording) == ("SIGSEGV", "Segmentation fault")
    assert (dump.python, dump.free_threaded) == ("3.14", True)
    assert (dump.platform, dump.machine) == ("manylinux", "x86_64")
    assert dump.date == datetime(2026, 11, 2, 23, 59, tzinfo=UTC)
    assert [frame.function for frame in dump.frames] == [
        *("_get", "greenlet_spawn", "<module>"),
        *("_Py_DumpStack", "__pyx_f_write", ""),
    ]
    assert [frame.module for frame in dump.deepest] == ["asyncpg.protocol.protocol"] * 2
    assert dump.total == len(dump.extensions) == 8
    assert dump.complete


@pytest.mark.parametrize("width", [23, 40, 80, 100])
def test_lines_may_be_folded_anywhere(width: int) -> None:
    lines = DUMP.splitlines()
    folded = "\n".join(
        line[at : at + width] for line in lines for at in range(0, max(1, len(line)), width)
    )
    wrapped = "\n".join(part for line in lines for part in textwrap.wrap(line, width) or [""])

    assert essence(parse(folded)) == essence(parse(DUMP))
    assert essence(parse(wrapped)) == essence(parse(DUMP))


def test_columns_may_run_together_and_lines_be_quoted_or_coloured() -> None:
    columns = DUMP.replace("\n  File", "        File").replace("\n  Binary", "      Binary")
    quoted = "\n".join(f"> {line}" for line in DUMP.splitlines())
    coloured = DUMP.replace("Fatal Python error", "\x1b[31mFatal Python error\x1b[0m")

    for text in (columns, quoted, coloured, DUMP.replace("\n", "\r\n")):
        assert essence(parse(text)) == essence(parse(DUMP))


def test_a_list_that_was_cut_off_keeps_only_whole_names() -> None:
    cut = parse(DUMP[: DUMP.index("_cffi_backend") + 5])

    assert cut.extensions[-1] == "markupsafe._speedups"
    assert cut.total is None
    assert cut.truncated
    assert not cut.complete


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        ("Fatal Python error: Bus error\n", "SIGBUS"),
        ("Fatal Python error: Aborted\n", "SIGABRT"),
        ("Fatal Python error: PyMutex_Unlock: unlocking mutex that is not locked\n", "SIGABRT"),
        ("Windows fatal exception: access violation\n", "access violation"),
        ("Timeout (0:00:30)!\nThread 0x1 (most recent call first):\n", "hang"),
        ("zsh: bus error  python\nBus error: 10\n", "SIGBUS"),
        ("/usr/lib/libpython3.14t.so\nworker exited (code -7)", "SIGBUS"),
        ("/usr/lib/libpython3.14t.dylib\nworker exited (code -10)", "SIGBUS"),
        ("terminated by SIGSEGV", "SIGSEGV"),
        ("nothing happened", ""),
    ],
)
def test_signals_are_reported_as_each_system_words_them(text: str, signal: str) -> None:
    assert parse(text).signal == signal


@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse(text)
    parse(DUMP[:200] + text + DUMP[200:])


# ------------------------------------------------------------------------------------ whose it is


def test_modules_belong_to_the_projects_that_bring_them() -> None:
    found = {module: owners.owner(module, ())[0] for module in parse(DUMP).extensions}

    assert found == {
        "greenlet._greenlet": "greenlet",
        "asyncpg.pgproto.pgproto": "asyncpg",
        "asyncpg.protocol.protocol": "asyncpg",
        "markupsafe._speedups": "markupsafe",
        "_cffi_backend": "cffi",
        "yaml._yaml": "pyyaml",
        "zope.interface._zope_interface_coptimizations": "zope-interface",
        "psycopg2._psycopg": "psycopg2",
    }


def test_a_lock_says_which_of_several_projects_is_meant() -> None:
    assert owners.owner("psycopg2._psycopg", {"psycopg2-binary"}) == ("psycopg2-binary", True)
    assert owners.owner("cv2.cv2", {"opencv-python-headless"})[0] == "opencv-python-headless"


# ------------------------------------------------------------------------------------- the advice


def advise(text: str, *, lock: dict[str, str] | None = None, target: Target = LINUX) -> Crash:
    """The advice for a dump, without asking an index."""
    dump = parse(text)
    locks = (
        [
            Given(
                path=Path("uv.lock"),
                form="uv.lock",
                distributions=tuple(
                    Locked(name=name, version=version, origin="uv.lock")
                    for name, version in lock.items()
                ),
            )
        ]
        if lock
        else []
    )
    found = advice.named(dump, lock or ())
    entries = advice.locked_by(Path("crash.txt"), dump, found, locks)
    choices = [Choice(locked=entry, version=entry.version) for entry in entries]
    declared = Declared(find_workspace(), advice.target_of(dump, target))
    return advice.advise(Path("crash.txt"), dump, found, choices, declared)


def versions(crash: Crash) -> dict[str, str]:
    return dict(requirement.split("==") for requirement in crash.install)


def test_the_advice_names_our_wheels_and_the_defects_that_crash_like_this() -> None:
    crash = advise(DUMP, lock={"asyncpg": "0.31.0", "greenlet": "3.3.1", "pyyaml": "6.0"})

    assert re.fullmatch(r"0\.31\.0\+ft\.\d+", versions(crash)["asyncpg"])
    assert re.fullmatch(r"3\.3\.1\+ft\.\d+", versions(crash)["greenlet"])
    assert re.match(r"install .+ and .+; .*P2.*G7.* crash like this$", crash.advice)
    listed = {one.name: one for one in crash.distributions}
    assert listed["asyncpg"].on_stack
    assert listed["pyyaml"].known
    assert not listed["cffi"].known


def test_without_a_lock_the_release_of_the_day_is_assumed_and_said() -> None:
    listed = {
        one.name: one for one in advise(DUMP.replace("2026-11-02", "2026-01-26")).distributions
    }

    assert listed["asyncpg"].version == "0.31.0"
    assert listed["greenlet"].version == "3.3.1"
    assert "2026-01-26" in listed["asyncpg"].assumed
    assert listed["pyyaml"].version == ""


def test_a_module_that_is_only_loaded_is_no_suspect_while_the_stack_has_one() -> None:
    listed = DUMP.replace("greenlet._greenlet, ", "greenlet._greenlet, _brotli, ")
    lock = {"asyncpg": "0.31.0", "greenlet": "3.3.1", "brotli": "1.2.0"}
    elsewhere = re.sub(r"  Binary file .*\n|  File .*\n", "", listed)
    called = listed.replace("/srv/app/work.py", "/srv/app/serve_brotli.py")

    assert versions(advise(listed, lock=lock)).keys() == {"asyncpg", "greenlet"}
    assert versions(advise(called, lock=lock)).keys() == {"asyncpg", "brotli", "greenlet"}
    crash = advise(elsewhere, lock=lock)
    assert versions(crash).keys() == {"asyncpg", "brotli", "greenlet", "psycopg2"}
    assert "not on the stack" in crash.advice


def test_a_hang_is_matched_with_what_hangs() -> None:
    hung = DUMP.replace("Fatal Python error: Segmentation fault", "Timeout (0:01:00)!")

    crash = advise(hung.replace("code -11", "stuck"), lock={"greenlet": "3.3.1"})

    assert crash.advice.endswith("like this")
    assert "hang" in crash.advice


def test_a_dump_that_matches_nothing_says_so() -> None:
    other = re.sub(r"Extension modules: .*\)", "Extension modules: yaml._yaml (total: 1)", DUMP)
    other = other.replace("asyncpg/", "yaml/").replace("sqlalchemy/", "yaml/")

    assert advise(other).advice.startswith("no known defect matches")
    assert advise("Fatal Python error: Aborted").advice.startswith("nothing in it")
    assert is_crash_dump("Segmentation fault (core dumped)")


def test_a_dump_that_was_cut_off_before_the_modules_names_those_of_its_frames() -> None:
    crash = advise(DUMP[: DUMP.index("Current thread")], lock={"asyncpg": "0.31.0"})

    assert versions(crash).keys() == {"asyncpg"}
    assert not crash.complete
    alone = "Fatal Python error: Aborted\n\nStack (most recent call first):\n"
    assert advise(alone + '  File "/a.py", line 1 in f\n').advice.startswith("it was cut off")


def test_the_platform_of_the_dump_is_the_target() -> None:
    mac = DUMP.replace("x86_64-linux-gnu.so", "darwin.so").replace("/usr/lib/", "/usr/lib/system/")

    assert str(advice.target_of(parse(mac), LINUX)) == "cp314t-macosx_arm64"
    assert str(advice.target_of(parse("no dump"), LINUX)) == str(LINUX)


@pytest.mark.skipif(not SHARED.is_file(), reason="the first crash is not beside this checkout")
def test_the_crash_that_the_project_began_with_ends_in_the_right_advice() -> None:
    text = SHARED.read_text(encoding="utf-8")

    crash = advise(text)

    assert (crash.signal, crash.python, crash.platform) == ("SIGBUS", "3.14.2t", "macosx_arm64")
    assert (crash.modules, crash.total, len(crash.distributions)) == (31, 31, 14)
    assert crash.deepest[0].startswith("asyncpg.protocol.protocol: ")
    assert versions(crash).keys() == {"asyncpg", "greenlet"}
    assert "P2" in crash.advice
    assert "G7" in crash.advice
