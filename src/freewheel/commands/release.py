"""The commands of the release: what a workflow calls, and what is said of it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click

from freewheel.base import console, git
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build import finished
from freewheel.commands import selection
from freewheel.proof import certificate
from freewheel.proof.programs import load_programs
from freewheel.publish import install_lines, server
from freewheel.publish import upload as publishing
from freewheel.publish.destination import Destination, on_this_machine, resolve_destination
from freewheel.release import artifacts, site
from freewheel.release.matrix import Gate, entries, reached, with_gate
from freewheel.trust import verify

_NO_COMMIT = "0" * 40  # what a push that makes a branch names as the commit before it


@click.command()
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


@click.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("second", type=click.Path(path_type=Path, exists=True, file_okay=False))
def compare(first: Path, second: Path) -> None:
    """Compare the wheels of two builders, in FIRST and SECOND, and print their digests."""
    digests = artifacts.compare_builders(first, second)
    console.say(artifacts.set_output("digests", digests))
    console.note(f"{len(digests)} wheels, the same from both builders")


@click.command()
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


@click.command()
@click.argument("projects", nargs=-1)
@click.option("--rehearse", is_flag=True, help="Upload to a server of its own, which then ends.")
def publish(projects: tuple[str, ...], *, rehearse: bool) -> None:
    """Upload the certified wheels of PROJECTS (all in wheels/ by default) and compare them."""
    workspace = find_workspace()
    wheels = _certified(workspace, projects)
    with _destination(workspace, rehearse=rehearse) as destination:
        published = publishing.publish(wheels, destination)
    rows = [
        (item.wheel.path.name, "uploaded" if item.uploaded else "was there", item.wheel.sha256)
        for item in published
    ]
    console.table(("wheel", "state", "SHA-256, read back"), rows)
    console.say()
    if rehearse:
        console.say("That was a rehearsal: the server has ended, and nothing was published.")
        return
    install_lines.write_requirements(workspace.wheels / "requirements.txt", wheels)
    console.say("Install them, pinned and with hashes, with either")
    lines = install_lines.install_lines(wheels, destination.simple_url)
    console.say(f"  {lines.pip}")
    console.say(f"  {lines.uv}")


@contextmanager
def _destination(workspace: Workspace, *, rehearse: bool) -> Iterator[Destination]:
    if not rehearse:
        yield resolve_destination(workspace)
        return
    with tempfile.TemporaryDirectory(prefix="freewheel-") as name:
        apart = replace(workspace, data=Path(name), cache=Path(name) / "cache")
        running = server.start_server(apart, port=0)
        try:
            yield on_this_machine(running.server)
        finally:
            running.stop()


def _certified(workspace: Workspace, projects: Sequence[str]) -> list[certificate.CertifiedWheel]:
    """What may be published: audited, of targets that are proven, each with its certificate."""
    recipes = selection.chosen_recipes(workspace, projects)
    verified = finished.verified_wheels(workspace, recipes)
    verified = finished.without_unproven(workspace, recipes, verified)
    for wheel in verified:
        verify.verify_file(wheel.path)
    return certificate.all_certified(
        (wheel, load_programs(workspace.probes, wheel.project)) for wheel in verified
    )


@click.command(name="site")
def make_site() -> None:
    """Make wheels/site/ a static index of the certified wheels and of what is served already.

    FREEWHEEL_PAGES_URL names the index that is served now; empty means that this one begins.
    """
    workspace = find_workspace()
    wheels = _certified(workspace, ())
    earlier = os.environ.get(site.EARLIER, "")
    if not earlier:
        console.note(f"{site.EARLIER} is empty: the index begins with these wheels")
    directory = workspace.wheels / "site"
    for name in site.assemble(wheels, directory, earlier=earlier, yanked=site.read_yanked()):
        console.say(f"new: {name}")
    console.say(f"the index is in {directory.relative_to(workspace.root)}")


ALL: tuple[click.Command, ...] = (matrix, compare, receive, publish, make_site)
