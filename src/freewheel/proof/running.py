"""Run one program once, on one wheel, and say how it ended."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uv import find_uv_bin

from freewheel.base import files, process
from freewheel.base.errors import CommandFailed, ProofError
from freewheel.machine.interpreter import Interpreter, python_of
from freewheel.machine.jail import OPEN, Jail
from freewheel.proof.own_requirements import own_lock
from freewheel.proof.patience import Patience
from freewheel.proof.programs import EXIT_CODES, LOAD, Outcome, Program, Stress

_TRIES = 5  # for a run that ends with "unclear"
POSTGRES_DSN = "FREEWHEEL_POSTGRES_DSN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A cp314t virtual environment that holds one wheel; nothing else unless it was asked for.

    ``jail`` is where its programs run.
    """

    python: Path
    wheel_sha256: str
    interpreter: Interpreter
    jail: Jail = OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one run ended. ``signal`` is the name of the signal of a crash, "" for all else.

    ``returncode`` is None where the run was ended for taking too long; ``said`` is the end of what
    it printed, for a person to read. ``load`` is how many threads of the machine there were for
    each processor meanwhile. ``stacks`` are those of a run that hung. ``again`` says that the run
    was made alone, because an earlier one had failed.
    """

    outcome: Outcome
    returncode: int | None
    signal: str
    seconds: float
    said: str
    load: float = 0.0
    stacks: str = ""
    again: bool = False


def make_environment(
    directory: Path, wheel: Path, interpreter: Interpreter, *, requirements: Path | None = None
) -> Environment:
    """A fresh environment in ``directory`` with ``wheel``, and what a lock with hashes lists.

    What the wheel itself requires is there as well.
    """
    files.empty_directory(directory)
    python = python_of(directory)
    uv = find_uv_bin()

    def install(*words: str | Path) -> None:
        process.run([uv, "pip", "install", "--quiet", "--python", python, *words])

    try:
        process.run([uv, "venv", "--quiet", "--no-project", "-p", interpreter.path, directory])
        locks = [requirements] if requirements else []
        if lock := own_lock(wheel, interpreter):
            locks.append(directory / "requirements.txt")
            locks[-1].write_text(lock, encoding="utf-8")
        for path in locks:
            locked = ("--require-hashes", "-r", path)
            try:
                # Its hashes tell that what uv has kept is the same. The index, asked for each
                # environment anew, takes seconds to answer.
                install("--offline", *locked)
            except CommandFailed:
                install(*locked)
        install("--no-deps", wheel)
        if not requirements:  # a suite starts once, programs often; they cannot write to it
            # Without `site`, no .pth file of a wheel is run here.
            words = (interpreter.path, "-I", "-S", "-m", "compileall", "-q", directory / "lib")
            process.run(words, env=process.confined(directory / "no-home"), check=False)
    except CommandFailed as error:
        raise ProofError(
            f"no environment to prove {wheel.name} in",
            output=error.output,
            hint="read what uv printed above",
        ) from error
    return Environment(python=python, wheel_sha256=files.sha256(wheel), interpreter=interpreter)


def run_program(
    program: Program,
    environment: Environment,
    scratch: Path,
    *,
    arguments: tuple[str, ...] = (),
    seconds: float = 0.0,
    services: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    limited: bool = True,
) -> Run:
    """Run a program once, in a process of its own, under its limits; again where it is unclear.

    It hangs if it has not ended when its seconds are used up, of which it has the more the busier
    the machine is (patience.py). ``seconds`` are given on top of those, for work that it was asked
    to do.
    ``services`` are the environment variables of what it needs, such as a server's DSN.
    ``limited`` False takes the limit on memory away (sanitizers map terabytes).
    """
    for _ in range(_TRIES):
        run = _run_once(
            [*_start(program), *arguments],
            environment,
            scratch,
            memory=program.memory if limited else 0,
            seconds=program.seconds + seconds,
            variables={**(services or {}), **(variables or {})},
        )
        if run.outcome is not Outcome.UNCLEAR:
            return run
    said = f"{run.said}\n(unclear {_TRIES} times; {run.load} threads per processor)"
    return replace(run, outcome=Outcome.NOT_RUN, said=said)


def _run_once(
    words: Sequence[str | Path],
    environment: Environment,
    scratch: Path,
    *,
    memory: int,
    seconds: float,
    variables: Mapping[str, str],
) -> Run:
    # -u: what it printed before it crashed or was killed is not lost in a buffer.
    command: list[str | Path] = [environment.python, "-u", "-X", "faulthandler", "-W", "ignore"]
    patience = Patience(seconds, environment.interpreter.path)
    ended = environment.jail.watch(
        [*command, *words],
        cwd=scratch,
        memory=memory,
        # Neither the user's tokens nor what would force the GIL on or off, or bring in other code.
        env={**process.confined(scratch / "no-home"), **variables},
        timeout=patience.bound,
        overseer=patience,
    )
    outcome, said = outcome_of(ended.returncode), ended.said
    if outcome is Outcome.HANG and ended.returncode is None and not patience.hangs:
        outcome = Outcome.NOT_RUN
        said += f"\n(no end after {ended.seconds:.0f} s; {patience.load} threads per processor)"
    return Run(
        outcome=outcome,
        returncode=ended.returncode,
        signal=signal_name(ended.returncode),
        seconds=round(ended.seconds, 3),
        said=said,
        load=patience.load,
        stacks=patience.stacks,
    )


def _start(program: Program) -> list[Path]:
    """What is run: the program, or what puts it to work."""
    if isinstance(program, Stress) and program.driven:
        return [LOAD, program.path]
    return [program.path]


def run_stress(
    stress: Stress,
    environment: Environment,
    scratch: Path,
    *,
    work: float,
    services: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    limited: bool = True,
) -> Run:
    """Let a stress program work for ``work`` seconds."""
    return run_program(
        stress,
        environment,
        scratch,
        arguments=(f"{work:g}",),
        seconds=work,
        services=services,
        variables=variables,
        limited=limited,
    )


def outcome_of(returncode: int | None) -> Outcome:
    """What an exit code means; None stands for a run that took too long."""
    if returncode is None:
        return Outcome.HANG
    if returncode < 0:
        return Outcome.CRASH
    return EXIT_CODES.get(returncode, Outcome.NOT_RUN)


def signal_name(returncode: int | None) -> str:
    """The name of the signal behind a negative exit code, such as SIGSEGV; else ""."""
    if returncode is None or returncode >= 0:
        return ""
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
