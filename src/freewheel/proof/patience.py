"""When a program hangs: it makes no progress although it gets the processor.

A program has so many seconds *of its own*. On a quiet machine they pass as the clock does. On a
busy one they pass more slowly, by as much as the program gets less: time in which one of its
threads waited for a processor is not its own, nor is time in which the machine was stalled for
memory or disks. What it waits for may be another process, such as a server, that gets no more.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from freewheel.base import process
from freewheel.base.errors import CommandFailed
from freewheel.machine.host import read_text

STACKS = Path(__file__).with_name("stacks.py")
_BOUND = 20.0  # times its own seconds, on the clock: on such a machine nothing can be told
_TOTAL = re.compile(r"^some .* total=(\d+)$", re.MULTILINE)  # microseconds, of /proc/pressure
_KEPT = 6000  # characters of the stacks that are kept, Python's and C's each


class Patience:
    """Watches over one run of a program that has ``seconds`` of its own."""

    def __init__(self, seconds: float, python: Path) -> None:
        self.bound = seconds * _BOUND
        self.hangs = False
        self.stacks = ""
        self._left = seconds
        self._python = python
        self._looked = time.monotonic()
        self._waited: dict[str, int] = {}
        self._stalled = _stalled()
        self._loads = [runnable() / processors()]

    @property
    def load(self) -> float:
        """How many threads of the machine ran, or could have, for each processor: the mean."""
        return round(statistics.mean(self._loads), 1)

    def give_up(self, pid: int) -> bool:
        """Whether the time of the program is used up; if so, its stacks are taken."""
        family = [pid, *_children(pid)]
        self._left -= self._own_time(family)
        if self._left > 0:
            return False
        self.hangs = True
        self.stacks = take_stacks(family, self._python)
        return True

    def _own_time(self, family: Iterable[int]) -> float:
        """How many seconds of its own the program had since the last look."""
        now, waited, stalled = time.monotonic(), _waiting(family), _stalled()
        seconds = now - self._looked
        delays = [each - self._waited.get(task, 0) for task, each in waited.items()]
        delay = max(delays, default=0) / 1e9
        running = runnable()
        share = min(1.0, processors() / max(1, running))
        stall = (stalled - self._stalled) / 1e6
        self._looked, self._waited, self._stalled = now, waited, stalled
        self._loads.append(running / processors())
        return max(0.0, min(seconds - max(delay, stall), seconds * share))


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def runnable() -> float:
    """How many threads of the machine run or could run now; where it does not say, of late."""
    found = re.match(r"(?:\S+ ){3}(\d+)/", read_text("/proc/loadavg"))
    if found:
        return float(found[1]) - 1  # without the thread that reads this
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _stalled() -> int:
    """Microseconds in which something was stalled for memory or disks, since the machine is up."""
    totals = [_TOTAL.search(read_text(f"/proc/pressure/{what}")) for what in ("memory", "io")]
    return max((int(total[1]) for total in totals if total), default=0)


def _children(pid: int) -> Iterator[int]:
    """The processes that the process started, and those that they did."""
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in read_text(str(listing)).split():
            yield int(child)
            yield from _children(int(child))


def _waiting(family: Iterable[int]) -> dict[str, int]:
    """Nanoseconds that each thread has waited for a processor, by its id."""
    found = {}
    for pid in family:
        for statistic in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            numbers = read_text(str(statistic)).split()
            if numbers:  # time on a processor, time waiting for one, turns
                found[statistic.parent.name] = int(numbers[1])
    return found


def take_stacks(family: Iterable[int], python: Path) -> str:
    """The stacks of all threads of processes of that interpreter, as far as the machine shows them.

    Python's by the interpreter's own reader of another process's memory, C's by gdb or py-spy where
    one of them is installed, and what each thread waits for from /proc.
    """
    said = []
    for pid in family:
        if not _runs(pid, python):
            continue  # what started it
        said.append(_output([python, "-I", "-S", STACKS, str(pid)])[:_KEPT])
        if gdb := shutil.which("gdb"):
            # What the process has loaded may bring scripts for gdb: they are not run.
            quiet = ("-nx", "-batch", "-iex", "set auto-load off")
            words = [gdb, *quiet, "-p", str(pid), "-ex", "thread apply all bt 25"]
            lines = _output([*words]).splitlines()
            said.append("\n".join(line for line in lines if line.startswith(("#", "Thr")))[:_KEPT])
        elif spy := shutil.which("py-spy"):
            said.append(_output([spy, "dump", "--native", "--pid", str(pid)])[:_KEPT])
        else:
            said.append("(the stacks of C need gdb or py-spy)")
    return "\n".join(said)


def _runs(pid: int, python: Path) -> bool:
    """Whether that is what a process runs, as far as the machine tells."""
    try:
        return Path(f"/proc/{pid}/exe").samefile(python)
    except OSError:
        return True


def _output(words: list[str | Path]) -> str:
    try:
        done = process.run(words, timeout=60, check=False)
    except CommandFailed as error:
        return f"({error.output})"
    return done.stdout or done.stderr
