"""Import extension modules, each in a fresh process, and put them to a smoke test.

A program of its own, for the interpreter that the modules are for: ``python -I -S smoke.py JOB``.
It needs the standard library alone. It prints a line of JSON for each distribution when that is
done. Each import and each test runs in a child process, so that one that crashes, hangs or turns
the GIL on says nothing about another.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import importlib.machinery
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType
from typing import IO, Any, TypeVar

RUNS = 3  # of a test that failed once, so that its count says something
IMPORTERS = 8  # threads that import at once
WARM, VISITORS = 60, 200  # threads that come and go: before memory is measured, and while it is
BATCH = 20
LEAK = 16 * 1024  # bytes that a thread leaves behind, above what an empty one does, to be a leak
INSIDE = 4  # threads that are at work when the process exits
FEW = 6  # modules of a distribution that are all tested one by one after a failure
TESTS = ("threads", "re-import", "come and go", "exit")
Loader = importlib.machinery.ExtensionFileLoader
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")
Facts = dict[str, Any]  # JSON
Failed = tuple[str, str] | None  # how a test ended, and what it said; None where it passed

TAIL = 600  # characters that are kept of what a failed child printed


def main() -> None:
    """Do what the command line asks for: the whole job, or one child's part."""
    if sys.argv[1] == "--child":
        child(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
        return
    # The first process of a container is not ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    limit_memory(job["memory"])
    distributions = job["distributions"]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(job["workers"]) as pool:
        runner = Runner(Path(scratch), job["seconds"])
        empty = runner.run("come and go", [], []).get("left", 0)
        for done in as_completed(pool.submit(examine, runner, one, empty) for one in distributions):
            say({"distribution": done.result()})
    times = os.times()
    say({"processor seconds": round(times.children_user + times.children_system, 1)})


def say(line: Facts) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def limit_memory(most: int) -> None:
    """Limit the address space of the children; not on Windows, which has no such limit."""
    if not most or sys.platform != "linux":
        return
    import resource  # noqa: PLC0415  Windows has no such module

    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# -------------------------------------------------------------------------------- the distribution


def examine(runner: Runner, one: Facts, empty: int) -> Facts:
    """Import every module of a distribution, then test those together that could be imported."""
    modules, paths = one["modules"], one["paths"]
    found = together(runner, modules, paths)
    if not found:
        found = {name: imported(runner, name, paths) for name in modules}
    good = [name for name in modules if found[name]["outcome"] == "imported"]
    tests = []
    for test in TESTS if good else ():
        failures = put_to(runner, test, good, paths, empty)
        tests.append({"test": test, "modules": len(good), "failures": failures})
    return {"digest": one["digest"], "modules": found, "smoke": tests}


def together(runner: Runner, modules: Sequence[str], paths: Sequence[str]) -> Facts:
    """All modules, where one process imports them all and the GIL stays off; else nothing.

    Then none of them can turn it on. Otherwise each has to be looked at in a process of its own.
    """
    done = runner.run("import all", modules, paths)
    failed = set(modules) - set(done.get("loaded", ()))
    if failed or done["outcome"] != "imported" or done.get("culprit"):
        return {}
    return {name: {"outcome": "imported"} for name in modules}


def imported(runner: Runner, name: str, paths: Sequence[str]) -> Facts:
    """One import in a fresh process; and again without the module that turned the GIL on.

    Whoever imports a module that turns the GIL on is a victim, and would look like a culprit.
    """
    found = runner.run("import", [name], paths)
    culprit = found.get("culprit")
    if culprit and culprit["module"] != name:
        again = runner.run("import", [name], paths, blocked=[culprit["module"]])
        found["without"] = again
    return found


def put_to(
    runner: Runner, test: str, modules: Sequence[str], paths: Sequence[str], empty: int
) -> list[Facts]:
    """A test on all modules at once; where that fails, on fewer, to name who fails.

    Few are tested each alone. Among many, halves are tested until one that fails is found.
    """

    def fails(names: Sequence[str]) -> Failed:
        return attempt(runner, test, names, paths, empty)

    if not fails(modules):
        return []
    if len(modules) > FEW:
        guilty = [narrowed(list(modules), fails)]
    else:
        alone = [[name] for name in modules] if len(modules) > 1 else []
        guilty = [names for names in alone if fails(names)] or [list(modules)]
    failures = []
    for names in guilty:
        endings = [ending for ending in (fails(names) for _ in range(RUNS)) if ending]
        if endings:
            ending, said = endings[0]
            one = names if len(names) == 1 else []
            counts = {"modules": one, "runs": RUNS, "failed": len(endings)}
            failures.append({**counts, "ending": ending, "said": said})
    return failures


def narrowed(names: list[str], fails: Callable[[Sequence[str]], Failed]) -> list[str]:
    """One of the modules that fails alone; where none does, the fewest that fail together."""
    while len(names) > 1:
        half = len(names) // 2
        failing = next((part for part in (names[:half], names[half:]) if fails(part)), None)
        if failing is None:
            break
        names = failing
    return names


def attempt(
    runner: Runner, test: str, modules: Sequence[str], paths: Sequence[str], empty: int
) -> Failed:
    """One run of a test: None where it passed, else how it ended and what it said."""
    more: list[Facts] = [{}]
    if test == "exit":
        took = runner.run("import all", modules, paths).get("took", 0)
        more = [{"delay": took / 2}, {"delay": took * 1.2 + 0.2}]
    elif test == "re-import":
        more = [{"make": True}]
    for options in more:
        done = runner.run(test, modules, paths, **options)
        if done.get("stage") == "first" and done["outcome"] != "imported":
            # What the types do without arguments is not what is tested here.
            done = runner.run(test, modules, paths, make=False)
        if done["outcome"] != "imported":
            return done["ending"], done["said"]
        left = (done.get("left", 0) - empty) / VISITORS
        if test == "come and go" and left > LEAK:
            return f"each thread leaves {left / 1024:.0f} KiB behind", ""
    return None


class Runner:
    """Starts the children; each has a directory of its own to work in."""

    def __init__(self, scratch: Path, seconds: float) -> None:
        self.scratch = scratch
        self.seconds = seconds

    def run(
        self,
        test: str,
        modules: Sequence[str],
        paths: Sequence[str],
        **more: float | bool | list[str],
    ) -> Facts:
        """What became of one child, as a dictionary with at least ``outcome``."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as directory:
            answer = Path(directory) / "answer.json"
            spec = {"test": test, "modules": modules, "paths": paths, "answer": str(answer), **more}
            (Path(directory) / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
            compiled = f"pycache_prefix={self.scratch / 'compiled'}"  # of read-only trees
            words = [sys.executable, "-I", "-S", "-X", compiled, __file__, "--child", "spec.json"]
            with tempfile.TemporaryFile(dir=directory) as said:
                code = finish(words, directory, said, self.seconds)
                said.seek(max(0, said.seek(0, os.SEEK_END) - TAIL))
                tail = said.read().decode(errors="replace").strip()
            try:
                found = json.loads(answer.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                found = {}
        return judged(found, code, tail)


def finish(words: Sequence[str], directory: str, said: IO[bytes], seconds: float) -> int | None:
    """The child's exit code, a negative signal, or None where it had to be killed."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "LANG", "SYSTEMROOT", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}
    }
    environment |= {"HOME": directory, "TMPDIR": directory, "TEMP": directory}
    environment |= {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    child = subprocess.Popen(
        words,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if sys.platform == "win32":
            child.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def judged(found: Facts, code: int | None, tail: str) -> Facts:
    """What a child's answer and its end mean."""
    if code == 0 and "outcome" in found:
        return {"ending": "", "said": "", **found}
    if code is None:
        ending = "no end within the time limit"
    elif code < 0:
        ending = signal_name(-code)
    elif code > 0xC0000000:  # noqa: PLR2004  Windows: an exception, not an exit code
        ending = f"exception {code:#x}"
    else:
        ending = f"exit code {code}"
    stage = found.get("stage", "")
    crashed = {"outcome": "hung" if code is None else "crashed", "ending": ending, "said": tail}
    return {**found, **crashed, "stage": stage}


def signal_name(number: int) -> str:
    """A signal's name; those for real time have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# --------------------------------------------------------------------------------------- the child


def child(spec: Facts) -> None:
    """Do one test, and write down what came of it; a crash leaves what was written before."""
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    sys.path += spec["paths"]
    warnings.simplefilter("ignore")
    faulthandler.enable()
    answer = Answer(Path(spec["answer"]))
    for name in spec.get("blocked", ()):
        sys.modules[name] = None  # type: ignore[assignment]  # the import system's own way
    watch_the_gil(answer)
    do = {
        "import": import_one,
        "import all": import_all,
        "threads": import_at_once,
        "re-import": import_again,
        "come and go": come_and_go,
        "exit": exit_inside,
    }
    do[spec["test"]](spec, answer)


class Answer:
    """What is known so far, on disk at every moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: Facts = {}
        self.lock = threading.Lock()

    def note(self, **facts: object) -> None:
        """Add facts to what is known."""
        with self.lock:
            self.facts |= facts
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps(self.facts), encoding="utf-8")
            partial.replace(self.path)


def watch_the_gil(answer: Answer) -> None:
    """Note which module turns the GIL on: the innermost that is loaded while that happens.

    The interpreter decides when it creates and executes a module, so both are looked at.
    """

    def watched(original: Callable[[Loader, Loaded], Result]) -> Callable[[Loader, Loaded], Result]:
        def call(self: Loader, loaded: Loaded) -> Result:
            before = gil_enabled()
            try:
                return original(self, loaded)
            finally:
                if gil_enabled() and not before and "culprit" not in answer.facts:
                    answer.note(culprit={"module": self.name, "path": str(self.path)})

        return call

    for name in ("create_module", "exec_module"):
        setattr(Loader, name, watched(getattr(Loader, name)))


def gil_enabled() -> bool:
    """Whether the GIL is on; the documented way to ask."""
    return bool(sys._is_gil_enabled())  # type: ignore[attr-defined]  # noqa: SLF001


def import_one(spec: Facts, answer: Answer) -> None:
    """Import a module, and say why that failed if it did."""
    (name,) = spec["modules"]
    answer.note(gil_before=gil_enabled())
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001  a module may raise anything
        missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
        said = f"{type(error).__name__}: {error}"[:TAIL]
        answer.note(outcome="not imported", why=said, missing=missing)
        return
    answer.note(outcome="imported", gil=gil_enabled())


def import_all(spec: Facts, answer: Answer) -> None:
    """Import all modules, for the time that it takes."""
    started = time.monotonic()
    loaded = [name for name in spec["modules"] if load([name])]
    answer.note(outcome="imported", loaded=loaded, took=time.monotonic() - started)


def load(names: Iterable[str]) -> list[ModuleType]:
    """Import the modules, and give those that could be."""
    loaded = []
    for name in names:
        with contextlib.suppress(Exception):
            loaded.append(importlib.import_module(name))
    return loaded


def import_at_once(spec: Facts, answer: Answer) -> None:
    """First import from several threads at once."""
    barrier = threading.Barrier(IMPORTERS)
    problems: list[tuple[str, str]] = []

    def work() -> None:
        barrier.wait()
        for name in spec["modules"]:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001  a module may raise anything
                problems.append((type(error).__name__, f"{name}: {error}"[:TAIL]))

    run_threads([threading.Thread(target=work) for _ in range(IMPORTERS)])
    touch(load(spec["modules"]))
    if problems:
        answer.note(outcome="failed", ending=problems[0][0], said=problems[0][1])
    else:
        answer.note(outcome="imported")


def import_again(spec: Facts, answer: Answer) -> None:
    """Import, drop from sys.modules, collect, import again. A clean refusal is no failure."""
    answer.note(stage="first")
    use = make if spec["make"] else touch
    use(load(spec["modules"]))
    answer.note(stage="again")
    tops = {name.partition(".")[0] for name in spec["modules"]}
    refused = ""
    for _ in range(3):
        for name in [name for name in sys.modules if name.partition(".")[0] in tops]:
            del sys.modules[name]
        gc.collect()
        for name in spec["modules"]:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001  a module may raise anything
                refused = f"{type(error).__name__}: {error}"[:TAIL]
        use([sys.modules[name] for name in spec["modules"] if name in sys.modules])
    gc.collect()
    answer.note(outcome="imported", refused=refused)


def come_and_go(spec: Facts, answer: Answer) -> None:
    """Let threads come, look at the modules and go, and measure what memory they leave behind."""
    modules = load(spec["modules"])

    def visit(number: int) -> None:
        for _ in range(0, number, BATCH):
            visitors = [threading.Thread(target=touch, args=(modules,)) for _ in range(BATCH)]
            run_threads(visitors)
        gc.collect()

    visit(WARM)
    before = resident()
    visit(VISITORS)
    answer.note(outcome="imported", left=max(0, resident() - before))


def exit_inside(spec: Facts, answer: Answer) -> None:
    """Let the process exit while threads import the modules, or are at work with them."""

    def work() -> None:
        modules = load(spec["modules"])
        while True:
            touch(modules)

    for _ in range(INSIDE):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(spec["delay"])
    answer.note(outcome="imported")


def touch(modules: Iterable[ModuleType]) -> None:
    """Look at everything that the modules have, as a debugger would."""
    for module in modules:
        for name in dir(module):
            with contextlib.suppress(Exception):
                repr(getattr(module, name))


def make(modules: Iterable[ModuleType]) -> None:
    """Look at everything that the modules have, and make an object of each of their types.

    A type that was left without its module's state crashes here, and not before.
    """
    touch(modules)
    for module in modules:
        for kind in list(vars(module).values()):
            if isinstance(kind, type) and kind.__module__ == module.__name__:
                with contextlib.suppress(Exception):
                    touch_object(kind())


def touch_object(thing: object) -> None:
    """Look at an object's attributes."""
    for name in dir(thing):
        with contextlib.suppress(Exception):
            getattr(thing, name)


def run_threads(threads: Sequence[threading.Thread]) -> None:
    """Start threads and wait until all have ended."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def resident() -> int:
    """The memory of this process in bytes; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * mmap.PAGESIZE


if __name__ == "__main__":
    main()
