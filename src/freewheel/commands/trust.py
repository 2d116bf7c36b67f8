"""The verbs about a finished wheel: check it, explain it, build it again, sign it."""

from __future__ import annotations

from pathlib import Path

import click

from freewheel.base import console
from freewheel.base.workspace import find_workspace
from freewheel.commands import selection
from freewheel.recipe.recipe import load_recipes
from freewheel.trust import explain as explaining
from freewheel.trust import provenance, rebuild, verify


@click.command(
    name="verify",
    short_help="Check wheels with all that lies beside them.",
    epilog="Example: freewheel verify wheels/*.whl",
)
@click.argument("wheels", nargs=-1, required=True, type=click.Path(path_type=Path))
def verify_wheels(wheels: tuple[Path, ...]) -> None:
    """Check WHEELS again, with the buildinfo and the attestation beside each."""
    for path in wheels:
        found = verify.verify_file(path)
        signed = (
            f"signed by {', '.join(found.signers)}"
            if found.signers
            else "evidence that nobody signed"
        )
        proven = f"{found.certified.kind} certificate" if found.certified else "no certificate"
        console.say(f"{path.name}: good, {signed}, {proven}")


@click.command(
    short_help="Say what a wheel is made of, and why.",
    epilog="Example: freewheel explain wheels/asyncpg-0.32.0+ft.7-*.whl",
)
@click.argument("wheel", type=click.Path(path_type=Path))
def explain(wheel: Path) -> None:
    """Say what WHEEL is made of: upstream's release, the patches and why, the pins, the digest."""
    for line in explaining.explain(wheel, root=explaining.find_checkout()):
        console.say(line)


@click.command(
    name="rebuild",
    short_help="Build a wheel again from what it records.",
    epilog="Example: freewheel rebuild https://index.example.com/asyncpg/asyncpg-….whl",
)
@click.argument("wheel")
def rebuild_wheel(wheel: str) -> None:
    """Build WHEEL, a path or a URL, again from what it records, and compare."""
    workspace = find_workspace()
    recipes = load_recipes(workspace.recipes, workspace.patches)
    made = rebuild.rebuild(workspace, recipes, wheel)
    console.say(f"{made.name}: identical, {made.sha256}")


@click.command(
    short_help="Sign in-toto provenance for wheels.",
    epilog="Example: FREEWHEEL_SIGNING_KEY=signing.pem freewheel attest",
)
@selection.projects_argument
def attest(projects: tuple[str, ...]) -> None:
    """Sign in-toto provenance for the wheels of PROJECTS (all when none is named)."""
    for record in selection.verified_records(find_workspace(), projects):
        console.say(f"{provenance.attest(record)}")
