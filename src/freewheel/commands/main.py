"""The command line: which verbs there are, and for whom; runs one, reports its error, and exits.

A verb's module is loaded when the verb is called, so that a build with nothing to do need not wait
for what only a proof needs.
"""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from typing import NoReturn

import click

from freewheel import __version__
from freewheel.base import console, trouble
from freewheel.commands.outcomes import show_error

# For whom a verb is: its name, and where its function is.
VERBS = {
    "To begin: what does an application need?": {
        "audit": "audit:audit_application",
        "fill": "fill:fill",
    },
    "To build and prove wheels": {
        "build": "build:build",
        "prove": "proof:prove",
        "reproduce": "build:reproduce_wheels",
        "bench": "proof:bench",
        "soak": "proof:soak",
        "tsan": "proof:tsan",
        "doctor": "doctor:doctor",
    },
    "To trust a wheel": {
        "demo": "demo:demo",
        "verify": "trust:verify_wheels",
        "explain": "trust:explain",
        "rebuild": "trust:rebuild_wheel",
    },
    "To run an index": {
        "publish": "publish:publish",
        "serve": "publish:serve",
        "site": "publish:make_site",
    },
    "To add a project and keep it up to date": {
        "new-recipe": "upkeep:begin_recipe",
        "watch": "upkeep:watch_upstream",
        "refresh": "upkeep:refresh_series",
        "update-pins": "upkeep:update_pins",
        "docs": "upkeep:renew_docs",
        "lock-wheels": "build:lock_wheels",
    },
    "For the jobs of a release": {
        "matrix": "release:matrix",
        "compare": "release:compare",
        "receive": "release:receive",
        "attest": "trust:attest",
        "certificate-schema": "proof:certificate_schema",
    },
}
_PLACES = {verb: place for verbs in VERBS.values() for verb, place in verbs.items()}


class Verbs(click.Group):
    """The verbs, loaded when they are called, and listed by reader."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _PLACES:
            nearest = difflib.get_close_matches(cmd_name, _PLACES, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            ctx.fail(f"No such command {cmd_name!r}.{hint}")
        module, _, function = _PLACES[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"freewheel.commands.{module}"), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for reader, verbs in VERBS.items():
            with formatter.section(reader):
                found = {verb: self.get_command(ctx, verb) for verb in verbs}
                width = formatter.width - max(map(len, _PLACES)) - 6
                rows = [(verb, one.get_short_help_str(width)) for verb, one in found.items() if one]
                formatter.write_dl(rows)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands() -> None:
    """Build, prove and publish patched wheels for free-threaded CPython.

    Each verb has a --help of its own, with an example.
    """


def main() -> NoReturn:
    """Run the command line; the exit code is 0, the error's own, or 130 when interrupted."""
    try:
        code = _run()
    except OSError:  # not even the error could be printed
        code = 1
    console.give_up()
    sys.exit(code)


def _run() -> int:
    """The exit code. Whatever happened, the user reads what to do next, and no traceback."""
    try:
        return commands.main(standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        console.fail("interrupted; nothing half-written was left in wheels/")
        return 130
    except Exception as error:  # noqa: BLE001  the system's trouble, and faults of Freewheel
        explained = trouble.explained(error)
        show_error(explained)
        return explained.exit_code
