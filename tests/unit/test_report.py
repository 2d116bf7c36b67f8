"""The page that is made from certificates."""

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.workspace import Workspace
from freewheel.proof import control, form
from freewheel.proof.judgement import Judgement, judged, keep
from freewheel.proof.report import chance, failed_runs, figure, percent, render, times, write
from tests.unit.proofmaker import NOON, certify, make_evidence, make_probe, make_tally
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


# What a certificate says for programs, or the page says in other words.
UNSHOWN = {
    "schema",
    "kind",
    "gil",
    "baseline-gil",
    "verdict",
    "use",
    "program",
    "case",
    "started",
    "finished",
    "failed-checks",
}


def strings(value: object, name: str = "") -> Iterator[str]:
    """All texts in a certificate that the page should have."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in UNSHOWN:
                yield from strings(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, name)
    elif isinstance(value, str) and value:
        yield value


def plain(page: str) -> str:
    """What a person reads: without elements, and one space between words."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", "", page)))


@pytest.fixture
def certified(tmp_path: Path) -> form.Certificate:
    return certify(make_evidence(tmp_path, said="<got> 7"))


def test_the_page_is_one_whole_file(certified: form.Certificate) -> None:
    page = render([certified], [])

    checker = check(page)
    assert len(checker.ids) == len(set(checker.ids))
    assert {link.removeprefix("#") for link in checker.links} <= set(checker.ids)
    assert checker.fetched == []
    assert "<script" not in page
    assert "url(" not in page


def test_no_text_of_a_certificate_is_left_out(certified: form.Certificate) -> None:
    text = plain(render([certified], []))

    content = certified.model_dump(mode="json", by_alias=True)
    for suite in content["suites"]:
        del suite["name"]  # it says in how many threads its tests ran
    assert [one for one in strings(content) if " ".join(one.split()) not in text] == []


def test_what_decides_is_at_the_top(certified: form.Certificate) -> None:
    page = render([certified], [])

    summary = plain(page[page.index("<section") : page.index("</section>")])
    runs = certified.defects[0].baseline.runs
    assert f"{certified.wheel.project} {certified.wheel.version}" in summary
    assert "1 defect fixed" in summary
    assert "Nothing known is open" in summary
    assert certified.finished.date().isoformat() in summary
    assert f"{runs} of {runs} runs fail" in summary
    assert f"/simple/ {certified.wheel.project}=={certified.wheel.version}" in summary
    assert page.count('class="install"') == 1


def test_an_open_defect_is_named_at_the_top(certified: form.Certificate) -> None:
    known = certified.defects[0].model_copy(update={"verdict": "open", "id": "D9"})
    page = render([certified.model_copy(update={"defects": [known]})], [])

    check(page)
    assert "Open: D9" in plain(page[: page.index("</section>")])


def test_the_plots_follow_from_the_runs_and_the_rates(certified: form.Certificate) -> None:
    without, with_patches = failed_runs(certified)
    one, several = times(certified)

    (defect,) = certified.defects
    assert without.share == defect.baseline.failures / defect.baseline.runs == 1
    assert with_patches.share == 0
    assert str(defect.patched.runs) in with_patches.text
    # Twice the rate is half of the time, and the mark of 1 is at two thirds of the width.
    assert one.share == pytest.approx(0.5 / 1.5)
    assert several.share == pytest.approx(0.125 / 1.5)
    assert times(certified.model_copy(update={"figures": []})) == []


def make_blocked(tmp_path: Path) -> tuple[Workspace, str]:
    """A checkout with the wheel of the recipe, and a proof of it that found a problem."""
    workspace = Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path)
    wheel = make_wheel(workspace.wheels, RECIPE.name, RELEASE.local_version)
    make_record(wheel)
    probe = make_probe(tmp_path / "probes", "D1")
    fine = make_probe(tmp_path / "probes", "D2")
    findings = [
        (
            one,
            control.judge(
                one, make_tally(10, 10), make_tally(40, failures), claimed=True, quick=False
            ),
        )
        for one, failures in ((probe, 40), (fine, 0))
    ]
    sha256 = files.sha256(wheel)
    found = Judgement(
        kind="full", finished=NOON, defects=judged(findings), others=("stress: ends with <hang>",)
    )
    keep(workspace, sha256, found)
    return workspace, wheel.name


def test_a_wheel_without_a_certificate_says_why_defect_by_defect(tmp_path: Path) -> None:
    workspace, name = make_blocked(tmp_path)

    page = write(workspace, [RECIPE]).read_text("utf-8")

    check(page)
    text = plain(page[page.index("<section") : page.index("</section>")])
    assert name in text
    assert "the full proof of 2026-11-25 ended without a certificate" in text
    assert "stress: ends with <hang>" in text
    assert "D1 the defect <D1>" in text
    assert "not fixed the patched wheel fails in 40 of 40 runs" in text
    assert "40 of 40 fail" in text
    assert "D2" not in text
    assert "The other defect does not block" in text


def test_a_wheel_that_was_not_proven_says_so(tmp_path: Path) -> None:
    workspace, _ = make_blocked(tmp_path)
    for path in workspace.proof.glob("*.json"):
        path.unlink()

    text = plain(write(workspace, [RECIPE]).read_text("utf-8"))

    assert "no proof of it has ended on this machine yet" in text
    assert f"nox -s prove-{RECIPE.name} -- --release {RELEASE.version}" in text


def test_a_certificate_that_does_not_hold_is_a_reason(tmp_path: Path) -> None:
    workspace, name = make_blocked(tmp_path)
    (workspace.wheels / f"{name}.certificate.json").write_text("{")

    text = plain(write(workspace, [RECIPE]).read_text("utf-8"))

    assert "its certificate does not hold: " in text
    assert "not certified" in text


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
