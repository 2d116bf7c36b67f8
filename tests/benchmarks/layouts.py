"""What the patches cost and gain over many layouts of the code in memory.

``nox -s bench -- layouts httptools`` runs it. One and the same code takes up to a third longer
where it lies badly in memory, and any change moves it, so a figure of one pair of wheels says
little. Here the sources are compiled once: without patches, with them, and without some of them.
The assembler code of each is then linked many times, with each function moved by a random multiple
of 16 bytes and the objects in random order. A function, or an object, of one name is moved alike in
all builds of a layout. These take turns in one process for each layout (turns.py).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shlex
import shutil
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import console, files, process
from freewheel.base.errors import FreewheelError, PatchError, ProofError
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.build import patches
from freewheel.build.wheel import host_target
from freewheel.commands.outcomes import show_error
from freewheel.machine.interpreter import Interpreter, find_interpreter
from freewheel.proof.compiling import Compilation
from freewheel.proof.programs import Benchmark, load_programs
from freewheel.proof.speed.scaling import in_turn, ratio_of
from freewheel.recipe.recipe import Recipe, Release, choose_recipe, load_recipes
from tests.benchmarks.default_cpython import FLAGS, system_compiler

_TURNS = Path(__file__).with_name("turns.py")
# Whose extension modules are C, and whose benchmark needs no server.
_PROJECTS = ("httptools",)
_STEP, _STEPS = 16, 16  # bytes, as gcc aligns functions; a function moves by 0 to 15 of them
_TIMEOUT = 300.0  # seconds for one call of the compiler, or for measuring one layout

UNPATCHED, PATCHED = "unpatched", "patched"

# Records its words, a line for each and an empty one at the end, and keeps the assembler code.
_COMPILER = """\
#!/bin/sh
{{ printf '%s\\n' "$@"; echo; }} >> {record}
exec cc "$@" -g0 -save-temps=obj
"""
_FUNCTION = re.compile(r"^(\s+\.type\s+(\S+?),\s*[@%]function\n)(?=\2:)", re.MULTILINE)

Times = dict[str, dict[str, list[float]]]  # nanoseconds in each layout, by case and variant


# ------------------------------------------------------------------------------------- layouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to lay code out, the same for all that has the same names."""

    seed: int
    number: int

    def chance(self, name: str) -> random.Random:
        """What is random about that function or object in this layout."""
        return random.Random(f"{self.seed} {self.number} {name}")

    def moved(self, assembler: str) -> str:
        """The code with room before each function, after the directive that aligns it."""

        def move(match: re.Match[str]) -> str:
            return f"{match[1]}\t.skip {_STEP * self.chance(match[2]).randrange(_STEPS)}\n"

        code, functions = _FUNCTION.subn(move, assembler)
        if not functions:
            raise ProofError(
                "the compiler's assembler code has no function that could be moved",
                hint="this needs gcc or clang on a system with ELF, such as Linux",
            )
        return code

    def shuffled(self, objects: Sequence[str]) -> list[str]:
        """Object files in the order in which they are linked."""
        return sorted(objects, key=lambda name: self.chance(name).random())


def commands(record: str) -> list[list[str]]:
    """The words of each call of the compiler that was recorded."""
    return [call.split("\n") for call in record.strip("\n").split("\n\n")]


# ------------------------------------------------------------------------------------ variants


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A compiled source tree; ``package`` is what its wheel holds, ``links`` how each module was.

    The words of ``links`` are those of the compiler, relative to ``tree``.
    """

    name: str
    tree: Path
    package: Path
    links: tuple[list[str], ...]

    def lay_out(self, layout: Layout, directory: Path) -> Path:
        """The package in ``directory``, its modules linked anew."""
        shutil.copytree(self.package, directory)
        for words in self.links:
            output = words[words.index("-o") + 1]
            objects = [word for word in words if word.endswith(".o")]
            for name in objects:
                source = (self.tree / name).with_suffix(".s").read_text(encoding="utf-8")
                # Beside the object that the build made: where it was made does not matter.
                moved = (self.tree / name).with_suffix(".moved.s")
                moved.write_text(layout.moved(source), encoding="utf-8")
                self._cc("-c", moved, "-o", self.tree / name)
            (module,) = directory.rglob(Path(output).name)
            rest = [word for word in words if word not in {*objects, "-o", output}]
            self._cc(*layout.shuffled(objects), *rest, "-o", module)
        return directory

    def _cc(self, *words: str | Path) -> None:
        process.run(["cc", *words], cwd=self.tree, timeout=_TIMEOUT)


def compile_variant(
    workspace: Workspace,
    recipe: Recipe,
    release: Release,
    interpreter: Interpreter,
    name: str,
    series: tuple[patches.Patch, ...],
    scratch: Path,
) -> Variant:
    """Build the wheel as the proof does, and keep what the compiler was asked for."""
    record, compiler = scratch / "record", scratch / "compiler"
    compiler.write_text(_COMPILER.format(record=shlex.quote(str(record))), encoding="utf-8")
    compiler.chmod(0o755)
    build = Compilation(
        workspace=workspace,
        recipe=recipe,
        release=release,
        target=host_target(recipe, release),
        baseline=not series,
        series=series,
        interpreter=interpreter,
        identity={},
        variables=lambda _: {**dict.fromkeys(FLAGS), "CC": str(compiler)},
        check=lambda _: None,
        how=f"with the system's compiler ({name})",
        prefix="layouts",
    )
    try:
        made = build.make(scratch)
    except PatchError as error:
        if name in {UNPATCHED, PATCHED}:
            raise
        raise PatchError(
            f"the patches do not apply {name}",
            problems=[error.summary],
            hint="leave out those that build on it too: --without PATCH,PATCH",
        ) from error
    with zipfile.ZipFile(made.path) as wheel:
        wheel.extractall(scratch / "package")
    calls = commands(record.read_text(encoding="utf-8"))
    links = tuple(words for words in calls if "-shared" in words)
    return Variant(name=name, tree=made.tree, package=scratch / "package", links=links)


def choose_series(release: Release, without: Sequence[str]) -> dict[str, tuple[patches.Patch, ...]]:
    """The patches of each variant by its name.

    Each of ``without`` makes one: parts of the names of patches, by commas. Raises PatchError where
    one does not tell which patch is meant.
    """
    series = patches.read_series(release)
    chosen = {UNPATCHED: (), PATCHED: series}
    for words in without:
        left_out = [_choose_patch(series, word) for word in words.split(",")]
        name = "without " + ", ".join(patch.name.partition("-")[0] for patch in left_out)
        chosen[name] = tuple(patch for patch in series if patch not in left_out)
    return chosen


def _choose_patch(series: Sequence[patches.Patch], word: str) -> patches.Patch:
    found = [patch for patch in series if word in patch.name]
    if len(found) != 1:
        raise PatchError(
            f"--without {word}: fits {len(found)} of the patches, not one",
            problems=[patch.name for patch in found or series],
            hint="write more of the name of the one that is meant",
        )
    return found[0]


# ------------------------------------------------------------------------------------ measuring


def measure(
    program: Benchmark,
    cases: Sequence[str],
    variants: Sequence[Variant],
    layouts: Sequence[Layout],
    interpreter: Interpreter,
    scratch: Path,
) -> Iterator[dict[str, dict[str, float]]]:
    """In each layout: nanoseconds of processor time of an operation, by case and variant."""
    for layout in layouts:
        room = files.empty_directory(scratch / "layout")
        order = in_turn(variants, layout.number)
        directories = [
            variant.lay_out(layout, room / str(number)) for number, variant in enumerate(order)
        ]
        words: list[str | Path] = [program.path, ",".join(cases), *directories]
        # A build that is not made to run without the GIL would turn it on for all.
        answer = process.run(
            [interpreter.path, "-X", "gil=0", "-W", "ignore", _TURNS, *words],
            cwd=room,
            env=process.confined(Path("no-home").absolute()),
            timeout=_TIMEOUT,
        )
        names = [variant.name for variant in order]
        yield {
            case: dict(zip(names, times, strict=True))
            for case, times in json.loads(answer.stdout).items()
        }


def rows(times: Times) -> list[tuple[str, ...]]:
    """A line of the table for each case."""
    return [
        (
            case,
            _time(found[UNPATCHED]),
            *(_ratio(t, found[UNPATCHED]) for name, t in found.items() if name != UNPATCHED),
            " ".join(f"{max(t) / min(t):.2f}" for t in found.values()),
        )
        for case, found in times.items()
    ]


def _time(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.0f} ({min(times):.0f} to {max(times):.0f})"


def _ratio(times: Sequence[float], unpatched: Sequence[float]) -> str:
    medians = statistics.median(times) / statistics.median(unpatched)
    each = ratio_of([mine / other for mine, other in zip(times, unpatched, strict=True)])
    return f"{medians:.2f}, {each.median:.2f} ({each.lowest:.2f} to {each.highest:.2f})"


def show(times: Times) -> None:
    """Print the table, and how it is read."""
    names = list(next(iter(times.values())))
    console.table(("case", f"{UNPATCHED}, ns", *names[1:], "worst by best"), rows(times))
    console.say(f"time by that of {UNPATCHED}: ratio of the medians, median of the layouts' ratios")
    console.say(f"(their extremes); worst layout by best one of: {'; '.join(names)}")


# ---------------------------------------------------------------------------------- command line


def run(options: argparse.Namespace) -> None:
    """Compile, measure each layout, and print the table."""
    workspace = find_workspace()
    recipe = choose_recipe(load_recipes(workspace.recipes, workspace.patches), options.project)
    release = recipe.release(options.release) if options.release else recipe.default_release
    (program,) = load_programs(workspace.probes, recipe.name).benchmarks
    if unknown := set(options.only or ()) - set(program.cases):
        raise ProofError(
            f"no case {', '.join(sorted(unknown))} in {program.path.name}",
            hint=f"it has {', '.join(program.cases)}",
        )
    cases = options.only or list(program.cases)
    compiler = system_compiler("to lay code out with")
    interpreter = find_interpreter(workspace)
    chosen = choose_series(release, options.without)
    with tempfile.TemporaryDirectory(prefix="freewheel-layouts-") as scratch:
        variants = []
        for number, (name, series) in enumerate(chosen.items()):
            console.note(f"{release.project} {release.version}, {name}: compile")
            room = files.empty_directory(Path(scratch) / str(number))
            variants.append(
                compile_variant(workspace, recipe, release, interpreter, name, series, room)
            )
        times: Times = {case: {name: [] for name in chosen} for case in cases}
        layouts = [Layout(seed=options.seed, number=n) for n in range(options.layouts)]
        found = measure(program, cases, variants, layouts, interpreter, Path(scratch))
        for number, one in enumerate(found, 1):
            console.note(f"layout {number} of {options.layouts}")
            for case in cases:
                for name in chosen:
                    times[case][name].append(one[case][name])
    show(times)
    console.say(
        f"{release.project} {release.version}, {options.layouts} layouts, seed "
        f"{options.seed}; {compiler}"
    )
    if options.json:
        about = {"release": release.version, "seed": options.seed, "compiler": compiler}
        files.write_text(options.json, json.dumps({**about, "nanoseconds": times}, indent=1) + "\n")


def main() -> int:
    """Print the table; 0 unless something was in the way."""
    parser = argparse.ArgumentParser(prog="nox -s bench -- layouts", description=__doc__)
    parser.add_argument("project", choices=_PROJECTS)
    parser.add_argument("--release", metavar="X", help="the newest by default")
    parser.add_argument("--layouts", type=int, default=16, metavar="N")
    parser.add_argument("--seed", type=int, default=1, help="of what is random about the layouts")
    parser.add_argument("--only", action="append", metavar="CASE", help="repeatable")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="PATCH[,PATCH]",
        help="measure the patched code without these patches too, each told by a part of its "
        "name; repeatable",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the times there")
    options = parser.parse_args()
    if options.layouts < 1:
        parser.error("--layouts: one at least")
    try:
        run(options)
    except FreewheelError as error:
        show_error(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
