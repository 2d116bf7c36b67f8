"""The application of the report, under load, on the patched wheels of both stacks.

``nox -s application`` runs it for longer.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from freewheel.machine.interpreter import Interpreter
from tests.application.soak import soak
from tests.application.stacks import STACKS, Stack, install, installed
from tests.integration.conftest import Checkout

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_the_application_survives_on_our_wheels(
    built: Checkout, interpreter: Interpreter, tmp_path: Path, stack: Stack
) -> None:
    python = install(stack, built.workspace, interpreter, tmp_path / "stack", upstream=False)
    versions = installed(python)
    for project, release in stack.releases.items():
        assert versions[project].startswith(f"{release}+ft.")

    outcome = soak(stack, python, tmp_path, seconds=15)

    assert not outcome.problems, "\n".join([*outcome.problems, *outcome.logs.values()])
    assert outcome.requests["stream"]
    assert outcome.requests["cancel"]
    assert outcome.jobs
    assert outcome.dropped
    assert outcome.restarted
