"""The command that fills a lock's gaps: an environment, and how far each part can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from freewheel.audit import auditing
from freewheel.audit.declared import Declared
from freewheel.audit.outcome import Audit
from freewheel.base import console, process
from freewheel.base.errors import AuditError
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.commands.audit import Scope, scope_options
from freewheel.fill import environment, filling, orders, shelf
from freewheel.fill.filling import How, Item
from freewheel.fill.orders import Absent
from freewheel.fill.shelf import Filled
from freewheel.machine.interpreter import find_interpreter
from freewheel.recipe.targets import built_here

_ABSENT = 1  # the exit code where something of the lock is not in the environment


@click.command(
    name="fill",
    short_help="Build what a lock lacks, and make an environment.",
    epilog="Example: freewheel fill uv.lock --no-dev --all-extras --system-packages",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH")
@scope_options
@click.option("--system-packages", is_flag=True, help="Add packages of the image's system.")
@click.option("--twice", is_flag=True, help="Build each twice, and compare.")
@click.option("--retry", is_flag=True, help="Also try again what failed before.")
@click.option(
    "--environment",
    "place",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to make the environment; wheels/filled/environment.",
)
def fill(
    paths: tuple[Path, ...],
    *,
    scope: Scope,
    system_packages: bool,
    twice: bool,
    retry: bool,
    place: Path | None,
) -> int:
    """Build what has no wheel, and make an environment of all that PATH locks.

    PATH is what the audit reads. What Freewheel patches is built with its patches; what has a wheel
    is left to the index; all else is built from its sdist, without patches, and marked unproven.
    """
    process.end_by_sigterm()
    workspace = find_workspace()
    target = scope.target
    if not built_here(str(target)):
        raise AuditError(
            f"wheels for {target} cannot be built on this machine",
            hint="run it on a machine with that platform, or leave out --platform",
        )
    settings = auditing.Settings(target=target, selection=scope.selection)
    how = How(packages=system_packages, twice=twice, retry=retry)
    inputs = auditing.read_all(paths, settings)
    if inputs.dumps:
        raise AuditError(
            f"{next(iter(inputs.dumps))} is a crash dump", hint="audit it; fill needs a lock"
        )
    with console.Board() as board:
        items, results, absent = _gather(workspace, inputs, settings, how, board)
        made = place or workspace.filled / "environment"
        interpreter = find_interpreter(workspace, target.interpreter)
        environment.make(items, made, interpreter)
        found = environment.audit(workspace, made, items, settings, board)
    indexes = {
        "freewheel-filled": shelf.simple(workspace).as_uri() + "/",
        "freewheel": workspace.simple.as_uri() + "/",
    }
    python_range = f"=={target.interpreter.version}.*"
    environment.write_files(workspace.filled, items, indexes, python_range)
    _show(items, results, absent, found)
    console.say(f"environment: {made}")
    console.say(f"for pip, uv and PEP 751: {workspace.filled}/")
    console.say(environment.summary(found))
    return _ABSENT if absent else 0


def _gather(
    workspace: Workspace,
    inputs: auditing.Inputs,
    settings: auditing.Settings,
    how: How,
    board: console.Board,
) -> tuple[list[Item], list[Filled], list[Absent]]:
    """All wheels that are available, those that were built to fill a gap, and what is absent."""
    entries = auditing.merged(given.distributions for given in inputs.givens)
    chosen = auditing.choose_all(workspace, entries, settings, board)
    missing = {c.locked.name for c in chosen.choices if c.wheel is None}
    declared = Declared(workspace, settings.target)
    plan = orders.plan(chosen.choices, chosen.index.ask(missing), declared, settings.target)
    ours, lost = filling.patched(workspace, plan, str(settings.target), board)
    public, unfetched = filling.public(plan, chosen.index, chosen.downloads, board)
    results = filling.fill(workspace, plan.orders, chosen.downloads, how, board)
    filled = [result for result in results if isinstance(result, Filled)]
    unbuilt = [result for result in results if isinstance(result, Absent)]
    items = [
        Item(
            project=one.project,
            version=one.version,
            path=one.path,
            sha256=one.sha256,
            trust="filled",
        )
        for one in filled
    ]
    return [*ours, *public, *items], filled, [*plan.absent, *lost, *unfetched, *unbuilt]


def _show(
    items: Sequence[Item], filled: Sequence[Filled], absent: Sequence[Absent], found: Audit
) -> None:
    """What each part of the environment is, the least trusted last."""
    findings = {finding.name: finding for finding in found.findings}
    for item in items:
        if item.trust in ("proven", "patched"):
            told = "proven" if item.trust == "proven" else "patched here, not proven here"
            console.say(f"{item.project} {item.version}: {told}")
    for one in filled:
        finding = findings.get(one.project)
        console.say(f"{one.project} {one.version}: built, unproven")
        size = f"{one.path.stat().st_size / 1024:.0f} KiB"
        when = "by an earlier run" if one.fresh else f"in {one.seconds:.0f} s"
        modules = finding.modules if finding else None
        counts = f"{modules.own_imported} of {modules.own} modules imported" if modules else ""
        gil = (
            f"turns the GIL on: {', '.join(finding.culprits)}"
            if finding and finding.culprits
            else ""
        )
        console.say(f"    {', '.join(filter(None, (when, size, counts, gil)))}")
        if modules and modules.own_imported:
            smoke = finding.smoke if finding else []
            console.say(f"    {'; '.join(smoke) or 'passes the smoke tests'}")
        if one.again is not None:
            same = "the same bytes twice" if not one.again else "differs when built twice:"
            console.say(f"    {same}")
            for line in one.again:
                console.say(f"      {line}")
    for missing in sorted(absent, key=lambda one: one.project):
        console.say(f"{missing.project} {missing.version}: not in the environment")
        console.say(f"    {missing.cause}")
        console.say(f"    -> {missing.remedy}")
    counted = {
        trust: sum(i.trust == trust for i in items)
        for trust in ("proven", "patched", "public", "filled")
    }
    sums = [f"{count} {trust}" for trust, count in counted.items() if count]
    console.say(", ".join([*sums, f"{len(absent)} absent"]))
