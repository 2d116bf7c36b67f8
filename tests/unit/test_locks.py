"""Locks: complete, with hashes, and without the address of any index."""

import re
from pathlib import Path

import pytest

from freewheel.base.workspace import PINS, find_workspace
from freewheel.upkeep import locks

ROOT = Path(__file__).parents[2]
LOCKS = locks.all_locks(find_workspace(ROOT))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.path.name)
def test_every_pin_has_hashes_and_no_address(lock: locks.Lock) -> None:
    text = lock.path.read_text()
    pins = re.split(r"\n(?=\S)", text.strip())

    assert "://" not in text
    assert all(re.match(r"[a-z0-9._-]+==\S+", pin) for pin in pins)
    assert all("--hash=sha256:" in pin for pin in pins)


@pytest.mark.parametrize(
    "lock", [lock for lock in LOCKS if lock.constraint], ids=lambda lock: lock.path.name
)
def test_a_lock_agrees_with_its_constraint(lock: locks.Lock) -> None:
    assert lock.constraint
    other = locks.versions(lock.constraint.read_text())
    mine = locks.versions(lock.path.read_text())

    assert other.keys() & mine.keys()
    assert {name: mine[name] for name in other.keys() & mine.keys()} == {
        name: other[name] for name in other.keys() & mine.keys()
    }


def test_every_lock_in_pins_is_renewed() -> None:
    assert {lock.path for lock in LOCKS} == set(PINS.rglob("*.txt"))


def test_versions_are_read_with_their_markers() -> None:
    text = (
        "one==1.0 \\\n    --hash=sha256:aa\n"
        "two==2.0 ; python_version < '3.12' \\\n    --hash=sha256:bb\n"
        "two==3.0 ; python_version >= '3.12' \\\n    --hash=sha256:cc\n"
    )

    assert locks.versions(text) == {"one": "1.0", "two": "2.0, 3.0"}


def test_changes_name_what_came_went_and_moved() -> None:
    before = {"same": "1", "moved": "1", "gone": "1"}
    after = {"same": "1", "moved": "2", "come": "1"}

    found = {(c.package, c.before, c.after) for c in locks._changes("x", before, after)}

    assert found == {("moved", "1", "2"), ("gone", "1", ""), ("come", "", "1")}
