"""What the pipeline costs: cold builds against plain cibuildwheel on the same sdist and image.

``nox -s bench -- build`` runs it. The two take turns, so that both see the same machine; each round
is a pair, and the median of the pairs' ratios is what counts. Fetched archives, build requirements
and the image are there beforehand; everything else is done anew in each round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import console, files, process
from freewheel.base.workspace import Workspace, find_workspace, link_checkout
from freewheel.build import patches, sdist, source, wheel
from freewheel.build.workshop import workshop_for
from freewheel.machine import image, requirements
from freewheel.machine.engine import Engine, find_engine
from freewheel.machine.interpreter import find_interpreter
from freewheel.machine.requirements import fetch_requirements
from freewheel.recipe.recipe import Recipe, choose_recipe, load_recipes


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """One project's two ways to its wheel."""

    recipe: Recipe
    sdist: sdist.Sdist
    target: str
    requirements: Path
    scratch: Path

    def plain(self, engine: Engine, builder: image.BuilderImage) -> float:
        """Seconds of cibuildwheel alone."""
        directory = files.empty_directory(self.scratch / "plain")
        config = directory / "cibuildwheel.toml"
        config.write_text(
            wheel.cibuildwheel_config(
                self.sdist,
                self.recipe.build,
                self.target,
                wheel.Container(engine=engine, image=builder),
                self.requirements,
            )
        )
        words: list[str | Path] = ["--only", self.target, "--config-file", config]
        started = time.perf_counter()
        process.run(
            [
                *(sys.executable, "-m", "cibuildwheel", *words),
                *("--output-dir", directory / "out", self.sdist.path),
            ],
            env={**engine.environment, "PYTHONPATH": None},
            log=directory / "log",
        )
        return time.perf_counter() - started


def race(
    workspace: Workspace,
    contests: Sequence[Contest],
    engine: Engine,
    builder: image.BuilderImage,
    pairs: int,
) -> list[tuple[float, float]]:
    """Ours, all projects in one run, and plain cibuildwheel, one after the other; in turn."""
    names = [contest.recipe.name for contest in contests]
    return [
        (
            ours(workspace, contests[-1].scratch / "ours", names),
            sum(contest.plain(engine, builder) for contest in contests),
        )
        for _ in range(pairs)
    ]


def ours(workspace: Workspace, scratch: Path, projects: list[str]) -> float:
    """Seconds of ``freewheel build`` for those projects, in a checkout without wheels."""
    root = files.empty_directory(scratch)
    return timed(root, link_checkout(workspace, root), projects)


def fresh(workspace: Workspace, root: Path, projects: list[str]) -> float:
    """Seconds of a ``freewheel build`` that finds nothing to do, in the checkout of ``ours``."""
    return timed(root, link_checkout(workspace, root), projects)


def timed(root: Path, environment: Mapping[str, str], projects: list[str]) -> float:
    """Seconds of the command line."""
    started = time.perf_counter()
    process.run([sys.executable, "-m", "freewheel", "build", *projects], cwd=root, env=environment)
    return time.perf_counter() - started


def prepare(workspace: Workspace, recipe: Recipe, scratch: Path) -> Contest:
    """Make the sdist that both ways start from, or arrive at."""
    release = recipe.default_release
    target = wheel.host_target(recipe, release)
    archive = source.fetch(release, workspace.sources)
    tree = source.unpack(archive, files.empty_directory(scratch / "tree"))
    patched = patches.apply_series(tree, release, patches.read_series(release))
    lock = requirements.build_lock(recipe.build.requires)
    with workshop_for(
        workspace, lock, scratch=scratch, target=target, interpreter=find_interpreter(workspace)
    ) as workshop:
        made = sdist.make_sdist(
            patched,
            recipe,
            files.empty_directory(scratch / "sdist"),
            baseline=False,
            workshop=workshop,
            log=scratch / "log",
        )
    return Contest(
        recipe=recipe,
        sdist=made,
        target=target,
        requirements=fetch_requirements(lock, workspace.requirements, target=target),
        scratch=scratch,
    )


def row(name: str, pairs: Sequence[tuple[float, float]]) -> tuple[str, ...]:
    """A line of the table."""
    ratios = [mine / other for mine, other in pairs]
    return (
        name,
        f"{statistics.median(mine for mine, _ in pairs):.1f}",
        f"{statistics.median(other for _, other in pairs):.1f}",
        f"{statistics.median(ratios):.3f}",
        f"{min(ratios):.3f} to {max(ratios):.3f}",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each contest")
    parser.add_argument("--project", action="append", help="only this one; repeatable")
    options = parser.parse_args()
    workspace = find_workspace()
    recipes = load_recipes(workspace.recipes, workspace.patches)
    chosen = [choose_recipe(recipes, name) for name in options.project or ()] or recipes
    with tempfile.TemporaryDirectory(prefix="freewheel-bench-") as name:
        scratch = Path(name)
        contests = [
            prepare(workspace, recipe, files.empty_directory(scratch / recipe.name))
            for recipe in chosen
        ]
        engine = find_engine(workspace, may_install=True)
        builder = image.find_or_make_image(workspace, engine, contests[0].target)
        find_interpreter(workspace)
        rows = [
            row(contest.recipe.name, race(workspace, [contest], engine, builder, options.pairs))
            for contest in contests
        ]
        if len(contests) > 1:
            together = race(workspace, contests, engine, builder, options.pairs)
            rows.append(row("all at once", together))
        names = [contest.recipe.name for contest in contests]
        idle = [fresh(workspace, contests[-1].scratch / "ours", names) for _ in range(5)]
    console.table(("project", "ours, s", "plain, s", "ratio", "ratios"), rows)
    console.say(f"nothing to do: {statistics.median(idle):.2f} s; {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
