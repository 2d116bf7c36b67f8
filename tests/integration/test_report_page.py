"""The report in a real browser: nothing is cut off, and everybody can read it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from freewheel.machine import debian
from freewheel.proof import form
from freewheel.proof.judgement import JudgedDefect
from freewheel.proof.report import Uncertified, render
from tests.unit.proofmaker import certify, make_evidence, make_tally

pytestmark = pytest.mark.integration

# Playwright's own download is not needed: any Chromium does, and distributions have one.
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("chromium", "fonts-dejavu-core")
PHONE, TABLET, DESKTOP = (360, 740), (800, 1100), (1280, 800)
SCREENSHOTS = "FREEWHEEL_SCREENSHOTS"  # the variable that names a directory for pictures
LONG = "a title of a defect that goes on for a while, as titles of defects do, and_has_a_long_name"


def find_browser() -> str:
    """A Chromium of this machine, installed where that is possible; else the test is skipped."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    why = "only root can, on Debian or Ubuntu"
    if found is None and debian.can_install():
        try:
            debian.install(PACKAGES, why="the report is tested in a real browser")
        except debian.AptError as error:
            why = str(error)
        found = shutil.which(PROGRAMS[0])
    if found is None:
        pytest.skip(
            f"no browser ({', '.join(PROGRAMS)}), and none could be installed ({why}): "
            f"{debian.install_command(PACKAGES)}"
        )
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=find_browser())
        yield running
        running.close()


def make_certificates(directory: Path) -> list[form.Certificate]:
    """One certificate with everything in it, and one with many defects and long names."""
    whole = certify(
        make_evidence(directory, said="Traceback (most recent call last):\n" + "x" * 400)
    )
    (defect,) = whole.defects
    many = [
        defect.model_copy(update={"id": f"D{number}", "title": f"{number}: {LONG}"})
        for number in range(2, 8)
    ]
    open_one = defect.model_copy(update={"id": "D99", "verdict": "open"})
    wheel = whole.wheel.model_copy(
        update={
            "project": "sqlalchemy",
            "version": "2.1.9+ft.12",
            "release": "2.1.9",
            "name": "sqlalchemy-2.1.9+ft.12-cp314-cp314t-"
            "manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        }
    )
    other = whole.model_copy(
        update={"wheel": wheel, "defects": [*many, open_one], "figures": [], "kind": "quick"}
    )
    return [whole, other]


def make_uncertified() -> Uncertified:
    return Uncertified(
        name="lz4-4.4.5+ft.1-cp314-cp314t-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        project="lz4",
        version="4.4.5+ft.1",
        reasons=("the full proof of 2026-11-30 ended without a certificate",),
        defects=(
            JudgedDefect(
                id="L1",
                title=LONG,
                verdict="not fixed",
                explanation="the patched wheel fails in 3 of 40 runs",
                blocks=True,
                baseline=make_tally(10, 10),
                patched=make_tally(40, 3, said="wrong: " + "y" * 300),
            ),
        ),
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("report")
    path = directory / "index.html"
    text = render(make_certificates(directory), [make_uncertified()])
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


def open_page(
    browser: Browser,
    report: str,
    size: tuple[int, int],
    scheme: Literal["light", "dark"] = "light",
    *,
    scripts: bool = True,
) -> tuple[Page, list[str]]:
    """The report in a window of that size, and all that the browser complains about."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        java_script_enabled=scripts,
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto(report)
    return page, complaints


def violations(page: Page) -> list[Any]:
    """What axe-core finds, as (rule, element)."""
    result = Axe().run(page).response
    assert result["passes"]  # it did look
    return [(one["id"], node["html"]) for one in result["violations"] for node in one["nodes"]]


# Elements that are wider than the window, or than the element that they are in.
CUT_OFF = """() => [...document.querySelectorAll('main *')].filter(one => {
    const box = one.getBoundingClientRect();
    const hides = getComputedStyle(one).overflowX !== 'visible';
    return box.right > document.documentElement.clientWidth + 1
        || (hides && one.scrollWidth > one.clientWidth + 1 && box.width > 1);
}).map(one => one.outerHTML.slice(0, 100))"""


@pytest.mark.parametrize(
    ("size", "scheme"),
    [(PHONE, "light"), (PHONE, "dark"), (TABLET, "light"), (DESKTOP, "light"), (DESKTOP, "dark")],
)
def test_everybody_can_read_the_page(
    browser: Browser, report: str, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    page, complaints = open_page(browser, report, size, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    assert violations(page) == []
    assert page.evaluate(CUT_OFF) == []
    assert complaints == []
    if directory := os.environ.get(SCREENSHOTS):
        page.reload()
        page.screenshot(path=f"{directory}/report-{size[0]}-{scheme}.png")
        page.screenshot(path=f"{directory}/report-{size[0]}-{scheme}-whole.png", full_page=True)
    page.context.close()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_both_plots_are_seen_without_scrolling(
    browser: Browser, report: str, size: tuple[int, int]
) -> None:
    page, _ = open_page(browser, report, size)

    plots = page.locator(".wheel").first.locator(".plots")
    assert plots.count() == 2
    for plot in plots.all():
        box = plot.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= size[1]
    page.context.close()


def test_dark_is_dark(browser: Browser, report: str) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page, _ = open_page(browser, report, DESKTOP, scheme)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.context.close()

    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 24, 30)"]


def test_it_works_without_scripts(browser: Browser, report: str) -> None:
    page, complaints = open_page(browser, report, PHONE, scripts=False)

    details = page.locator("details").last
    details.locator("summary").click()
    assert details.locator(":scope > *").last.is_visible()
    assert complaints == []
    page.context.close()


def test_what_is_folded_is_printed(browser: Browser, report: str) -> None:
    page, _ = open_page(browser, report, DESKTOP, "dark")
    folded = "[...document.querySelectorAll('details pre')]"
    assert page.evaluate(f"{folded}.some(one => one.checkVisibility())") is False

    page.emulate_media(media="print")

    page.wait_for_function(f"{folded}.every(one => one.checkVisibility() && one.offsetHeight)")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf().startswith(b"%PDF")
    page.context.close()
