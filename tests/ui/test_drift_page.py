"""The drift report in a browser: its tables sort, its list can be filtered, and it makes no network requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.helpers.drift_facts import ANCHOR, BAD, LEAKED, NOW, SOUND, drift_row, html, made_up_facts, made_up_item
from tests.helpers.learner_facts import FACTS, page as learner_page

pytestmark = pytest.mark.xdist_group("ui")
LEARNERS = (FACTS, replace(FACTS, lang="ko", name="김하늘"))


@pytest.fixture
def report(page: Page, tmp_path: Path) -> Page:
    """The report of five items. The name of one item is a script, and another item was not compared."""
    evil, new = made_up_item(BAD, drift_row(BAD, "2026-10", 0.1, "none")), made_up_item("A0")
    written = tmp_path / "report.html"
    written.write_text(html(made_up_facts(SOUND, LEAKED, ANCHOR, evil, new), NOW), "utf-8")
    page.goto(written.as_uri())
    return page


def test_a_click_on_a_heading_sorts_and_a_second_click_reverses_with_unknown_values_last(report: Page) -> None:
    table = report.locator("#items-table")
    column = table.locator("thead th").all_inner_texts().index("Δb")

    def shown() -> list[str]:
        return [row.locator("td").nth(column).inner_text() for row in table.locator("tbody tr").all()]

    heading = table.get_by_role("button", name="Δb")
    heading.click()
    assert shown() == ["−0.90", "+0.02", "+0.10", "+0.60", "–"]
    heading.click()
    assert shown() == ["+0.60", "+0.10", "+0.02", "−0.90", "–"]


def test_filter_of_the_list_shows_only_matching_items(report: Page) -> None:
    rows = report.locator("#items-table tbody tr:visible")
    assert rows.count() == 5
    report.get_by_label("Show only").fill("HIGH")
    assert rows.count() == 2
    report.get_by_label("Show only").fill("")
    assert rows.count() == 5


PHONE = {"width": 390, "height": 844}
OUTSIDE = """() => [...document.querySelectorAll("h1, h2, h3, p, li, dt, dd, nav a, code, .cards td")]
  .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((e) => e.textContent)"""
BROKEN = r"""() => {
  const broken = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, range = document.createRange();
    if (!text.parentElement.closest("td, th, dt")) continue;
    range.selectNodeContents(text);
    const lines = new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size;
    if (lines > text.textContent.trim().split(/[\s/:-]+/).length) broken.push(text.textContent);
  }
  return broken;
}"""
"""Texts in tables that take more lines than they have words."""


@pytest.mark.parametrize("viewport", [PHONE, {"width": 1200, "height": 900}])
def test_reports_fit_phones_and_desktops_without_overflow_or_broken_words(
    page: Page, tmp_path: Path, viewport: dict[str, int]
) -> None:
    """Wide tables scroll sideways on their own, so the page as a whole does not."""
    page.set_viewport_size(viewport)  # type: ignore[arg-type]
    written = tmp_path / "report.html"
    for made in (html(made_up_facts(SOUND, LEAKED, ANCHOR), NOW), *map(learner_page, LEARNERS)):
        written.write_text(made, "utf-8")
        page.goto(written.as_uri())
        width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert width[0] <= width[1]
        assert (page.evaluate(OUTSIDE), page.evaluate(BROKEN)) == ([], [])


def test_item_names_run_no_script_and_the_report_makes_no_network_request(page: Page, report: Page) -> None:
    messages, requests = [], []
    page.on("dialog", lambda dialog: (messages.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: messages.append(str(error)))
    report.reload()
    report.wait_for_load_state("networkidle")
    assert messages == []
    assert [url for url in requests if not url.startswith("file:")] == []
    assert "alert('x')" in report.locator("#items-table").inner_text()
