"""``nox -s rehearse-release``: walk through the release workflow on this machine."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from freewheel.base import console
from freewheel.base.errors import FreewheelError
from freewheel.base.workspace import find_workspace
from freewheel.commands.outcomes import show_error
from freewheel.recipe.recipe import choose_recipe, load_recipes

from .release import rehearse
from .workflow import WorkflowError


def main() -> int:
    """Rehearse the release of one wheel for each project that is named; 0 where all went well."""
    parser = argparse.ArgumentParser(prog="nox -s rehearse-release --", description=__doc__)
    parser.add_argument("projects", nargs="*", help="recipes; all by default")
    parser.add_argument("--release", help="of the one project that is named; its newest by default")
    parser.add_argument("--races", action="store_true", help="run ThreadSanitizer, too")
    options = parser.parse_args()
    workspace = find_workspace()
    recipes = load_recipes(workspace.recipes, workspace.patches)
    chosen = [choose_recipe(recipes, name) for name in options.projects] or list(recipes)
    for recipe in chosen:
        release = recipe.release(options.release) if options.release else recipe.default_release
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="freewheel-rehearsal-") as name:
            done = rehearse(
                workspace, recipe.name, release.version, Path(name), races=options.races
            )
        for wheel, digest in done.digests.items():
            console.say(f"{wheel}: {digest}")
        for how, version in done.installed.items():
            console.say(f"installed with {how}: {version}")
        console.say(f"{console.duration(time.monotonic() - started)} in all")
    return 0


if __name__ == "__main__":
    try:
        code = main()
    except WorkflowError as error:
        console.fail(str(error))
        code = 1
    except FreewheelError as error:
        show_error(error)
        code = error.exit_code
    sys.exit(code)
