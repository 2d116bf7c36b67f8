"""Files that are whole or absent."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.errors import BusyError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    files.write_text(path, "old")

    with pytest.raises(UnicodeEncodeError), files.replacing(path) as partial:
        partial.write_text("half \udc80", encoding="utf-8")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def _die_in_the_middle(path: Path) -> None:
    with files.replacing(path) as partial:
        partial.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_write_killed_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    files.write_text(path, "old")
    child = multiprocessing.get_context("spawn").Process(target=_die_in_the_middle, args=(path,))
    child.start()
    child.join()

    assert child.exitcode == -signal.SIGKILL
    assert path.read_text() == "old"
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def _hold(path: Path) -> None:
    with files.locked(path, what="a test"):
        path.with_name("held").touch()
        time.sleep(60)


def test_a_lock_is_exclusive_and_dies_with_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    child = multiprocessing.get_context("spawn").Process(target=_hold, args=(lock,))
    child.start()
    while not (tmp_path / "held").exists():
        assert child.is_alive()
        time.sleep(0.01)

    busy = files.locked(lock, what="the index", patience=0)
    with pytest.raises(BusyError, match="busy with the index"):
        busy.__enter__()
    child.kill()
    child.join()
    with files.locked(lock, what="the index", patience=5):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes of that kind")
def test_what_foreign_code_left_is_read_only_where_it_is_a_plain_file(tmp_path: Path) -> None:
    secret, plain, link, pipe, large = (
        tmp_path / name for name in ("secret", "plain", "link", "pipe", "large")
    )
    for path in (secret, plain):
        path.write_text("content")
    link.symlink_to(secret)
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(101)

    assert files.read_foreign(plain) == b"content"
    assert files.read_foreign(tmp_path / "nothing") == b""
    for path in (link, pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match="no plain file"):
            files.read_foreign(path)
    with pytest.raises(ValueError, match="at most 100 bytes"):
        files.read_foreign(large, 100)
