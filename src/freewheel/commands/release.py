"""The commands of the release: what a workflow calls, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from freewheel.base import console, git
from freewheel.base.workspace import find_workspace
from freewheel.commands import selection
from freewheel.release import artifacts
from freewheel.release.matrix import Gate, entries, reached, with_gate

_NO_COMMIT = "0" * 40  # what a push that makes a branch names as the commit before it


@click.command(
    short_help="Print what a release consists of, as JSON.",
    epilog="Example: freewheel matrix --gate build",
)
@click.option("--since", default="", metavar="COMMIT", help="Only what has changed since then.")
@click.option("--gate", type=click.Choice([str(gate) for gate in Gate]), help="Only what runs it.")
def matrix(since: str, gate: str | None) -> None:
    """Print what a release consists of, as JSON: each wheel, its runner and its gates."""
    workspace = find_workspace()
    recipes = selection.chosen_recipes(workspace, ())
    chosen = list(entries(recipes))
    if since and since != _NO_COMMIT:
        chosen = reached(chosen, git.changed_since(workspace.root, since), recipes)
    for each in Gate:
        artifacts.set_output(each, [entry.to_json() for entry in with_gate(chosen, each)])
    shown = with_gate(chosen, Gate(gate)) if gate else chosen
    console.say(json.dumps([entry.to_json() for entry in shown], indent=1))


@click.command(
    short_help="Compare the wheels of two builders.",
    epilog="Example: freewheel compare builder-a builder-b",
)
@click.argument("first", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("second", type=click.Path(path_type=Path, exists=True, file_okay=False))
def compare(first: Path, second: Path) -> None:
    """Compare the wheels of two builders, in FIRST and SECOND, and print their digests."""
    digests = artifacts.compare_builders(first, second)
    console.say(artifacts.set_output("digests", digests))
    console.note(f"{len(digests)} wheels, the same from both builders")


@click.command(
    short_help="Bring in wheels that two builders agreed on.",
    epilog="Example: freewheel receive handed-over",
)
@click.argument("sources", type=click.Path(path_type=Path, exists=True, file_okay=False))
def receive(sources: Path) -> None:
    """Bring the wheels below SOURCES into wheels/, if they are those that the builders agreed on.

    FREEWHEEL_DIGESTS has what `compare` printed; without it, only their buildinfo is compared.
    """
    digests = artifacts.named_digests()
    for path in artifacts.collect(sources, find_workspace().wheels, digests):
        console.say(path.name)
    if digests is None:
        console.note(f"{artifacts.DIGESTS} is not set, so no other builder speaks for these wheels")
