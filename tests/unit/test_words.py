"""Documents, messages and comments are in plain English: the usual word, and short sentences."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from freewheel.base.workspace import PACKAGE
from freewheel.build.buildinfo import _PIPELINE
from freewheel.proof.result_cache import _HARNESS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "wheels" / "README.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob(".github/*.md"),
    ]
)
LONGEST = 35

# The text of these is an input of wheels, or of results that are kept: another word in a message
# would make every wheel, or every result, stale. They change together with their code.
_INPUTS = {
    *((PACKAGE / f"{name}.py").resolve() for name in _PIPELINE),
    *((PACKAGE / "proof" / name).resolve() for name in _HARNESS),
    *((PACKAGE / "proof" / name).resolve() for name in ("load.py", "suite/running.py")),
    PACKAGE / "pins" / "publisher.toml",
}
_ENDINGS = ("*.py", "*.jinja", "*.toml")
SOURCES = sorted(
    [
        ROOT / "noxfile.py",
        ROOT / "pyproject.toml",
        *(path for ending in _ENDINGS for path in PACKAGE.rglob(ending) if path not in _INPUTS),
    ]
)

# What not to write, and what to write instead.
WORDS = {
    r"mend(s|ed|ing)?": "fix",
    r"(is|are|be|was|were|been|being) told": "reported, or shown",
    r"(has|have|had) not got": "does not have",
    r"can(not)? be had": "is (not) available",
    r"but for": "except",
    r"anew": "again",
    r"afresh": "from scratch",
    r"may not": "must not, or might not",
    r"at hand": "present, or available",
    r"put to the proof": "tested, or proven",
    r"stands? in (the|its) way": "blocks",
    r"for ever": "forever",
    r"as it comes": "by default",
    r"without a word": "silently",
    r"(is|are) to be": "should be, or must be",
    r"(^|[.:;] )who(?! \S+?\?)(?= [^?]*[.;]( |$))": "users who, or the person who",
}
_FOUND = [
    (re.compile(pattern if "^" in pattern else rf"\b{pattern}\b", re.IGNORECASE), better)
    for pattern, better in WORDS.items()
]
# In sources, names of options are no words, and the last of the list would find too much.
_IN_SOURCES = {
    word: re.compile(rf"(?<![-\w\"']){word}(?![-\w\"'])", re.IGNORECASE)
    for word in WORDS
    if "^" not in word
}


class Sentence(NamedTuple):
    """One sentence of a document: the line where its block starts, and its words."""

    line: int
    text: str


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that people write: no code blocks, and nothing that is generated."""
    fenced = generated = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            yield number, ""
        elif re.match(r"<!-- freewheel docs: ", line):
            generated = True
        elif line.startswith("<!-- end -->"):
            generated = False
        elif not fenced and not generated:
            yield number, line


def _blocks(text: str) -> Iterator[Sentence]:
    """Paragraphs, items of lists, headings and cells of tables; each code span is one word."""
    block: list[str] = []
    start = 0
    for number, line in [*_lines(text), (0, "")]:
        bare = re.sub(r"`[^`]+`", "CODE", line.strip())
        bare = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", bare)
        alone = not bare or bare[0] in "|#"
        if block and (alone or re.match(r"([-*]|\d+\.) ", bare)):
            yield Sentence(start, " ".join(block))
            block = []
        if alone:
            cells = re.split(r"(?<!\\)\|", bare)
            yield from (Sentence(number, cell.strip(" #")) for cell in cells if cell.strip(" #:-"))
        else:
            start = start if block else number
            block.append(re.sub(r"^([-*]|\d+\.) ", "", bare))


def sentences(text: str) -> list[Sentence]:
    """The sentences of a document in Markdown."""
    return [
        Sentence(block.line, sentence)
        for block in _blocks(text)
        for sentence in re.split(r"(?<=[.!?])[)*\"]*\s+(?=\S)", block.text)
    ]


def faults(text: str) -> list[str]:
    """What is wrong with a document: the line, and the better word."""
    found = []
    for line, sentence in sentences(text):
        for pattern, better in _FOUND:
            if match := pattern.search(sentence):
                word = match[0].strip(" .:;")
                found.append(f"{line}: not {word!r}; write: {better} ({sentence[:60]})")
        if (count := len(re.findall(r"\w\S*", sentence))) > LONGEST:
            found.append(f"{line}: {count} words in one sentence, at most {LONGEST}: {sentence}")
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_is_in_plain_english(path: Path) -> None:
    name = path.relative_to(ROOT)

    assert [f"{name}:{fault}" for fault in faults(path.read_text("utf-8"))] == []


def _said(path: Path) -> Iterator[Sentence]:
    """What a source says to people: comments and texts of Python, and whole files of others."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        yield from (Sentence(number, line) for number, line in enumerate(text.splitlines(), 1))
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] in ("COMMENT", "STRING", "FSTRING_MIDDLE"):
            yield Sentence(token.start[0], " ".join(token.string.split()))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_uses_the_usual_words(path: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: not {match[0]!r}; write: {WORDS[word]}"
        for line, text in _said(path)
        for word, pattern in _IN_SOURCES.items()
        if (match := pattern.search(text))
    ]

    assert found == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("A patch\nmends it.", "1: not 'mends'; write: fix"),
        ("| a | It is told\\| so |", "1: not 'is told'"),
        ("# Made anew", "1: not 'anew'"),
        ("\n- one\n- all but for one", "3: not 'but for'"),
        ("Good. Who verifies trusts the keys.", "1: not 'Who'; write: users who"),
        ("word " * 36, "1: 36 words in one sentence"),
        ("a `b c` " * 18, "1: 36 words in one sentence"),
        ("[word word](https://example.com) " * 18, "1: 36 words in one sentence"),
    ],
)
def test_a_fault_is_found(text: str, fault: str) -> None:
    (found,) = faults(text)

    assert found.startswith(fault)


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nnox -s prove -- --afresh # mend it\n```",
        "`--afresh` drops the results.",
        "<!-- freewheel docs: odd -->\n| told anew |\n<!-- end -->",
        "word " * 35,
        "word " * 30 + ".\n\n" + "word " * 30,
        "- " + "word " * 30 + "\n- " + "word " * 30,
        "word " * 30 + "end. " + "word " * 30,
        "Who checks a wheel?",
    ],
)
def test_what_is_plain_or_code_is_left_alone(text: str) -> None:
    assert faults(text) == []
