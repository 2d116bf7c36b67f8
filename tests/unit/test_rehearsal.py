"""What walks through a workflow: it must fail where GitHub would, or it would prove nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.rehearsal import workflow
from tests.rehearsal.workflow import Machine, WorkflowError, run

FLOW = """\
jobs:
  list:
    environment: release
    outputs:
      found: ${{ steps.look.outputs.found }}
    steps:
      - name: Check out
        uses: actions/checkout@0
      - name: Look
        id: look
        run: |
          echo "found=[{\\"name\\":\\"one\\"},{\\"name\\":\\"two\\"}]" >> "$GITHUB_OUTPUT"
          test "$TOKEN" = "a secret; \\$(not run)"
        env:
          TOKEN: ${{ secrets.TOKEN }}
  make:
    needs: [list]
    strategy:
      matrix:
        include: ${{ fromJSON(needs.list.outputs.found) }}
    env:
      NAME: ${{ matrix.name }}
    steps:
      - name: Check out
        uses: actions/checkout@0
      - name: Make
        run: mkdir made && echo "$NAME" > "made/$NAME.txt" && test -z "$TOKEN"
        env:
          TOKEN: ${{ secrets.TOKEN }}
      - name: Hand on
        uses: actions/upload-artifact@0
        with:
          name: made-${{ matrix.name }}
          path: made/*.txt
  use:
    needs: [make]
    steps:
      - name: Check out
        uses: actions/checkout@0
      - name: Fetch
        uses: actions/download-artifact@0
        with:
          pattern: made-*
          path: handed-over
      - name: Use
        run: grep -q one handed-over/made-one/one.txt && test ! -e handed-over/made-two
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One for which only the entry ``one`` is, with a small checkout to copy."""
    (tmp_path / "root").mkdir()
    monkeypatch.setattr(workflow, "ROOT", tmp_path / "root")
    (tmp_path / "scratch").mkdir()

    def chosen(entry: Mapping[str, object]) -> bool:
        return entry["name"] == "one"

    return Machine(
        scratch=tmp_path / "scratch",
        cache=tmp_path / "cache",
        secrets={"TOKEN": "a secret; $(not run)"},
        variables={},
        environment={},
        chosen=chosen,
    )


def walk(tmp_path: Path, machine: Machine, text: str) -> dict[str, dict[str, str]]:
    path = tmp_path / "flow.yml"
    path.write_text(text)
    return run(path, machine)


def test_values_and_files_go_from_job_to_job(tmp_path: Path, machine: Machine) -> None:
    outputs = walk(tmp_path, machine, FLOW)

    assert outputs["list"] == {"found": '[{"name":"one"},{"name":"two"}]'}
    assert [path.name for path in machine.artifacts.iterdir()] == ["made-one"]


def test_an_option_is_left_out_only_where_that_is_said(tmp_path: Path, machine: Machine) -> None:
    text = FLOW.replace("run: grep -q one", "run: grep --races -q one")

    with pytest.raises(WorkflowError, match="use: Use: grep --races"):
        walk(tmp_path, machine, text)
    again = replace(
        machine, scratch=tmp_path / "again", cache=tmp_path, left_out=frozenset({"--races"})
    )
    assert walk(tmp_path, again, text)["use"] == {}


@pytest.mark.parametrize(
    ("written", "instead", "problem"),
    [
        ("grep -q one", "grep -q nothing", "use: Use: grep -q nothing"),
        ("made/*.txt", "nowhere/*.txt", "nothing to upload in nowhere"),
        ("pattern: made-*", "pattern: other-*", r"no artifact is called other-\*"),
        ("needs: [list]", "needs: [use]", "make stands before use"),
        ("actions/download-artifact@0", "someone/else@0", "does not know someone/else"),
        ("${{ matrix.name }}\n    steps", "${{ github.ref == 'x' }}\n    steps", "expression"),
        ('"name\\\\":\\\\"one', '"name\\\\":\\\\"three', "no entry of the matrix"),
        ("    environment: release\n", "", "list: Look"),
    ],
)
def test_what_would_fail_fails(
    tmp_path: Path, machine: Machine, written: str, instead: str, problem: str
) -> None:
    text = FLOW.replace(written.replace("\\\\", "\\"), instead.replace("\\\\", "\\"))
    assert text != FLOW

    with pytest.raises(WorkflowError, match=problem):
        walk(tmp_path, machine, text)
