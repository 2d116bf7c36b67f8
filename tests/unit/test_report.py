"""The page that is made from certificates."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from freewheel.base.workspace import Workspace
from freewheel.proof.report import Uncertified, chance, figure, percent, render, write
from tests.unit.proofmaker import certify, make_evidence
from tests.unit.sbommaker import RECIPE, RELEASE
from tests.unit.wheelmaker import make_record, make_wheel

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Checker(HTMLParser):
    """Fails on elements that are not closed in order; gathers ids, links and what is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name in ("src", "srcset", "data"):
                self.fetched.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def test_a_certificate_is_all_there(tmp_path: Path) -> None:
    page = render([certify(make_evidence(tmp_path, said="<got> 7"))], [])

    checker = check(page)
    assert checker.ids == ["demo-1.0-cp314t"]
    assert checker.links == ["#demo-1.0-cp314t"]
    assert checker.fetched == []
    assert "<script" not in page
    assert "url(" not in page
    text = re.sub(r"\s+", " ", page)
    for told in (
        "the defect &lt;D1&gt;",
        "&lt;got&gt; 7",
        "10 of 10 fail",
        "0 of 40 fail",
        "1 in 10.3 thousand million",
        "importing the baseline turns it on",
        "8 s of work, every answer right",
        "9 of them in 4 threads at once",
        "7 passed, 3 failed; demo.core turned the GIL on",
        "test_&lt;broken&gt;",
        "it needs a network",
        "<code>race_top:unicode_hash</code>",
        "it expects &lt;a leak&gt;",
        "with patches 1 of 4 fail",
        "go &lt;there&gt;",
        "2.00 times the rate without patches (1.80 to 2.20)",
        "8.00 times in 2 threads (7.20 to 8.80)",
        "0.976 of what 2 processes do (0.878 to 1.07); without patches 0.250",
        "nox -s prove-demo -- --release 1.0 --afresh",
    ):
        assert told in text


def test_wheels_without_a_certificate_are_named() -> None:
    page = render([], [Uncertified(name="demo-1.0.whl", reason="there is no certificate")])

    check(page)
    assert "demo-1.0.whl" in page
    assert "there is no certificate" in page


def test_wheels_of_an_earlier_revision_are_not_spoken_of(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path, cache=tmp_path, data=tmp_path)
    names = []
    for version in (RELEASE.local_version, f"{RELEASE.version}+ft.99"):
        wheel = make_wheel(workspace.wheels, RECIPE.name, version)
        names.append(wheel.name)
        make_record(wheel)

    page = write(workspace, [RECIPE]).read_text("utf-8")

    assert names[0] in page
    assert names[1] not in page


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.976, "0.976"), (1.0, "1.00"), (7.449, "7.45"), (40.6, "40.6"), (1234.5, "1,234")],
)
def test_figures(value: float, told: str) -> None:
    assert figure(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1.0, "certain"),
        (0.5, "1 in 2"),
        (1 / 5_461_512, "1 in 5.46 million"),
        (1e-10, "1 in 10 thousand million"),
        (1e-14, "1 in 100 million million"),
    ],
)
def test_chances_in_words(value: float, told: str) -> None:
    assert chance(value) == told


def test_shares() -> None:
    assert [percent(share) for share in (0, 0.0488, 0.51, 1)] == ["0 %", "4.9 %", "51 %", "100 %"]
