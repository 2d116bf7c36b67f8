"""How often each probe fails, on both wheels, on a quiet machine and beside busy processes.

A probe is steady if it says the same under any load: the baseline fails in at least 95 % of its
runs, the patched wheel in none. Runs are made one at a time. The table is Markdown, for
docs/proof.md; beside each rate stands the load, in threads for each processor. Each run is kept as
soon as it has ended, so the same command goes on where another stopped, and a machine can take
its time: project by project, one load after the other, and at last all, which shows the table.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby

from freewheel.base import console, files, process
from freewheel.base.console import Board
from freewheel.base.errors import FreewheelError
from freewheel.base.workspace import Workspace, find_workspace
from freewheel.commands.outcomes import show_error
from freewheel.commands.proof import built_cases
from freewheel.commands.selection import Choice
from freewheel.machine import facts
from freewheel.machine.interpreter import find_interpreter
from freewheel.proof import control
from freewheel.proof.cases import Case, WheelName, environments_of
from freewheel.proof.form import Tally
from freewheel.proof.programs import Probe
from freewheel.proof.result_cache import ResultCache
from freewheel.proof.running import run_program
from freewheel.proof.services import running_services, services_of
from freewheel.proof.trials import RUNS, subject

BUSY = "while True: pass"


def main() -> None:
    """Run the probes that the words name, and show the table."""
    parser = argparse.ArgumentParser(prog="nox -s bench -- probes", description=__doc__)
    parser.add_argument("projects", nargs="*", help="all recipes when none is named")
    parser.add_argument("--probe", action="append", metavar="ID", help="such as G10; repeatable")
    parser.add_argument("--patched", type=int, default=300, help="runs on the patched wheel")
    parser.add_argument("--baseline", type=int, default=60, help="runs on the baseline wheel")
    parser.add_argument("--busy", type=int, default=8, help="busy processes, 0 for none")
    parser.add_argument("--only-busy", action="store_true", help="not on a quiet machine too")
    parser.add_argument("--afresh", action="store_true", help="forget the runs that are kept")
    options = parser.parse_args()
    process.end_by_sigterm()
    workspace = find_workspace()
    loads = [*([] if options.only_busy else [0]), *([options.busy] if options.busy else [])]
    with Board() as board:
        chosen = built_cases(workspace, Choice(projects=tuple(options.projects)), board)
        found = [
            (case, *row) for case in chosen for row in rates(workspace, case, board, options, loads)
        ]
    show(found, loads)


def rates(
    workspace: Workspace,
    case: Case,
    board: Board,
    options: argparse.Namespace,
    loads: Sequence[int],
) -> Iterator[tuple[Probe, list[tuple[Tally, Tally]]]]:
    """What came of each probe that a patch claims to fix: by load, on the baseline and patched."""
    chosen = [
        probe
        for probe in case.probes
        if case.patches_for(probe.defect) and (not options.probe or probe.defect in options.probe)
    ]
    scratch = files.empty_directory(workspace.work / f"rates-{case.slug}")
    made = environments_of(case, scratch, find_interpreter(workspace, case.python))
    kept = ResultCache(workspace.cache / "rates")
    with (
        files.locked(workspace.locks / "proof.lock", what="a proof"),
        running_services(chosen, made, scratch) as (environments, services),
    ):

        def tally(probe: Probe, wheel: WheelName, load: int) -> Tally:
            about = subject(probe, environments[wheel], work=None)
            about = replace(about, facts={**about.facts, "beside": str(load)})
            wanted: int = getattr(options, wheel)
            runs = ([] if options.afresh else kept.read(about, RUNS)) or []
            given = services_of(probe, services)
            with busy(workspace, load if len(runs) < wanted else 0):
                while len(runs) < wanted:
                    runs.append(run_program(probe, environments[wheel], scratch, services=given))
                    kept.write(about, RUNS, runs)
            return control.tally(runs[:wanted])

        for probe in chosen:
            row = []
            for load in loads:
                name = f"{probe.defect} beside {load} busy processes" if load else probe.defect
                with board.stage(case.title, name):
                    row.append((tally(probe, "baseline", load), tally(probe, "patched", load)))
            yield probe, row
    shutil.rmtree(scratch)


@contextmanager
def busy(workspace: Workspace, number: int) -> Iterator[None]:
    """So many processes that always have something to do."""
    log = workspace.logs / "busy.log"
    started = [process.start([sys.executable, "-c", BUSY], log=log) for _ in range(number)]
    try:
        yield
    finally:
        for one in started:
            one.stop()


def show(
    found: Sequence[tuple[Case, Probe, list[tuple[Tally, Tally]]]], loads: Sequence[int]
) -> None:
    """A table of Markdown for each project, and what does not hold."""
    names = [f"beside {load} busy processes" if load else "quiet" for load in loads]
    machine = facts.look()
    console.say(f"{machine.processor}, {machine.processors} processors, {machine.system}")
    console.say(f"{datetime.now(UTC):%-d %B %Y}")
    for title, rows in groupby(found, key=lambda row: row[0].title):
        console.say()
        heads = [f"{wheel}, {name}" for name in names for wheel in ("baseline", "patched")]
        console.say(f"| {title} | {' | '.join(heads)} |")
        console.say(f"|---|{'---|' * len(heads)}")
        for _, probe, tallies in rows:
            cells = [rate(tally) for both in tallies for tally in both]
            console.say(f"| {probe.defect} | {' | '.join(cells)} |")


def rate(tally: Tally) -> str:
    """Failures of runs, with the load, and what could not run."""
    rest = f", {tally.not_run} not run" if tally.not_run else ""
    return f"{tally.failures} of {tally.runs}{rest} (load {tally.load:.0f})"


if __name__ == "__main__":
    try:
        main()
    except FreewheelError as error:
        show_error(error)
        sys.exit(error.exit_code)
