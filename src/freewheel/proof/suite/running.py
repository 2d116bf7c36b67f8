"""Stage *upstream's suite*: the tests in a release's sdist, run on a wheel with the GIL off.

A test may crash or hang: pytest-xdist runs them in a process of its own, and starts another one
where that dies, so the death is one test's result. Where it hangs, CPython's own watchdog ends the
process; it needs no thread state, so it also ends a process whose threads all wait for each other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.utils import parse_wheel_filename

from freewheel.base import decoding, files, process
from freewheel.base.errors import CommandFailed, ProofError
from freewheel.base.workspace import Workspace
from freewheel.build.source import SourceArchive, fetch, unpack
from freewheel.machine import postgres
from freewheel.machine.interpreter import Interpreter, files_of
from freewheel.machine.jail import LIMITS, OPEN, Jail, running_jail
from freewheel.machine.requirements import suite_lock
from freewheel.proof.patience import Patience
from freewheel.proof.running import Environment, make_environment
from freewheel.proof.suite.results import Case, Comparison, SuiteResult, compare, differing, fold
from freewheel.recipe.recipe import Recipe, Release
from freewheel.recipe.suite import Pass, Suite

RERUNS = 3  # of each test that differs, on both wheels
_RECORDER = Path(__file__).with_name("recorder.py")
_PLUGIN = "freewheel_recorder"
_RECORD = "record.jsonl"
_WHOLE = 1800.0  # seconds for a suite, whatever its tests may take each
# Times the seconds of a test, when it is repeated on the patched wheel: on a busy machine, one that
# had not ended in time may do so now, and one that hangs does not.
_PATIENCE = 5.0
_MODULE = re.compile(r"to load module '([^']+)'")  # in CPython's warning about the GIL
_ENDS = (0, 1)  # pytest's exit codes of a run that came to its end: all passed, some failed
_NOTHING = 5  # and of one that found no test


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """A release's two wheels, and the interpreter that its suite runs on."""

    baseline: Path
    patched: Path
    interpreter: Interpreter


def prove_suite(
    workspace: Workspace, recipe: Recipe, release: Release, wheels: Wheels, *, parallel: bool
) -> Comparison:
    """Run the suite on both wheels side by side, repeat what differs, and compare.

    ``parallel`` runs the part of it that allows that, each test in several threads at once. Raises
    ProofError where a run says nothing: see ``run_suite``.
    """

    def both(only: Sequence[str]) -> tuple[SuiteResult, SuiteResult]:
        def one(wheel: Path) -> SuiteResult:
            return run_suite(
                workspace,
                recipe,
                release,
                wheel,
                wheels.interpreter,
                parallel=parallel,
                only=only,
                patience=_PATIENCE if only and wheel == wheels.patched else 1.0,
            )

        with ThreadPoolExecutor(2) as pool:
            baseline, patched = pool.map(one, (wheels.baseline, wheels.patched))
        return baseline, patched

    return settle(
        *both(()), both, chosen_pass(recipe, release, wheels.interpreter, parallel=parallel)
    )


def settle(
    baseline: SuiteResult,
    patched: SuiteResult,
    again: Callable[[Sequence[str]], tuple[SuiteResult, SuiteResult]],
    part: Pass,
) -> Comparison:
    """Compare two results; ``again`` runs the tests with these identifiers on both wheels."""
    suspects = differing(baseline, patched)
    repeated = [again(suspects) for _ in range(RERUNS if suspects else 0)]
    return compare(baseline, patched, repeated, part)


def chosen_pass(
    recipe: Recipe, release: Release, interpreter: Interpreter, *, parallel: bool
) -> Pass:
    """What the recipe says of this way to run the suite; ProofError where it says nothing."""
    suite = _suite(recipe)
    part = suite.parallel if parallel else suite.ordinary
    if part is None:
        raise ProofError(
            f"no part of {recipe.name}'s suite runs in parallel",
            hint=f"add [suite.parallel] to {recipe.path.name}, or do not ask for it",
        )
    return part.concerning(release.version, interpreter.minor)


def suite_digest(
    recipe: Recipe, release: Release, interpreter: Interpreter, *, parallel: bool
) -> str:
    """Over all that a result depends on, but for the wheel, the interpreter and PostgreSQL."""
    suite = _suite(recipe)
    part = chosen_pass(recipe, release, interpreter, parallel=parallel)
    content = {
        "sdist": release.sha256,
        "tests": str(suite.tests),
        "package": suite.package,
        "link": suite.link,
        "files": suite.files,
        "seconds": suite.seconds,
        "threads": part.threads,
        "thread_safe_because": part.thread_safe_because,
        "warm_up": part.warm_up,
        "chosen": part.tests,
        "needs": part.needs,
        "environment": dict(part.environment),
        "skip": [(known.tests, known.reason) for known in part.skip],
        "requirements": suite_lock(suite.requires),
        "code": [files.sha256(path) for path in (_RECORDER, Path(__file__))],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def run_suite(
    workspace: Workspace,
    recipe: Recipe,
    release: Release,
    wheel: Path,
    interpreter: Interpreter,
    *,
    parallel: bool,
    only: Sequence[str] = (),
    patience: float = 1.0,
) -> SuiteResult:
    """Run the suite of a release once on one wheel; ``only`` these tests, where any are named.

    A test has ``patience`` times the seconds of the recipe. The suite hangs as a program does.

    Raises ProofError where it does not come to its end, imported another copy of the project than
    the wheel's, or something else than the wheel turned the GIL on.
    """
    suite = _suite(recipe)
    part = chosen_pass(recipe, release, interpreter, parallel=parallel)
    suite = dataclasses.replace(suite, seconds=suite.seconds * patience)
    with tempfile.TemporaryDirectory(prefix="freewheel-suite-") as name:
        room = _furnish(Path(name).resolve(), suite, wheel, interpreter)
        _lay_out(room, fetch(release, workspace.sources), suite)
        _write_settings(room, suite, part, module=recipe.import_name, only=only)
        _hand_over(room)
        overseer = Patience(_WHOLE, room.environment.interpreter.path)
        with _jailed(room, part) as (jail, services):
            ended = jail.watch(
                _command(room, suite, part, jail),
                cwd=room.run,
                env={**_variables(room, part, wheel), **services},
                timeout=overseer.bound,
                user=room.user,
                memory=None if jail is OPEN else 0,
                overseer=overseer,
            )
        lines = _read_record(room.run / _RECORD)
    _check_end(wheel, lines, ended, only=only)
    _check_origin(wheel, lines, room.directory / "env", only=only)
    reasons = {pattern: known.reason for known in part.skip for pattern in known.tests}
    return SuiteResult(
        wheel=wheel.name,
        wheel_sha256=room.environment.wheel_sha256,
        python=interpreter.version,
        parallel=parallel,
        gil=_gil_culprit(wheel, lines, recipe.import_name),
        cases=tuple(_without_room(case, room) for case in fold(lines, seconds=suite.seconds)),
        left_out={
            line["id"]: reasons[line["pattern"]] for line in lines if line["kind"] == "left out"
        },
        seconds=round(ended.seconds, 1),
    )


def _suite(recipe: Recipe) -> Suite:
    if recipe.suite is None:
        raise ProofError(
            f"{recipe.path.name} does not say how to run upstream's suite",
            hint="add [suite] to it; docs/recipes.md explains each key",
        )
    return recipe.suite


# ------------------------------------------------------------------------------- before the run


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """A directory for one run: ``env`` with the wheel, ``run`` with the tests, ``home``, ``tmp``.

    ``user`` is who runs the tests, None for whoever runs this.
    """

    directory: Path
    environment: Environment
    user: str | None

    @property
    def run(self) -> Path:
        return self.directory / "run"


def _furnish(directory: Path, suite: Suite, wheel: Path, interpreter: Interpreter) -> _Room:
    directory.chmod(0o755)  # for another user to pass through
    for name in ("run", "home", "tmp"):
        (directory / name).mkdir()
    user = postgres.unprivileged_user() if suite.unprivileged else None
    if user and not _can_run(user, interpreter.path, directory):
        interpreter = _copy_interpreter(interpreter, directory / "python")
        if not _can_run(user, interpreter.path, directory):
            raise ProofError(
                f"user {user} cannot run {interpreter.path}, a copy of the interpreter",
                hint="is it built with an absolute prefix? Install one that all users can run",
            )
    lock = directory / "requirements.txt"
    files.write_text(lock, suite_lock(suite.requires))
    environment = make_environment(directory / "env", wheel, interpreter, requirements=lock)
    return _Room(directory=directory, environment=environment, user=user)


def _can_run(user: str, python: Path, directory: Path) -> bool:
    try:
        words = (python, "-I", "-c", "import ssl")
        return process.watch(words, cwd=directory, timeout=60, user=user).returncode == 0
    except CommandFailed:
        return False


def _copy_interpreter(interpreter: Interpreter, directory: Path) -> Interpreter:
    """A copy where others can read it: a CPython finds its library from where it lies itself."""
    words = (interpreter.path, "-I", "-c", "import sys; print(sys.base_prefix)")
    prefix = Path(process.run(words, timeout=60).stdout.strip())
    shutil.copytree(prefix, directory, symlinks=True)
    path = directory / interpreter.path.resolve().relative_to(prefix.resolve())
    return dataclasses.replace(interpreter, path=path)


def _lay_out(room: _Room, archive: SourceArchive, suite: Suite) -> None:
    """Put the tests, and nothing else of the source tree, where they are run."""
    with tempfile.TemporaryDirectory() as name:
        tree = unpack(archive, Path(name))
        tests = tree / suite.tests
        if not tests.is_dir():
            raise ProofError(
                f"{archive.path.name} has no directory {suite.tests}",
                hint="mend suite.tests in the recipe",
            )
        if not suite.package:
            shutil.copytree(tests, room.run / suite.tests.name)
        for file in suite.files:
            shutil.copyfile(tree / file, room.run / Path(file).name)
        packages = (room.directory / "env" / "lib").glob("*/site-packages")
        for place in packages:
            if suite.link:
                (room.run / suite.link).symlink_to(place)
            if not suite.package:
                continue
            put_back(tests, place.joinpath(*suite.package.split(".")))


def put_back(tests: Path, installed: Path) -> None:
    """Let an installed package of tests have the sdist's Python files, all and no others.

    A patch may have changed them along with what they test; its compiled modules stay.
    """
    # Never written to: the same file may be in uv's cache.
    for path in installed.rglob("*.py"):
        path.unlink()
    for path in tests.rglob("*.py"):
        target = installed / path.relative_to(tests)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _write_settings(
    room: _Room, suite: Suite, part: Pass, *, module: str, only: Sequence[str]
) -> None:
    """Give pytest a configuration of our own, and its plugin what it needs to know."""
    shutil.copyfile(_RECORDER, room.run / f"{_PLUGIN}.py")
    shutil.copyfile(LIMITS, room.run / LIMITS.name)
    ini = f"[pytest]\nfaulthandler_timeout = {suite.seconds}\nfaulthandler_exit_on_timeout = true\n"
    (room.run / "pytest.ini").write_text(ini, encoding="utf-8")
    settings = {
        "module": module,
        "only": list(only),
        "chosen": part.tests,
        "skip": [pattern for known in part.skip for pattern in known.tests],
        "threads": part.threads,
        "thread_safe": bool(part.thread_safe_because),
        "warm_up": part.warm_up,
    }
    (room.run / "settings.json").write_text(json.dumps(settings), encoding="utf-8")


def _hand_over(room: _Room) -> None:
    """Let the user of the run own what it writes to."""
    if room.user is None:
        return
    for name in ("run", "home", "tmp"):
        for path in (room.directory / name, *(room.directory / name).rglob("*")):
            shutil.chown(path, room.user)


def _command(room: _Room, suite: Suite, part: Pass, jail: Jail) -> list[str | Path]:
    python = room.environment.python
    # In a jail, its door sets the limits; else what the user of the run can read.
    limits: list[str | Path] = [python, "-I", LIMITS.name, "0"] if jail is OPEN else []
    return [
        *(*limits, python, "-m", "pytest", "-p", _PLUGIN, "-p", "no:cacheprovider"),
        *("-c", "pytest.ini", "--quiet", "--assert=plain", "--continue-on-collection-errors"),
        *("--numprocesses=1", "--max-worker-restart=10000"),
        # The recorder judges that, and names the module; the plugin would only end the run.
        *(f"--parallel-threads={part.threads}", "--ignore-gil-enabled"),
        *(("--pyargs", suite.package) if suite.package else (suite.tests.name,)),
    ]


def _variables(room: _Room, part: Pass, wheel: Path) -> dict[str, str | None]:
    version = str(parse_wheel_filename(wheel.name)[1])
    variables: dict[str, str | None] = {
        **process.confined(room.directory / "home"),
        "TMPDIR": str(room.directory / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: value.replace("{version}", version) for name, value in part.environment.items()},
    }
    if room.user:
        variables |= {"USER": room.user, "LOGNAME": room.user}
    return variables


@contextmanager
def _jailed(room: _Room, part: Pass) -> Iterator[tuple[Jail, dict[str, str]]]:
    """A jail for the run, and the variables by which tests find the server that runs in it."""
    interpreter = files_of(room.environment.interpreter.path)
    seen = [*interpreter, room.directory / "env"]
    if part.needs:
        seen.append(postgres.provide_binaries().parent)
    writable = [room.directory / name for name in ("run", "home", "tmp")]
    with running_jail(readable=seen, writable=writable) as jail, _services(part, jail) as variables:
        yield jail, variables


@contextmanager
def _services(part: Pass, jail: Jail) -> Iterator[dict[str, str]]:
    variables: dict[str, str] = {}
    if "postgresql-programs" in part.needs:
        variables["PGINSTALLATION"] = str(postgres.provide_binaries())
    if "postgresql-server" not in part.needs:
        yield variables
        return
    with postgres.running_postgres(jail) as dsn:
        parts = urlsplit(dsn)
        variables |= {
            "PGHOST": parts.hostname or "",
            "PGPORT": str(parts.port),
            "PGUSER": parts.username or "",
            "PGPASSWORD": unquote(parts.password or ""),
            "PGDATABASE": parts.path.removeprefix("/"),
        }
        yield variables


# -------------------------------------------------------------------------------- after the run


def _read_record(path: Path) -> list[dict[str, Any]]:
    """What the plugin wrote; a run that was killed may have left half a line at its end.

    Tests can write there, too. Raises ProofError for what the plugin cannot have written.
    """
    try:
        lines = files.read_foreign(path).decode().splitlines(keepends=True)
        return [_checked(json.loads(line)) for line in lines if line.endswith("\n")]
    except decoding.ODD_INPUT as error:
        raise ProofError(
            "what upstream's suite recorded cannot be read",
            problems=[str(error)],
            hint="look for a test that writes to record.jsonl in its directory",
        ) from error


def _checked(line: Any) -> dict[str, Any]:  # noqa: ANN401  whatever JSON holds
    if not isinstance(line, dict) or not isinstance(line.get("kind"), str):
        raise TypeError(f"{line!r:.80} is no line of the record")
    return line


def _check_end(
    wheel: Path, lines: Sequence[Mapping[str, Any]], ended: process.Ended, *, only: Sequence[str]
) -> None:
    statuses = [line["status"] for line in lines if line["kind"] == "end"]
    if len(statuses) == 1 and (statuses[0] in _ENDS or (only and statuses[0] == _NOTHING)):
        return
    if ended.returncode is None:
        problem = f"no end after {ended.seconds:.0f} s"
    else:
        problem = f"pytest exited with {ended.returncode}"
    raise ProofError(
        f"upstream's suite did not come to its end on {wheel.name}",
        problems=[problem, f"tests that had ended: {len(fold(lines, seconds=0))}"],
        output=ended.said,
        hint="read what pytest printed above",
    )


def _gil_culprit(wheel: Path, lines: Sequence[Mapping[str, Any]], module: str) -> str:
    """The module of the project that turned the GIL on; "" where it was off to the end.

    A wheel that does so is a finding. Raises ProofError where it was something else: nothing could
    be found with that.
    """
    tests = [line["id"] for line in lines if line.get("gil")]
    if not tests:
        return ""
    said = " ".join(line["message"] for line in lines if line["kind"] == "gil")
    culprits = sorted(set(_MODULE.findall(said)))
    if culprits and all(f"{culprit}.".startswith(f"{module}.") for culprit in culprits):
        return ", ".join(culprits)
    raise ProofError(
        f"the GIL was turned on while upstream's suite ran on {wheel.name}",
        problems=[f"by {', '.join(culprits) or 'an unknown module'}", f"seen in {tests[0]}"],
        hint="what turns it on must not be in pins/suites.in, nor be imported by a test",
    )


def _check_origin(
    wheel: Path, lines: Sequence[Mapping[str, Any]], environment: Path, *, only: Sequence[str]
) -> None:
    """The project came out of the wheel, and nowhere else."""
    found = {line["file"] for line in lines if line.get("file")}
    strange = [file for file in found if not Path(file).is_relative_to(environment)]
    if strange or not (found or only):
        raise ProofError(
            f"upstream's suite did not test {wheel.name}",
            problems=[f"imported from {file}" for file in strange] or ["nothing imported it"],
            hint="check suite.tests in the recipe: it must not hold the package itself",
        )


def _without_room(case: Case, room: _Room) -> Case:
    """The same, without the name of a directory that is another one in each run."""
    shown = case.message.replace(f"{room.directory}/", "")
    return dataclasses.replace(case, message=shown, seconds=round(case.seconds, 3))
