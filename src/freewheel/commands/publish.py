"""The verbs of an index: upload to one, run one, make a static one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click

from freewheel.base import console
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build import finished, patches
from freewheel.build.check import KnownWheel
from freewheel.commands import selection
from freewheel.fill import shelf
from freewheel.proof import certificate, evidence
from freewheel.proof.programs import load_programs
from freewheel.publish import install_lines, server
from freewheel.publish import upload as publishing
from freewheel.publish.destination import Destination, on_this_machine, resolve_destination
from freewheel.recipe.pythons import Python
from freewheel.release import site
from freewheel.trust import verify

_unproven_option = click.option(
    "--unproven", multiple=True, metavar="NAME", help="Also this filled, unproven wheel."
)


@click.command(
    short_help="Upload certified wheels, and compare them.",
    epilog="Example: freewheel publish asyncpg --rehearse",
)
@selection.projects_argument
@click.option("--rehearse", is_flag=True, help="Upload to a server of its own, which then ends.")
@_unproven_option
def publish(projects: tuple[str, ...], *, rehearse: bool, unproven: tuple[str, ...]) -> None:
    """Upload the certified wheels of PROJECTS (all in wheels/ by default) and compare them."""
    workspace = find_workspace()
    filled = shelf.named(workspace, unproven, projects)
    wheels = _certified(workspace, projects) if projects or not unproven else []
    with _destination(workspace, rehearse=rehearse) as destination:
        published = publishing.publish(wheels, destination, filled)
    for wheel in filled:
        console.warn(f"{wheel.path.name}: {shelf.WHY}")
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
    releases = {
        (recipe.name, release.local_version): (recipe, release)
        for recipe in recipes
        for release in recipe.releases
    }

    def expected(wheel: KnownWheel) -> evidence.Expected:
        recipe, release = releases[wheel.project, wheel.version]
        programs = load_programs(workspace.probes, wheel.project)
        python = Python(wheel.path.name.split("-")[-2])
        series = patches.read_series(release)
        return evidence.expected_of(recipe, release, series, programs, python)

    return certificate.all_certified((wheel, expected(wheel)) for wheel in verified)


@click.command(
    name="site",
    short_help="Make the static index of certified wheels.",
    epilog="Example: FREEWHEEL_PAGES_URL= freewheel site",
)
@_unproven_option
def make_site(unproven: tuple[str, ...]) -> None:
    """Make wheels/site/ a static index of the certified wheels and of what is served already.

    FREEWHEEL_PAGES_URL names the index that is served now; empty means that this one begins.
    """
    workspace = find_workspace()
    filled = shelf.named(workspace, unproven)
    wheels = _certified(workspace, ())
    earlier = os.environ.get(site.EARLIER, "")
    if not earlier:
        console.note(f"{site.EARLIER} is empty: the index begins with these wheels")
    directory = workspace.wheels / "site"
    marks = site.read_marks()
    for name in site.assemble(wheels, directory, earlier=earlier, marks=marks, unproven=filled):
        console.say(f"new: {name}")
    console.say(f"the index is in {directory.relative_to(workspace.root)}")


@click.command(
    short_help="Run the private index on this machine.",
    epilog="Example: freewheel serve --port 3141",
)
@click.option("--port", type=int, help="Port on loopback; the one used last, 3141 at first.")
def serve(port: int | None) -> None:
    """Run the private index as a server on this machine, until interrupted."""
    server.serve(find_workspace(), port=port)
