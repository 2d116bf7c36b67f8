"""The error tree: one root, and one exit code for each kind."""

import re
from collections import Counter
from pathlib import Path

from freewheel.base import errors


def kinds(root: type[errors.FreewheelError]) -> list[type[errors.FreewheelError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


def test_every_kind_has_an_exit_code_of_its_own() -> None:
    counted = Counter(
        kind.exit_code
        for kind in kinds(errors.FreewheelError)
        if kind.__module__ == errors.__name__
    )

    assert [code for code, times in counted.items() if times > 1] == []


def test_a_message_ends_with_what_to_do_next() -> None:
    error = errors.PatchError("it broke", problems=["here", "and there"], hint="fix it")

    assert str(error) == "it broke\n  - here\n  - and there\nNext: fix it"


def test_the_documentation_has_every_exit_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE))

    for kind in errors.FreewheelError.__subclasses__():
        if kind.__module__ == errors.__name__:
            meaning = (kind.__doc__ or "").splitlines()[0].replace("``", "`").rstrip(".")
            assert rows.pop(str(kind.exit_code)) == meaning
    assert set(rows) == {"0", "1", "2", "130"}
