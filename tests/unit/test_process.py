"""Child processes: real ones, and what becomes of them when this process is told to end."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

import freewheel
from freewheel.base import process

PATIENCE = 30.0  # seconds; a busy machine needs some
# It watches a program that has a child of its own, and says so if it is told how that ended.
WATCHING = """\
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from freewheel.base import process

CHILD = "import os, time; open('child', 'w').write(str(os.getpid())); time.sleep(90)"
LEADER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"

def watch():
    print("ended:", process.watch([sys.executable, "-c", LEADER], cwd=Path(), timeout=600))

process.end_by_sigterm()
try:
    if sys.argv[1] == "itself":
        watch()
    else:
        with ThreadPoolExecutor() as pool:
            pool.submit(watch).result()
except KeyboardInterrupt:
    raise SystemExit(130) from None
"""


def wait_for(what: str, path: Path) -> str:
    """The text of a file that somebody is about to write."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if path.is_file() and (text := path.read_text(encoding="utf-8")):
            return text
        time.sleep(0.01)
    pytest.fail(f"{what} did not come up")


def is_alive(pid: int) -> bool:
    """Whether the process is there and not merely waiting to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return (
        not stat.is_file() or stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to end a process by")
@pytest.mark.parametrize("who", ["itself", "a thread of a pool"])
def test_sigterm_ends_what_is_watched_and_its_children(tmp_path: Path, who: str) -> None:
    log = tmp_path / "log"
    words = [sys.executable, "-c", WATCHING, who]
    env = {"PYTHONPATH": str(Path(freewheel.__file__).parents[1])}
    watching = process.start(words, cwd=tmp_path, env=env, log=log)
    try:
        child = int(wait_for("the child of what is watched", tmp_path / "child"))
        assert is_alive(child)

        watching.child.terminate()

        assert watching.child.wait(timeout=PATIENCE) == 130
        deadline = time.monotonic() + PATIENCE
        while is_alive(child) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_alive(child)
        assert "ended: Ended" not in watching.tail()
    finally:
        watching.stop()


def test_a_confined_child_sees_none_of_the_users_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TWINE_PASSWORD", "GH_TOKEN", "PYTHONPATH", "LD_PRELOAD_X", "HTTPS_PROXY", "x"):
        monkeypatch.setenv(name, "planted")
    monkeypatch.setenv("TZ", "UTC")
    program = "import json, os; print(json.dumps(dict(os.environ)))"

    done = process.run(
        [sys.executable, "-c", program], env={**process.confined(tmp_path / "home"), "ONE": "1"}
    )
    seen = json.loads(done.stdout)

    assert "planted" not in seen.values()
    assert (seen["ONE"], seen["TZ"]) == ("1", "UTC")
    assert seen["PATH"] == os.environ["PATH"]
    homes = {value for name, value in seen.items() if "HOME" in name or "XDG" in name}
    assert homes == {str(tmp_path / "home")}
