"""The house: which room may use which, and what happens in one place only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from freewheel.base.workspace import PACKAGE

# Each room may use those that stand before it, and no other.
ROOMS = (
    "base",
    "recipe",
    "machine",
    "build",
    "proof",
    "audit",
    "trust",
    "publish",
    "release",
    "upkeep",
    "fill",
    "commands",
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package: its path below the package, and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield path.relative_to(PACKAGE).as_posix(), tree


def rooms_used(tree: ast.Module) -> set[str]:
    """The rooms that a module imports from, lazy imports included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "freewheel":
            names = [f"freewheel.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("freewheel.")}
    return found - {"__version__"}


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}

    assert rooms == set(ROOMS)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_a_room_uses_only_those_below_it() -> None:
    upwards = [
        f"{name} uses {used}"
        for name, tree in modules()
        if "/" in name
        for used in sorted(rooms_used(tree))
        if ROOMS.index(used) > ROOMS.index(name.split("/")[0])
    ]

    assert upwards == []


def used_names(tree: ast.Module) -> set[str]:
    """Every name, and every attribute with what it is taken from, that a module's code uses."""
    return {
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)
    }


def called_names(tree: ast.Module) -> set[str]:
    """The last part of the name of everything that a module calls."""
    return {
        ast.unparse(node.func).rsplit(".", maxsplit=1)[-1]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }


@pytest.mark.parametrize(
    ("kind", "home"),
    [("VerifiedWheel", "build/check.py"), ("CertifiedWheel", "proof/certificate.py")],
)
def test_what_is_trusted_is_made_in_one_module_only(kind: str, home: str) -> None:
    makers = [name for name, tree in modules() if kind in called_names(tree)]

    assert makers == [home]


@pytest.mark.parametrize(
    ("names", "homes"),
    [
        (
            {"subprocess.run", "subprocess.Popen", "os.system", "os.execv"},
            # The others run in the interpreter that a wheel is tested with.
            {"base/process.py", "audit/smoke.py", "machine/limits.py", "proof/speed/rate.py"},
        ),
        (
            {"print", "sys.stdout", "sys.stderr", "sys.stdout.write"},
            {
                "base/console.py",
                *("audit/smoke.py", "build/importing.py", "machine/jailer.py"),
                *("proof/load.py", "proof/stacks.py", "proof/speed/rate.py"),
            },
        ),
        (
            {"sys.exit", "SystemExit", "os._exit", "exit"},
            {"audit/smoke.py", "commands/main.py", "machine/jailer.py", "proof/load.py"},
        ),
    ],
)
def test_starting_children_printing_and_exiting_have_one_home(
    names: set[str], homes: set[str]
) -> None:
    found = {name for name, tree in modules() if used_names(tree) & names}

    assert found <= homes


def test_the_package_is_where_the_rooms_are() -> None:
    assert Path(PACKAGE, "pins").is_dir()
