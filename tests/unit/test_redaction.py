"""What is printed or kept: no password, nothing a terminal obeys, no directory of this machine."""

from pathlib import Path

import pytest

from freewheel.base import console, trouble
from freewheel.base.errors import FreewheelError
from freewheel.base.redaction import printable, without_credentials, without_places

SECRET = "s3cret"  # noqa: S105  of nobody


@pytest.mark.parametrize(
    "text",
    [
        f"https://team:{SECRET}@host/simple/",
        f"404 Client Error: Not Found for url: https://team:{SECRET}@host/simple/speedy/",
        f"https://{SECRET}@host",
        f"two http://a:{SECRET}@x/ and ftp://b:{SECRET}@y/",
        f"https://team:p@{SECRET}@host/",
        f"git+https://{SECRET}@host/repository",
        f"https://host/x?access_token={SECRET}&other=1",
        f"'https://team:{SECRET}@host/'",
    ],
)
def test_passwords_are_taken_out_of_any_text(text: str) -> None:
    assert SECRET not in without_credentials(text)
    assert "host" in without_credentials(text) or "x/" in text


@pytest.mark.parametrize(
    "text", ["https://host/a@b", "someone@host.example", "file:///a/b", "a // b @ c", ""]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert without_credentials(text) == text


@pytest.mark.parametrize(
    "text", ["\x1b]0;title\x07", "\x1b[2J", "a\rb", "\x9b31m", "\u202egnp.exe", "\udc80", "\x00"]
)
def test_what_a_terminal_would_obey_is_escaped(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.say(text)
    console.note(text)
    console.table(("a",), [(text,)])
    console.warn(text)
    console.fail(text)
    console.replay(text, text)
    shown = capsys.readouterr()

    for char in text:
        if not char.isalnum() and char not in "[];.":
            assert char not in shown.out + shown.err
    assert printable("plain ü · 漢\n\tx") == "plain ü · 漢\n\tx"


def test_directories_of_this_machine_are_named_by_what_they_are() -> None:
    cache = Path.home() / ".cache" / "freewheel"
    said = without_places(f"{cache}/work/x.py and {Path.home()}/y", {"$CACHE": cache})

    assert said == "$CACHE/work/x.py and ~/y"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/x"), "no room left: /x"),
        (OSError(122, "Disk quota exceeded", "/x"), "no room left"),
        (OSError(30, "Read-only file system", "/x"), "not allowed: /x"),
        (PermissionError(13, "Permission denied", "/x"), "not allowed"),
        (NotADirectoryError(20, "Not a directory", "/x"), "in the way: /x"),
        (FileExistsError(17, "File exists", "/x"), "in the way"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (MemoryError(), "not enough memory"),
        (RecursionError("deep"), "fault of Freewheel"),
        (KeyError("x"), "fault of Freewheel"),
    ],
)
def test_every_error_is_said_with_what_to_do_next(error: Exception, words: str) -> None:
    said = trouble.explained(error)

    assert words in str(said)
    assert "Next: " in str(said)
    assert trouble.explained(said) is said
    assert isinstance(said, FreewheelError)
