"""The error tree: one root, and one exit code for each kind."""

from collections import Counter

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
