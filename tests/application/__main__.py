"""``nox -s application``: the application under load, on both stacks, on our wheels."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from freewheel.base import console, files
from freewheel.base.errors import FreewheelError
from freewheel.base.workspace import find_workspace
from freewheel.commands.outcomes import show_error
from freewheel.machine.interpreter import find_interpreter
from freewheel.recipe.pythons import DEFAULT, PYTHONS, Python

from .soak import Outcome, soak
from .stacks import STACKS, install, installed, update_locks

_SHOWN = 12  # problems of one stack


def main() -> int:
    """Run what the words ask for; 0 when every stack passed."""
    parser = argparse.ArgumentParser(prog="nox -s application --", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of load on each stack")
    parser.add_argument("--stack", choices=[stack.name for stack in STACKS], help="only this one")
    parser.add_argument("--upstream", action="store_true", help="on the public wheels")
    parser.add_argument("--python", choices=[p.tag for p in PYTHONS], default=DEFAULT.tag)
    parser.add_argument("--update-locks", action="store_true", help="only renew the locks")
    options = parser.parse_args()
    python = Python(options.python)
    workspace = find_workspace()
    interpreter = find_interpreter(workspace, python)
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="freewheel-application-") as name:
        scratch = Path(name)
        if options.update_locks:
            update_locks(interpreter, scratch)
            return 0
        for stack in STACKS:
            if options.stack in {None, stack.name} and python in stack.pythons:
                place = scratch / stack.name
                made = install(stack, workspace, interpreter, place, upstream=options.upstream)
                versions = installed(made)
                ours = ", ".join(f"{name} {versions[name]}" for name in stack.releases)
                console.say(f"{stack.name}: {ours}")
                logs = files.empty_directory(workspace.logs / "application" / stack.name)
                outcome = soak(stack, made, logs, seconds=options.seconds)
                show(outcome)
                if outcome.problems:
                    console.say(f"  the logs are in {logs}")
                    failed.append(stack.name)
    if failed:
        console.fail(f"did not pass: {', '.join(failed)}")
    return 1 if failed else 0


def show(outcome: Outcome) -> None:
    """Say what a soak came to."""
    if outcome.problems:
        for name, log in outcome.logs.items():
            console.replay(f"the end of the log of the {name}", log)
        for problem in outcome.problems[:_SHOWN]:
            console.fail(problem)
        console.fail(f"{len(outcome.problems)} problems")
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.requests.items()))
    console.say(f"  {outcome.requests.total()} requests in {outcome.seconds:g} s: {kinds}")
    console.say(f"  {outcome.jobs} jobs, {outcome.twice} of them done more than once")
    broker = "restarted once" if outcome.restarted else "not restarted"
    console.say(f"  {outcome.dropped} database connections dropped, the broker {broker}")
    for name, (early, late) in outcome.memory.items():
        console.say(f"  {name}: {early / 2**20:.0f} MiB, at the end {late / 2**20:.0f} MiB")
    console.say("  passed" if not outcome.problems else "  FAILED")


if __name__ == "__main__":
    try:
        code = main()
    except FreewheelError as error:
        show_error(error)
        code = error.exit_code
    sys.exit(code)
