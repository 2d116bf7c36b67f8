"""What the pipeline costs: cold builds against plain cibuildwheel on the same sdist and image.

``nox -s bench-build`` runs it. The two take turns, so that both see the same machine; each round is
a pair, and the median of the pairs' ratios is what counts. Fetched archives, build requirements
and the image are there beforehand; everything else is done anew in each round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from freewheel import console, files, image, inputs, patches, process, sdist, source, wheel
from freewheel.engine import Engine, find_engine
from freewheel.recipe import Recipe, load_recipes
from freewheel.requirements import fetch_requirements
from freewheel.workspace import Workspace, find_workspace

SHARED = ("engine", "interpreters", "requirements", "sources")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """One project's two ways to its wheel."""

    recipe: Recipe
    sdist: sdist.Sdist
    target: str
    requirements: Path
    scratch: Path

    def ours(self, workspace: Workspace) -> float:
        """Seconds of ``freewheel build`` in a checkout without wheels."""
        return ours(workspace, self.scratch / "ours", [self.recipe.name])

    def plain(self, engine: Engine, chosen: image.BuilderImage) -> float:
        """Seconds of cibuildwheel alone."""
        directory = files.empty_directory(self.scratch / "plain")
        config = directory / "cibuildwheel.toml"
        config.write_text(
            wheel.cibuildwheel_config(
                self.sdist.release, self.target, engine, chosen, self.requirements
            )
        )
        words: list[str | Path] = [
            "--only",
            self.target,
            "--config-file",
            config,
            "--output-dir",
            directory / "out",
        ]
        started = time.perf_counter()
        process.run(
            [sys.executable, "-m", "cibuildwheel", *words, self.sdist.path],
            env={**engine.environment, "PYTHONPATH": None},
            log=directory / "log",
        )
        return time.perf_counter() - started


def ours(workspace: Workspace, scratch: Path, projects: list[str]) -> float:
    """Seconds of ``freewheel build`` for those projects, in a checkout without wheels."""
    root = files.empty_directory(scratch)
    for name in ("recipes", "patches"):
        (root / name).symlink_to(workspace.root / name)
    (root / "cache").mkdir()
    for name in SHARED:
        if (workspace.cache / name).exists():
            (root / "cache" / name).symlink_to(workspace.cache / name)
    environment = {
        "PYTHONPATH": str(workspace.root / "src"),
        "FREEWHEEL_CACHE": str(root / "cache"),
        "FREEWHEEL_DATA": str(root / "data"),
    }
    started = time.perf_counter()
    process.run([sys.executable, "-m", "freewheel", "build", *projects], cwd=root, env=environment)
    return time.perf_counter() - started


def fresh(workspace: Workspace, scratch: Path) -> float:
    """Seconds of a ``freewheel build`` that finds nothing to do, in the checkout of ``ours``."""
    environment = {
        "PYTHONPATH": str(workspace.root / "src"),
        "FREEWHEEL_CACHE": str(scratch / "cache"),
        "FREEWHEEL_DATA": str(scratch / "data"),
    }
    started = time.perf_counter()
    process.run([sys.executable, "-m", "freewheel", "build"], cwd=scratch, env=environment)
    return time.perf_counter() - started


def prepare(workspace: Workspace, recipe: Recipe, scratch: Path) -> Contest:
    """Make the sdist that both ways start from, or arrive at."""
    release = recipe.default_release
    target = wheel.host_target(recipe)
    archive = source.fetch(release, workspace.sources)
    tree = source.unpack(archive, files.empty_directory(scratch / "tree"))
    patched = patches.apply_series(tree, release, patches.read_series(release))
    lock = inputs.BUILD_REQUIREMENTS
    made = sdist.make_sdist(
        patched,
        recipe,
        files.empty_directory(scratch / "sdist"),
        baseline=False,
        requirements=fetch_requirements(lock, workspace.requirements),
        log=scratch / "log",
    )
    return Contest(
        recipe=recipe,
        sdist=made,
        target=target,
        requirements=fetch_requirements(lock, workspace.requirements, target=target),
        scratch=scratch,
    )


def row(name: str, ours_seconds: list[float], plain_seconds: list[float]) -> tuple[str, ...]:
    ratios = [mine / other for mine, other in zip(ours_seconds, plain_seconds, strict=True)]
    return (
        name,
        f"{statistics.median(ours_seconds):.1f}",
        f"{statistics.median(plain_seconds):.1f}",
        f"{statistics.median(ratios):.3f}",
        f"{min(ratios):.3f} to {max(ratios):.3f}",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each contest")
    options = parser.parse_args()
    workspace = find_workspace()
    rows = []
    with tempfile.TemporaryDirectory(prefix="freewheel-bench-") as name:
        contests = [
            prepare(workspace, recipe, files.empty_directory(Path(name) / recipe.name))
            for recipe in load_recipes(workspace.recipes, workspace.patches)
        ]
        engine = find_engine(workspace, may_install=True)
        chosen = image.find_or_make_image(workspace, engine, contests[0].target)
        # Everything that the first build on a machine brings is brought before the clock runs.
        ours(workspace, Path(name) / "all", [contest.recipe.name for contest in contests])
        for contest in contests:
            pairs = [
                (contest.ours(workspace), contest.plain(engine, chosen))
                for _ in range(options.pairs)
            ]
            rows.append(row(contest.recipe.name, *map(list, zip(*pairs, strict=True))))
        together = [
            (
                ours(workspace, Path(name) / "all", [contest.recipe.name for contest in contests]),
                sum(contest.plain(engine, chosen) for contest in contests),
            )
            for _ in range(options.pairs)
        ]
        rows.append(row("all three", *map(list, zip(*together, strict=True))))
        idle = [fresh(workspace, Path(name) / "all") for _ in range(options.pairs)]
    console.table(("project", "ours, s", "plain, s", "ratio", "ratios"), rows)
    console.say(f"nothing to do: {statistics.median(idle):.2f} s; {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
