"""The application of the report, under load, on the patched wheels of both stacks.

``nox -s application`` runs it for longer. The public wheels of the pinned stack die under it.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from freewheel.machine.interpreter import Interpreter
from tests.application.soak import soak
from tests.application.stacks import STACKS, install, installed
from tests.integration.conftest import Builder

pytestmark = pytest.mark.integration

_ATTEMPTS = 6  # of 10 seconds at most; it crashes at its first statements, where it does
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}


def test_the_application_survives_on_our_wheels(
    built: Builder, interpreter: Interpreter, tmp_path: Path
) -> None:
    """On the newest stack; `nox -s application` has the pinned one as well."""
    stack = STACKS[0]
    for project, release in stack.releases.items():
        built.patched(project, release)
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


def test_the_pinned_stack_dies_on_the_public_wheels(
    built: Builder, interpreter: Interpreter, tmp_path: Path
) -> None:
    """The negative control: what the soak is for kills the wheels without our patches.

    It does so by chance, so it may take more than one run.
    """
    stack = next(stack for stack in STACKS if stack.name == "pinned")
    built.baseline("httptools", stack.releases["httptools"])  # no public wheel of it
    python = install(stack, built.workspace, interpreter, tmp_path / "stack", upstream=True)
    versions = installed(python)
    assert {project: versions[project] for project in stack.releases} == stack.releases

    seen: list[str] = []
    for _ in range(_ATTEMPTS):
        outcome = soak(stack, python, tmp_path, seconds=10)
        if _CRASHES & set(outcome.died.values()):
            return
        seen += outcome.problems[:3] or ["passed"]
    pytest.fail(f"survived {_ATTEMPTS} times: {seen}")
