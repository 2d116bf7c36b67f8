"""The benchmark over layouts: how code is moved, what is left out, whose package is measured."""

import re
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from freewheel.base.errors import PatchError, ProofError
from freewheel.base.workspace import find_workspace
from freewheel.recipe.recipe import Release, load_recipes
from tests.benchmarks import turns
from tests.benchmarks.layouts import (
    PATCHED,
    UNPATCHED,
    Layout,
    choose_series,
    commands,
    rows,
)

FUNCTION = """\
\t.p2align 4
\t.globl\t{name}
\t.type\t{name}, @function
{name}:
\tret
\t.size\t{name}, .-{name}
"""
DATA = "\t.type\ttable, @object\ntable:\n\t.zero\t8\n"


def code(*names: str) -> str:
    return DATA + "".join(FUNCTION.format(name=name) for name in names)


def moves(layout: Layout, *names: str) -> dict[str, int]:
    """By how many bytes each function moves; each right before its label."""
    found = re.findall(r"\.skip (\d+)\n(\S+):\n\tret", layout.moved(code(*names)))
    return {name: int(room) for room, name in found}


def newest() -> Release:
    workspace = find_workspace(Path(__file__))
    recipes = load_recipes(workspace.recipes, workspace.patches)
    return next(recipe.default_release for recipe in recipes if recipe.name == "httptools")


def test_each_function_moves_by_a_multiple_of_16_bytes_and_nothing_else_changes() -> None:
    names = [f"function{number}" for number in range(200)]
    layout = Layout(seed=1, number=0)

    assert list(moves(layout, *names)) == names
    assert set(moves(layout, *names).values()) == set(range(0, 256, 16))
    unmoved = re.sub(r"\t\.skip \d+\n", "", layout.moved(code(*names)))
    assert unmoved == code(*names)


def test_a_function_moves_alike_wherever_it_stands_but_not_in_another_layout() -> None:
    names = [f"function{number}" for number in range(20)]
    layout = Layout(seed=1, number=3)

    assert moves(layout, *names[::-1], "other") == {
        **moves(layout, *names),
        **moves(layout, "other"),
    }
    assert moves(layout, *names) != moves(Layout(seed=1, number=4), *names)
    assert moves(layout, *names) != moves(Layout(seed=2, number=3), *names)


def test_the_order_of_objects_is_that_of_the_layout() -> None:
    objects = [f"{name}.o" for name in "abcdef"]
    orders = [Layout(seed=1, number=number).shuffled(objects) for number in range(9)]

    assert all(sorted(order) == objects for order in orders)
    assert len({tuple(order) for order in orders}) > 5
    assert Layout(seed=1, number=0).shuffled(objects[::-1]) == orders[0]


def test_code_without_a_function_is_refused() -> None:
    with pytest.raises(ProofError, match="no function that could be moved"):
        Layout(seed=1, number=0).moved(DATA)


def test_what_the_compiler_was_asked_for_is_read_as_it_was_written() -> None:
    record = "-c\na file.c\n-o\na.o\n\n-shared\na.o\n-o\na.so\n\n"

    assert commands(record) == [["-c", "a file.c", "-o", "a.o"], ["-shared", "a.o", "-o", "a.so"]]


def test_patches_are_left_out_by_a_part_of_their_names() -> None:
    release = newest()
    first, *between, last = [path.name for path in release.patches]

    chosen = choose_series(release, [last, f"{last},{first}"])

    names = {name: [patch.name for patch in series] for name, series in chosen.items()}
    assert names == {
        UNPATCHED: [],
        PATCHED: [first, *between, last],
        f"without {last[:4]}": [first, *between],
        f"without {last[:4]}, {first[:4]}": between,
    }


@pytest.mark.parametrize("word", ["000", "no-such-patch"])
def test_a_word_that_does_not_tell_one_patch_is_refused(word: str) -> None:
    with pytest.raises(PatchError, match=f"--without {word}: fits"):
        choose_series(newest(), [word])


def test_a_row_has_the_ratio_of_medians_and_the_median_of_ratios() -> None:
    times = {"url": {UNPATCHED: [100.0, 200.0, 400.0], PATCHED: [50.0, 300.0, 200.0]}}

    assert rows(times) == [
        ("url", "200 (100 to 400)", "1.00, 0.50 (0.50 to 1.50)", "4.00 6.00"),
    ]


def test_each_program_has_the_package_of_its_own_directory(tmp_path: Path) -> None:
    program = tmp_path / "bench.py"
    program.write_text("import pack\n\ndef case():\n    while True:\n        yield pack.NUMBER\n")
    cases = []
    for number in (1, 2):
        package = tmp_path / str(number) / "pack"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("from .inner import NUMBER\n")
        (package / "inner.py").write_text(f"NUMBER = {number}\n")
        cases.append(turns.load(str(tmp_path / str(number)), str(program))["case"])

    assert [next(case()) for case in cases] == [1, 2]
    assert not [name for name in sys.modules if name.startswith("pack.") or name == "pack"]


def test_time_is_told_for_an_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    def once() -> Iterator[int]:
        while True:
            yield 1

    def twice() -> Iterator[int]:
        while True:
            yield 2

    # As if every step took a millisecond, whatever this machine is busy with.
    clock = count(step=turns.PIECE)
    monkeypatch.setattr("time.thread_time_ns", lambda: next(clock))

    first, second = turns.measure([once, twice])  # type: ignore[list-item]

    assert first == 2 * second
