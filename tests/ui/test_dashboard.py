"""A psychometrician's month on the dashboard in a real browser, and the accessibility of every view.

The tests are a story and run in order. The second of three months is red; in the third some items have become easy, so
a decision waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus

import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, expect

from irt_assets.common.partitions import Month
from irt_assets.decisions.proposals import waiting_proposals
from irt_assets.decisions.release import next_month
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.gates.month_classification import State
from irt_assets.item_analysis.stored import write_analysis
from irt_assets.ledger.publications import in_force
from irt_assets.runs.in_process_runs import run_job
from services.dashboard.data_access import Reader
from services.dashboard.server import build_app
from services.jwt_verifier.tokens import build_verifier
from tests.helpers.door import listening, port_of, serve_in_thread
from tests.helpers.sat12 import FORM, ITEM_32
from tests.testbed.issuer import Issuer
from tests.testbed.patience import patient
from tests.ui.walked_platform import PAGE_MS, Picture, Platform

pytestmark = pytest.mark.xdist_group("ui")
COOKIE = "irt"
AXE = {"resultTypes": ["violations"], "preload": {"assets": ["media"]}}
"""`preload` prevents a request for Bootstrap's `@import url("font.css")` relative to the page, which would fail."""
PHONE = {"width": 390, "height": 844}
WAITING = re.compile("decisions? waits?")
SETTLED = """() => document.readyState === 'complete' && window.Shiny?.shinyapp?.isConnected()
    && !document.documentElement.matches('.shiny-busy') && !document.querySelector('.recalculating')"""
REASON = "read by two people, and asked too often"


class Dashboard:
    """The dashboard's address, reader, months and an item that waits for a decision."""

    def __init__(self, address: str, reader: Reader, months: list[str], item: str) -> None:
        self.address, self.reader, self.database, self.item = address, reader, reader.database, item
        self.first, self.red, self.last = months

    @property
    def proposal(self) -> str:
        return f"{self.last}/{self.item}"


@pytest.fixture(scope="module")
def dashboard(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    first, _, last = platform.months
    platform.make(*platform.months)
    stack = platform.stack
    for month in (first, last):
        assert platform.run_in_thread(run_job, DRIFT_JOB, month)
    assert platform.states() == [State.GREEN, State.RED, State.GREEN]
    with stack.database.connect() as connection:
        waiting = next(p for p in waiting_proposals(connection) if p.window == last)
        items = [replace(ITEM_32, item_id=waiting.item_id, form_id=name, position=1) for name in ("", FORM.form_id)]
        write_analysis(connection, "default", last, [replace(FORM, form_id=""), FORM], items)
    login = Issuer().settings(tmp_path_factory.mktemp("login"))
    settings = stack.settings.model_copy(update={**login, "jwt_cookie_name": COOKIE})
    reader = Reader(settings, stack.instance)
    own = listening()
    with serve_in_thread(build_app(reader, build_verifier(settings), settings), [own]):
        yield Dashboard(f"http://localhost:{port_of(own)}", reader, platform.months, waiting.item_id)


def waiting_in(connection: psycopg.Connection) -> list[str]:
    return [str(p.reference) for p in waiting_proposals(connection)]


def fail_on_refusal(message: ConsoleMessage) -> None:
    if "Content Security Policy" in message.text:
        pytest.fail(message.text)


def open_page(browser: Browser, dashboard: Dashboard, role: str, **context: object) -> Page:
    """Open a page as a user with this role. A script error, or a refusal by the page's policy, fails the test."""
    made = browser.new_context(**context)  # type: ignore[arg-type]
    made.add_cookies([{"name": COOKIE, "value": Issuer().token(sub="ann", roles=[role]), "url": dashboard.address}])
    page = made.new_page()
    page.set_default_timeout(patient(PAGE_MS))
    page.on("pageerror", lambda error: pytest.fail(f"a script failed: {error}"))
    page.on("console", fail_on_refusal)
    return page


@pytest.fixture(scope="module")
def psychometrician(chromium: Browser, dashboard: Dashboard) -> Iterator[Page]:
    page = open_page(chromium, dashboard, "psychometrician", viewport={"width": 1280, "height": 900})
    yield page
    page.context.close()


# -- a psychometrician's month -----------------------------------------------------------------------


def test_first_page_shows_whether_the_month_is_safe_to_release(
    dashboard: Dashboard, psychometrician: Page, picture: Picture
) -> None:
    psychometrician.goto(dashboard.address)
    expect(psychometrician.get_by_text(f"{dashboard.last} is green and safe to release; ")).to_be_visible()
    expect(psychometrician.get_by_role("row").filter(has_text=dashboard.red).get_by_text("red")).to_be_visible()
    expect(psychometrician.get_by_role("link", name=f"{dashboard.red} of default: red")).to_be_visible()
    expect(psychometrician.locator(".glance .js-plotly-plot")).to_have_count(3)
    expect(psychometrician.locator(".tiles a").filter(has_text=dashboard.item)).to_be_in_viewport()
    picture(psychometrician, "dashboard-1-months")


def test_waiting_decisions_and_their_evidence_are_two_clicks_away(
    dashboard: Dashboard, psychometrician: Page, picture: Picture
) -> None:
    psychometrician.get_by_role("link", name=WAITING).first.click()
    expect(psychometrician.get_by_role("heading", level=1)).to_have_text("What waits for a decision?")
    psychometrician.get_by_role("link", name=dashboard.proposal, exact=True).click()
    expect(psychometrician.get_by_role("heading", level=1)).to_have_text(f"Publish the new values of {dashboard.item}?")
    expect(psychometrician.locator(".figure .main-svg").first).to_be_visible()
    expect(psychometrician.locator("#impact")).not_to_contain_text("Being computed")
    assert psychometrician.evaluate("document.activeElement.id") != "reason", "the evidence comes first"
    picture(psychometrician, "dashboard-2-proposal", full_page=True)


def test_a_decision_requires_a_reason_and_shows_its_effect_before_confirmation(
    dashboard: Dashboard, psychometrician: Page, picture: Picture
) -> None:
    psychometrician.get_by_role("button", name="Accept").click()
    expect(psychometrician.locator("#decision")).to_contain_text("needs a reason")
    psychometrician.get_by_label("Reason").fill(REASON)
    leaked = psychometrician.get_by_label("Accept it although it leaked")
    if leaked.count():
        leaked.check()
    psychometrician.get_by_role("button", name="Accept").click()
    expect(psychometrician.locator("#decision")).to_contain_text("This will happen:")
    expect(psychometrician.get_by_role("button", name="Yes, publish")).to_be_in_viewport()
    expect(psychometrician.get_by_role("button", name="Yes, publish")).to_be_focused()
    picture(psychometrician, "dashboard-3-confirm", full_page=True)
    psychometrician.get_by_role("button", name="Yes, publish").click()
    expect(psychometrician.locator("h1 + .decided")).to_contain_text(f"Accepted: {dashboard.proposal}")
    expect(psychometrician.get_by_role("heading", level=1)).to_contain_text("is accepted")
    expect(psychometrician.locator("main dl")).not_to_contain_text("open")
    expect(psychometrician.get_by_role("button", name="Accept")).to_have_count(0)
    with dashboard.database.connect() as connection:
        assert dashboard.proposal not in waiting_in(connection)
        row = connection.execute("SELECT decision, decided_by, reason FROM release_decision").fetchall()
    assert row == [("accept", "ann", REASON)]


def test_decision_is_shown_on_the_item_page_and_in_the_list_of_decisions(
    dashboard: Dashboard, psychometrician: Page, picture: Picture
) -> None:
    psychometrician.get_by_role("link", name="The item", exact=True).click()
    expect(psychometrician.get_by_role("heading", level=1)).to_have_text(f"Item {dashboard.item}")
    expect(psychometrician.get_by_text(REASON).first).to_be_attached()
    picture(psychometrician, "dashboard-4-item", full_page=True)
    psychometrician.goto(f"{dashboard.address}/?view=decisions")
    expect(psychometrician.get_by_text(REASON).first).to_be_visible()
    expect(psychometrician.locator("form").get_by_role("link", name=dashboard.proposal, exact=True)).to_have_count(0)


def test_a_decision_can_be_undone_on_the_proposals_page(
    dashboard: Dashboard, psychometrician: Page, picture: Picture
) -> None:
    psychometrician.goto(f"{dashboard.address}/?view=proposal&proposal={dashboard.proposal}")
    expect(psychometrician.get_by_role("heading", level=1)).to_contain_text("is accepted")
    psychometrician.get_by_label("Reason").fill("the other way round")
    psychometrician.get_by_role("button", name="Undo").click()
    psychometrician.get_by_role("button", name="Yes, undo").click()
    expect(psychometrician.locator("h1 + .decided")).to_be_visible()
    picture(psychometrician, "dashboard-5-undone", full_page=True)
    with dashboard.database.connect() as connection:
        assert dashboard.proposal in waiting_in(connection)
        later = next_month(dashboard.reader.now())
        before, after = (
            in_force(connection, "default", at).items[dashboard.item] for at in (Month(dashboard.last).end, later)
        )
    assert before == after


def test_reason_of_a_red_month_is_a_click_away(dashboard: Dashboard, psychometrician: Page, picture: Picture) -> None:
    psychometrician.goto(dashboard.address)
    psychometrician.get_by_role("link", name="why, and what to do").click()
    expect(psychometrician.get_by_role("heading", level=1)).to_have_text(f"Is {dashboard.red} safe to release?")
    expect(psychometrician.get_by_text("anchors moved against the others").first).to_be_visible()
    picture(psychometrician, "dashboard-6-red", full_page=True)


def test_all_moved_anchors_can_be_dropped_in_five_clicks_with_a_preview_of_the_effect(
    dashboard: Dashboard, psychometrician: Page, picture: Picture
) -> None:
    """Omits the fifth click, which confirms, as the following tests need the red month."""
    page = psychometrician
    page.goto(f"{dashboard.address}/?view=month&month={dashboard.red}")
    page.get_by_role("link", name="decide on the anchors").click()
    page.get_by_role("button", name="all", exact=True).last.click()
    page.get_by_role("button", name="Drop the chosen ones").click()
    expect(page.get_by_text("Find out first what they have in common")).to_be_visible()
    expect(page.locator("#trial li").first).to_contain_text(f"{dashboard.red} would be green")
    assert page.evaluate("document.activeElement.id") != "reason", "what is known of them comes first"
    page.locator("#reason").fill(REASON)
    page.get_by_role("button", name="Drop from the anchors").click()
    expect(page.locator("#decision")).to_contain_text("irt release restore-anchors")
    expect(page.get_by_role("button", name="Yes, drop")).to_be_visible()
    picture(page, "dashboard-6-anchors", full_page=True)


def test_bank_is_searched_and_sorted_in_place(dashboard: Dashboard, psychometrician: Page) -> None:
    """The search field keeps the focus, and the address holds the search and the order."""
    page = psychometrician
    page.goto(f"{dashboard.address}/?view=bank&scale=default")
    every = page.locator("#content tbody tr").count()
    page.get_by_label("Item or topic").fill(dashboard.item)
    expect(page.locator("#content tbody tr")).to_have_count(1)
    expect(page.get_by_label("Item or topic")).to_be_focused()
    assert f"search={dashboard.item}" in page.url
    page.get_by_label("Item or topic").fill("")
    expect(page.locator("#content tbody tr")).to_have_count(every)
    page.get_by_role("link", name="b ± SE").click()
    expect(page.get_by_role("columnheader", name="b ± SE")).to_have_attribute("aria-sort", "descending")
    assert "sort=-b" in page.url


def test_tables_sort_and_filter_on_the_page(dashboard: Dashboard, psychometrician: Page) -> None:
    page = psychometrician
    page.goto(f"{dashboard.address}/?view=decisions&month={dashboard.last}&all=1")
    rows = page.locator("form table tbody tr")
    page.get_by_role("button", name="answers").click()
    counts = [int(cell.replace(",", "")) for cell in rows.locator("td:nth-child(7)").all_inner_texts()]
    assert counts == sorted(counts)
    page.get_by_label("Filter").fill(dashboard.item)
    expect(rows.filter(visible=True)).to_have_count(1)
    assert dashboard.item in rows.filter(visible=True).inner_text()


# -- for everybody -----------------------------------------------------------------------------------


def views(dashboard: Dashboard) -> dict[str, str]:
    with dashboard.database.connect() as connection:
        row = connection.execute("SELECT user_id FROM mirt_ability ORDER BY user_id LIMIT 1").fetchone()
    return {
        "months": "view=months",
        "month": f"view=month&month={dashboard.last}&scale=default",
        "red month": f"view=month&month={dashboard.red}&scale=default",
        "compare": f"view=compare&scale=default&first={dashboard.first}&second={dashboard.last}",
        "bank": "view=bank&scale=default",
        "item": f"view=item&scale=default&item={dashboard.item}",
        "forms": "view=forms&scale=default",
        "form": f"view=form&scale=default&form={FORM.form_id}",
        "decisions": "view=decisions",
        "proposal": f"view=proposal&proposal={dashboard.proposal}",
        "learners": "view=learners&search=L",
        "learner": f"view=learner&user={row[0]}",
        "kpis": "view=kpis",
        "arrivals": "view=arrivals",
        "health": "view=health",
        "reports": "view=reports",
        "not found": "view=item&item=nothing",
    }


def test_a_screen_reader_and_a_keyboard_can_use_every_view(
    chromium: Browser, dashboard: Dashboard, picture: Picture
) -> None:
    """axe reports no serious violations, the first Tab leads to the content, and no requested file is missing."""
    page = open_page(chromium, dashboard, "psychometrician")
    found = {}
    missing: list[str] = []

    def note(answer: Response) -> None:
        if answer.status >= HTTPStatus.BAD_REQUEST and answer.request.resource_type != "document":
            missing.append(answer.url)

    page.on("response", note)
    for name, query in views(dashboard).items():
        page.goto(f"{dashboard.address}/?{query}")
        page.wait_for_function(SETTLED)
        picture(page, f"dashboard-{name.replace(' ', '-')}", full_page=True)
        found[name] = serious(page, AXE)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.context.close()
    assert missing == []
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_item_page_on_a_telephone_is_folded_and_starts_at_the_top(chromium: Browser, dashboard: Dashboard) -> None:
    """No element takes the focus, no toolbar covers a figure, and an opened section shows its figures."""
    page = open_page(chromium, dashboard, "psychometrician", viewport=PHONE)
    page.goto(f"{dashboard.address}/?view=item&item={dashboard.item}")
    expect(page.locator("[data-figure] .main-svg").first).to_be_visible()
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    assert page.evaluate("document.documentElement.scrollHeight") < 3_000
    expect(page.locator(".modebar-btn")).to_have_count(0)
    page.get_by_role("heading", name="Month by month").click()
    expect(page.locator("details[open] [data-figure] .main-svg").first).to_be_visible()
    expect(page.get_by_role("link", name="Arrivals")).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Arrivals").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Arrivals")
    page.context.close()


def test_every_view_has_enough_contrast_in_dark_mode_and_fits_a_telephone(
    chromium: Browser, dashboard: Dashboard, picture: Picture
) -> None:
    page = open_page(chromium, dashboard, "psychometrician", viewport=PHONE, color_scheme="dark")
    dim, wide = {}, {}
    for name, query in views(dashboard).items():
        page.goto(f"{dashboard.address}/?{query}")
        page.wait_for_function(SETTLED)
        picture(page, f"dashboard-phone-{name.replace(' ', '-')}", full_page=True)
        wide[name] = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        dim[name] = serious(page, {**AXE, "runOnly": {"type": "rule", "values": ["color-contrast"]}})
    page.context.close()
    assert {name: pixels for name, pixels in wide.items() if pixels > 0} == {}
    assert {name: faults for name, faults in dim.items() if faults} == {}


def serious(page: Page, options: dict[str, object]) -> list[str]:
    """Serious violations that axe reports. Disables Shiny's fading of slow outputs, which would reduce contrast."""
    page.evaluate("document.documentElement.style.setProperty('--shiny-fade-opacity', '1')")
    return [
        f"{v['id']}: {v['nodes'][0]['html'][:200]}"
        for v in Axe().run(page, options=options).response["violations"]
        if v["impact"] in ("serious", "critical")
    ]
