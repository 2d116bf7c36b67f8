"""The command line: every verb is there, says what it is for, and a wrong word is answered."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from freewheel.base.workspace import PACKAGE
from freewheel.commands import main

CONTEXT = click.Context(main.commands)
VERBS = main.commands.list_commands(CONTEXT)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_short_help_and_an_example(verb: str) -> None:
    command = main.commands.get_command(CONTEXT, verb)

    assert command
    assert command.name == verb
    assert command.short_help
    assert len(command.short_help) < 60
    assert f"freewheel {verb}" in (command.epilog or "")


def test_the_help_lists_all_verbs_by_reader() -> None:
    shown = CliRunner().invoke(main.commands, ["--help"]).output

    assert [reader for reader in main.VERBS if f"{reader}:" not in shown] == []
    assert [verb for verb in VERBS if f"  {verb} " not in shown] == []
    assert "..." not in shown.partition("Options:")[2]


def test_a_misspelt_verb_is_answered_with_the_nearest() -> None:
    done = CliRunner().invoke(main.commands, ["biuld"])

    assert done.exit_code == 2
    assert "Did you mean build?" in done.output


def test_a_build_does_not_load_what_only_a_proof_needs() -> None:
    program = (
        "import sys; from freewheel.commands import build;"
        "print([name for name in sys.modules if name.startswith('freewheel.proof')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["freewheel", "bui"], ["build"]),
        (["freewheel", "build", "green"], ["greenlet"]),
        (["freewheel", "demo", "httpt"], ["httptools"]),
        (["freewheel", "prove", "--qui"], ["--quick"]),
    ],
)
def test_a_shell_can_complete_verbs_projects_and_options(
    words: list[str], wanted: list[str]
) -> None:
    completing = ShellComplete(main.commands, {}, "freewheel", "_FREEWHEEL_COMPLETE")

    found = completing.get_completions(words[1:-1], words[-1])

    assert [item.value for item in found] == wanted
