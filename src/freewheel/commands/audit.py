"""The command of the audit: what is said of it on a terminal, and to other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import click

from freewheel.audit import auditing, declared, outcome, table
from freewheel.audit.crash import advice
from freewheel.audit.inputs.locked import Selection
from freewheel.audit.places import Importing
from freewheel.audit.target import Target, this_platform
from freewheel.audit.verdicts import Finding, Verdict
from freewheel.base import console, files, process
from freewheel.base.errors import AuditIncompleteError
from freewheel.recipe.pythons import DEFAULT, PYTHONS
from freewheel.recipe.targets import PLATFORMS

_FINDINGS = 1  # the exit code where something fails the audit
_PYTHONS = " or ".join(map(str, PYTHONS))
_VERDICTS = [verdict.slug for verdict in Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which part of an input counts, and for what interpreter and platform."""

    python: str
    platform: str | None
    selection: Selection

    @property
    def target(self) -> Target:
        """Raises AuditError for a target that is not known."""
        return Target(self.python, self.platform or this_platform())


def scope_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command that reads locks a Scope, as ``scope``."""

    @wraps(command)
    def gathered(
        *args: Any,  # noqa: ANN401
        python: str,
        platform: str | None,
        groups: tuple[str, ...],
        extras: tuple[str, ...],
        all_groups: bool,
        all_extras: bool,
        no_dev: bool,
        **others: Any,  # noqa: ANN401
    ) -> int:
        selection = Selection(
            groups=groups,
            extras=extras,
            dev=not no_dev,
            all_groups=all_groups,
            all_extras=all_extras,
        )
        scope = Scope(python=python, platform=platform, selection=selection)
        return command(*args, scope=scope, **others)

    for option in (
        click.option("--no-dev", is_flag=True, help="Without the groups of development."),
        click.option("--all-extras", is_flag=True, help="All extras."),
        click.option("--all-groups", is_flag=True, help="All groups."),
        click.option("--extra", "extras", multiple=True, metavar="NAME", help="Also this extra."),
        click.option("--group", "groups", multiple=True, metavar="NAME", help="Also this group."),
        click.option("--platform", metavar="NAME", help=f"{', '.join(PLATFORMS)}; this machine's."),
        click.option("--python", default=str(DEFAULT), metavar="TAG", help=f"{_PYTHONS}."),
    ):
        gathered = option(gathered)
    return gathered


@click.command(
    name="audit",
    short_help="Say what an application needs, from its lock or crash.",
    epilog="Example: freewheel audit uv.lock; freewheel audit crash.txt --lock uv.lock",
)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...")
@scope_options
@click.option(
    "--import",
    "importing",
    type=click.Choice(["container", "here", "no"]),
    default="container",
    help="Where wheels are imported: in a container, on this machine as you, or not at all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; all else goes to stderr.")
@click.option("--schema", is_flag=True, help="Print the schema of that JSON, and end.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page.")
@click.option(
    "--fail-on",
    metavar="VERDICT",
    callback=lambda _context, _option, value: value and threshold(value),
    help=f"Exit with 1 for this verdict and worse ones: {', '.join(_VERDICTS)}, or nothing.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Fail only for what is worse than in this file, which --json wrote.",
)
@click.option(
    "--lock",
    "locks",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Where the versions are that crashed: the application's lock, or its environment.",
)
@click.option("--all", "everything", is_flag=True, help="List the pure Python ones too.")
@click.option("--refresh", is_flag=True, help="Ask the index again; answers are kept for an hour.")
def audit_application(
    paths: tuple[Path, ...],
    *,
    scope: Scope,
    importing: Importing,
    as_json: bool,
    schema: bool,
    html: Path | None,
    fail_on: Verdict | Literal["nothing"] | None,
    baseline: Path | None,
    locks: tuple[Path, ...],
    everything: bool,
    refresh: bool,
) -> int:
    """Say what an application brings to a free-threaded interpreter, and what to do about it.

    PATH is a uv.lock, pylock.toml, poetry.lock, Pipfile.lock, a requirements file, an environment
    or its interpreter, a wheel, or the text that faulthandler wrote when a process crashed.
    """
    if schema:
        console.say(json.dumps(outcome.schema(), indent=1))
        return 0
    if not paths:
        raise click.UsageError(
            "name at least one PATH: a lock, an environment, a wheel, a crash dump"
        )
    if as_json:
        console.keep_stdout_for_data()
    process.end_by_sigterm()
    settings = auditing.Settings(
        target=scope.target,
        selection=scope.selection,
        importing=importing,
        refresh=refresh,
    )
    earlier = outcome.read(baseline) if baseline else None
    inputs = auditing.read_all((*paths, *locks), settings)
    if inputs.dumps and not scope.platform:
        crashed = next(iter(inputs.dumps.values()))
        settings = replace(settings, target=advice.target_of(crashed, settings.target))
        inputs = auditing.read_all((*paths, *locks), settings)
    workspace = declared.find_workspace()
    with console.Board() as board:
        found = auditing.audit(workspace, inputs, settings, board)
    failing = () if fail_on == "nothing" else outcome.failing(found, fail_on, earlier)
    _show(found, failing, as_json=as_json, html=html, everything=everything)
    if failing:
        return _FINDINGS
    if unseen := [finding.name for finding in found.findings if finding.incomplete]:
        raise AuditIncompleteError(
            f"nothing fails the audit, but it could not look at {', '.join(unseen)}",
            hint="the table says why for each, and what to do",
        )
    return 0


def threshold(text: str) -> Verdict | Literal["nothing"]:
    """The verdict that a word means: all of it, or a part that no other has, such as gil."""
    word = text.lower().replace(" ", "-")
    if word == "nothing":
        return "nothing"
    found = [v for v in Verdict if v.slug == word] or [v for v in Verdict if word in v.slug]
    if len(found) != 1:
        raise click.BadParameter(f"{text!r} is none of {', '.join(_VERDICTS)}, nothing")
    return found[0]


def _show(
    found: outcome.Audit,
    failing: tuple[Finding, ...],
    *,
    as_json: bool,
    html: Path | None,
    everything: bool,
) -> None:
    if as_json:
        console.data(outcome.to_json(found))
    else:
        table.show(found, failing, everything=everything)
    if html:
        from freewheel.audit import page  # noqa: PLC0415  a table need not wait for what it needs

        files.write_text(html, page.render(found))
        console.note(f"page: {html}")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(table.markdown(found, failing))
