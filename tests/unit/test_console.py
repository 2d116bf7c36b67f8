"""What long work says of itself: where there is a terminal, and where there are lines."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from freewheel.base import console


def test_lines_say_which_stage_of_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    with console.Board() as board:
        board.expect(2)
        with board.stage("demo 1.0", "fetch"):
            pass
        with pytest.raises(ValueError, match="no"), board.stage("demo 1.0", "patch"):
            raise ValueError("no")

    said = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\d\.\d s", "TIME", line) for line in said] == [
        "demo 1.0: fetch ...",
        "demo 1.0: fetch done in TIME (1 of 2)",
        "demo 1.0: patch ...",
        "demo 1.0: patch failed after TIME (2 of 2)",
    ]


def test_the_slowest_part_is_named_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 75.0, 75.0, 80.0])  # when each stage starts and ends
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))

    with console.Board() as board:
        for name in ("wheel", "check"):
            with board.stage("demo 1.0", name):
                pass

    assert capsys.readouterr().out.splitlines()[-1] == "slowest: demo 1.0: wheel, 1 min 15 s"


def test_more_stages_than_expected_do_not_make_nonsense(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.Board() as board:
        board.expect(1)
        for _ in range(2):
            with board.stage("demo", "probe"):
                pass

    assert "(2 of 2)" in capsys.readouterr().out


def test_a_stage_that_nobody_announced_takes_no_other_ones_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.Board() as board:
        with board.stage("demo", "public wheel"):
            pass
        board.expect(2)
        for name in ("fetch", "patch"):
            with board.stage("demo", name):
                pass

    said = capsys.readouterr().out
    assert "(2 of 3)" in said
    assert "(3 of 3)" in said


def test_a_terminal_shows_all_stages_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "_out", Console(file=screen, force_terminal=True, width=100))

    with console.Board() as board:
        board.expect(3)
        with board.stage("demo", "fetch"):
            pass
        board._progress.refresh()

    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "1 of 3 stages done, slowest demo: fetch: 0.0 s" in text
