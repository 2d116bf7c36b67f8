"""ThreadSanitizer sees the race of H1, several threads feeding one parser; not with the patch.

It builds CPython where that is not done yet, so it runs only where FREEWHEEL_TSAN is set, as in
the nightly workflow.
"""

import os
from pathlib import Path

import pytest

from freewheel.base.console import Board
from freewheel.base.errors import UnprovenError
from freewheel.base.workspace import find_workspace
from freewheel.build.job import Job
from freewheel.build.wheel import host_target
from freewheel.proof.programs import load_programs
from freewheel.proof.races.reports import Origin
from freewheel.proof.races.sanitizer import SanitizerResult, require_clean, sanitize
from freewheel.recipe.recipe import choose_recipe, load_recipes
from tests.integration.conftest import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not os.environ.get("FREEWHEEL_TSAN"), reason="FREEWHEEL_TSAN is not set"),
]

# The probe of H1 lets the threads take turns, so that it fails each time: that is no data race.
PROGRAM = """\
# /// script
# requires-python = "==3.14.*"
#
# [tool.freewheel.stress]
# title = "one parser that several threads feed"
# use = "misuse"
# work = { quick = 2, full = 2 }
# seconds = 30
# ///
import sys, threading, time
from httptools import HttpParserError, HttpRequestParser

END = time.monotonic() + float(sys.argv[1])
REQUEST = b"GET /path HTTP/1.1\\r\\nHost: example.com\\r\\nContent-Length: 5\\r\\n\\r\\nhello"


class Protocol:
    def on_header(self, name, value):
        pass


def feed(parser, meet):
    meet.wait()
    for _ in range(20):
        try:
            parser.feed_data(REQUEST)
        except (HttpParserError, RuntimeError):
            pass


while time.monotonic() < END:
    parser, meet = HttpRequestParser(Protocol()), threading.Barrier(3)
    threads = [threading.Thread(target=feed, args=(parser, meet)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def run(directory: Path, *, baseline: bool) -> SanitizerResult:
    program = directory / "httptools" / "shared.py"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    recipe = choose_recipe(load_recipes(ROOT / "recipes", ROOT / "patches"), "httptools")
    release = recipe.default_release
    job = Job(
        recipe=recipe, release=release, baseline=baseline, target=host_target(recipe, release)
    )
    with Board() as board:
        return sanitize(find_workspace(ROOT), job, load_programs(directory, "httptools"), board)


def test_without_the_patch_the_race_is_seen_in_the_projects_own_code(tmp_path: Path) -> None:
    result = run(tmp_path, baseline=True)

    racing = {
        stack.frames[0].file
        for race in result.of(Origin.PROJECT)
        for stack in race.report.stacks
        if stack.frames
    }
    assert "vendor/llhttp/src/llhttp.c" in racing
    assert any("parser.pyx:" in problem for problem in result.problems)
    with pytest.raises(UnprovenError):
        require_clean([result])


def test_with_the_patch_it_is_not(tmp_path: Path) -> None:
    result = run(tmp_path, baseline=False)

    assert [(run.program, run.outcome) for run in result.runs] == [("shared", "pass")]
    require_clean([result])
