"""The one issue: opened, updated, closed, left alone; a program in the place of gh takes note."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".github" / "issue.sh"
GH = """\
#!/bin/bash
echo "$@" >>"$GH_LOG"
if [ "$1 $2" = "issue list" ]; then echo "$GH_OPEN"; fi
"""


def tell(
    tmp_path: Path, noteworthy: object, opened: str = ""
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script on a report; what came of it, and what gh was asked to change."""
    (tmp_path / "report.json").write_text(json.dumps({"noteworthy": noteworthy}))
    (tmp_path / "report.md").write_text("text")
    program = tmp_path / "bin" / "gh"
    program.parent.mkdir()
    program.write_text(GH)
    program.chmod(0o755)
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "GH_LOG": str(log),
        "GH_OPEN": opened,
    }
    done = subprocess.run(
        ["bash", SCRIPT, tmp_path], env=environment, capture_output=True, text=True, check=False
    )
    asked = log.read_text().splitlines() if log.exists() else []
    return done, [line for line in asked if not line.startswith("issue list")]


@pytest.mark.parametrize(
    ("noteworthy", "opened", "begins"),
    [
        (True, "", ["label create upstream-watch", "issue create --label upstream-watch"]),
        (True, "7", ["issue edit 7 --body-file"]),
        (False, "7", ["issue close 7"]),
        (False, "", []),
    ],
)
def test_the_issue_follows_the_report(
    tmp_path: Path, noteworthy: object, opened: str, begins: list[str]
) -> None:
    done, asked = tell(tmp_path, noteworthy, opened)

    assert done.returncode == 0, done.stderr
    assert len(asked) == len(begins)
    for line, begin in zip(asked, begins, strict=True):
        assert line.startswith(begin)


@pytest.mark.parametrize("noteworthy", ["yes", None, 1])
def test_a_report_that_does_not_say_closes_nothing(tmp_path: Path, noteworthy: object) -> None:
    done, asked = tell(tmp_path, noteworthy, "7")

    assert done.returncode == 1
    assert "does not say" in done.stderr
    assert asked == []
