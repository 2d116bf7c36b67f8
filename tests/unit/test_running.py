"""Running a program once: real processes, and the outcome told from how each of them ended."""

import fcntl
import platform
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.errors import ProofError
from freewheel.machine.interpreter import Interpreter
from freewheel.proof import patience
from freewheel.proof.programs import Outcome, Stress
from freewheel.proof.running import (
    Environment,
    Run,
    make_environment,
    outcome_of,
    run_program,
    run_stress,
    signal_name,
)
from tests.unit.wheelmaker import ANY_TAG, make_wheel

HERE = Interpreter(
    path=Path(sys.executable),
    version=platform.python_version(),
    build=sys.version,
    origin="here",
)
ENVIRONMENT = Environment(python=HERE.path, wheel_sha256="", interpreter=HERE)
PATIENCE = 60.0  # seconds; nothing here takes long unless it hangs, or the machine is busy


def program(
    tmp_path: Path, source: str, *, seconds: float = PATIENCE, memory: int = 4096
) -> Stress:
    path = tmp_path / "program.py"
    path.write_text(source, encoding="utf-8")
    return Stress(
        path=path,
        project="speedy",
        title="does as it is told",
        use="supported",
        needs=(),
        seconds=seconds,
        memory=memory,
        exclusive=False,
        quick_seconds=1.0,
        full_seconds=2.0,
    )


def run(tmp_path: Path, source: str, *, seconds: float = PATIENCE, memory: int = 4096) -> Run:
    return run_program(
        program(tmp_path, source, seconds=seconds, memory=memory), ENVIRONMENT, tmp_path
    )


# ---------------------------------------------------------------------------------- how runs end


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0, Outcome.PASS),
        (1, Outcome.EXCEPTION),
        (2, Outcome.NOT_RUN),
        (3, Outcome.WRONG),
        (4, Outcome.LEAK),
        (5, Outcome.HANG),
        (6, Outcome.NOT_RUN),
        (77, Outcome.NOT_RUN),
    ],
)
def test_an_exit_code_tells_the_outcome(tmp_path: Path, code: int, outcome: Outcome) -> None:
    done = run(tmp_path, f"import sys\nprint('said', flush=True)\nsys.exit({code})\n")

    assert (done.outcome, done.returncode, done.signal, done.said) == (outcome, code, "", "said\n")


def test_what_is_unclear_is_run_again_five_times_at_most(tmp_path: Path) -> None:
    source = (
        "import pathlib, sys\nruns = pathlib.Path('runs')\nruns.open('a').write('x')\n"
        "sys.exit(75 if runs.stat().st_size <= {unclear} else 3)\n"
    )

    assert run(tmp_path, source.format(unclear=4)).outcome is Outcome.WRONG
    (tmp_path / "runs").unlink()
    done = run(tmp_path, source.format(unclear=5))
    assert (done.outcome, done.returncode) == (Outcome.NOT_RUN, 75)
    assert "unclear 5 times" in done.said


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("", Outcome.PASS),
        ("raise ValueError('unexpected')", Outcome.EXCEPTION),
        ("raise SystemExit('said to stderr')", Outcome.EXCEPTION),
        ("this is not Python", Outcome.EXCEPTION),
        ("print('wrong answer')", Outcome.PASS),
    ],
)
def test_what_it_prints_decides_nothing(tmp_path: Path, source: str, outcome: Outcome) -> None:
    assert run(tmp_path, source).outcome is outcome


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGKILL", "SIGTERM"])
def test_a_signal_is_a_crash_and_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    source = (
        f"import os, signal\nprint('before')\nos.kill(os.getpid(), signal.{name})\nsignal.pause()\n"
    )

    done = run(tmp_path, source)

    assert (done.outcome, done.signal) == (Outcome.CRASH, name)
    assert done.returncode == -getattr(signal, name)
    assert done.said.startswith("before\n")


def test_a_crash_says_where(tmp_path: Path) -> None:
    done = run(tmp_path, "import ctypes\nprint('before')\nctypes.string_at(0)\n")

    assert (done.outcome, done.signal) == (Outcome.CRASH, "SIGSEGV")
    assert "program.py" in done.said
    assert "string_at" in done.said


def test_a_signal_without_a_name_has_its_number() -> None:
    assert signal_name(-(signal.SIGRTMIN + 3)) == f"signal {signal.SIGRTMIN + 3}"
    assert outcome_of(-(signal.SIGRTMIN + 3)) is Outcome.CRASH


# -------------------------------------------------------------------------- hanging, and children

# It holds a lock until it is killed; the file tells when it has it.
GRANDCHILD = """
import fcntl, pathlib, time
with open("lock", "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    pathlib.Path("locked").touch()
    time.sleep(600)
"""
CHILD = f"""
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {GRANDCHILD!r}])
while not pathlib.Path("locked").exists():
    time.sleep(0.01)
print("ready")
"""


def wait_for_lock(directory: Path) -> None:
    """Return when nobody holds the lock any more."""
    deadline = time.monotonic() + PATIENCE
    with (directory / "lock").open("w", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                assert time.monotonic() < deadline, "the grandchild lives"
                time.sleep(0.01)
            else:
                return


def test_a_hang_is_killed_together_with_its_children(tmp_path: Path) -> None:
    done = run(tmp_path, f"{CHILD}time.sleep(600)\n", seconds=3)

    assert (done.outcome, done.returncode, done.signal) == (Outcome.HANG, None, "")
    assert done.said == "ready\n"
    assert 3 <= done.seconds < PATIENCE
    wait_for_lock(tmp_path)


def test_a_hang_leaves_the_stacks_of_all_threads_as_evidence(tmp_path: Path) -> None:
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=[600]).start()\n"

    done = run(tmp_path, source, seconds=1)

    assert done.outcome is Outcome.HANG
    assert len(re.findall(r"^thread \d+, state S", done.stacks, re.MULTILINE)) == 2


@pytest.mark.parametrize("load", [0.0, 20.0])
def test_a_program_that_gets_no_processor_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: float
) -> None:
    monkeypatch.setattr(patience, "runnable", lambda: load * patience.processors())

    done = run(tmp_path, "import time\ntime.sleep(3)\n", seconds=1)

    assert done.outcome is (Outcome.PASS if load else Outcome.HANG)
    assert done.load == load


def test_on_a_machine_that_is_too_busy_nothing_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "runnable", lambda: 1000.0 * patience.processors())

    done = run(tmp_path, "import time\ntime.sleep(600)\n", seconds=0.1)

    assert (done.outcome, done.returncode) == (Outcome.NOT_RUN, None)
    assert "no end after 2 s; 1000.0 threads per processor" in done.said


def test_a_program_that_ends_leaves_no_child_behind(tmp_path: Path) -> None:
    done = run(tmp_path, CHILD)

    assert done.outcome is Outcome.PASS
    assert done.seconds < PATIENCE
    wait_for_lock(tmp_path)


# ---------------------------------------------------------------------------------------- limits


HUNGRY = "data = bytes(1 << 30)\n"  # 1 GiB of addresses, never written to


def test_the_limit_on_memory_gives_an_exception(tmp_path: Path) -> None:
    done = run(tmp_path, HUNGRY, memory=512)

    assert done.outcome is Outcome.EXCEPTION
    assert "MemoryError" in done.said


def test_there_is_no_limit_on_memory_where_none_is_wanted(tmp_path: Path) -> None:
    limited = program(tmp_path, HUNGRY, memory=512)

    assert run(tmp_path, HUNGRY, memory=0).outcome is Outcome.PASS
    assert run_program(limited, ENVIRONMENT, tmp_path, limited=False).outcome is Outcome.PASS


def test_a_crash_leaves_no_core_and_output_cannot_fill_the_disk(tmp_path: Path) -> None:
    source = (
        "import resource, sys\n"
        "core = resource.getrlimit(resource.RLIMIT_CORE)\n"
        "size = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "sys.exit(0 if core == (0, 0) and size == (1 << 30, 1 << 30) else 3)\n"
    )

    assert run(tmp_path, source).outcome is Outcome.PASS


# ------------------------------------------------------------------------------- what it is given


def test_nothing_that_would_set_the_gil_or_bring_other_code_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwanted = ["PYTHON_GIL", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONWARNINGS", "TWINE_PASSWORD"]
    for name in unwanted:
        monkeypatch.setenv(name, "1")
    source = (
        f"import os, sys\nfound = [name for name in {unwanted} if name in os.environ]\n"
        "print(found)\nsys.exit(3 if found or 'PATH' not in os.environ else 0)\n"
    )

    done = run(tmp_path, source)

    assert (done.outcome, done.said) == (Outcome.PASS, "[]\n")


def test_a_program_gets_its_services_variables_and_directory(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    source = (
        "import os, pathlib\n"
        "print(os.environ['FREEWHEEL_POSTGRES_DSN'], os.environ['TSAN_OPTIONS'])\n"
        "pathlib.Path('left').touch()\n"
    )

    done = run_program(
        program(tmp_path, source),
        ENVIRONMENT,
        scratch,
        services={"FREEWHEEL_POSTGRES_DSN": "postgresql://here"},
        variables={"TSAN_OPTIONS": "halt_on_error=1"},
    )

    assert (done.outcome, done.said) == (Outcome.PASS, "postgresql://here halt_on_error=1\n")
    assert (scratch / "left").exists()


def test_a_stress_program_is_told_how_long_to_work_and_has_that_time_on_top(
    tmp_path: Path,
) -> None:
    source = "import sys, time\nprint(sys.argv[1:])\ntime.sleep(float(sys.argv[1]))\n"
    stress = program(tmp_path, source, seconds=2)
    done = run_stress(stress, ENVIRONMENT, tmp_path, work=2.25)
    assert (done.outcome, done.said) == (Outcome.PASS, "['2.25']\n")
    assert done.seconds > 2

    stress = program(tmp_path, f"{source}time.sleep(600)\n", seconds=1)
    assert run_stress(stress, ENVIRONMENT, tmp_path, work=0.5).outcome is Outcome.HANG


# ------------------------------------------------------------------------------------ environments


def test_an_environment_holds_the_wheel_and_nothing_else(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "speedy", "1.0", tag=ANY_TAG)
    source = (
        "import importlib.metadata as metadata\nimport speedy\n"
        "print(speedy.__version__, [found.name for found in metadata.distributions()])\n"
    )

    environment = make_environment(tmp_path / "environment", wheel, HERE)
    done = run_program(program(tmp_path, source), environment, tmp_path)

    assert (done.outcome, done.said) == (Outcome.PASS, "1.0 ['speedy']\n")
    assert environment.wheel_sha256 == files.sha256(wheel)


def test_a_wheel_that_cannot_be_installed_is_told(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "speedy", "1.0", tag="cp27-cp27m-win32")

    with pytest.raises(ProofError, match=r"no environment to prove speedy-1\.0-") as caught:
        make_environment(tmp_path / "environment", wheel, HERE)

    assert "speedy==1.0" in caught.value.output
