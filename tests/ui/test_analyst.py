"""An analyst's first quarter of an hour, in a real browser: find the graph, make a month, look at the checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from irt_assets.job_names import MONTHLY_JOB
from irt_assets.reports.artifacts import page_path, store_report
from irt_assets.reports.assets import DRIFT_REPORT
from resources.object_store import object_store
from testbed.small_world import last_months, small_world
from testbed.stack_harness import Harness, running_stack
from tests.ui.browser import PICTURE_WIDTH, photograph_graph

MONTHS = last_months(3)
MONTH, QUIET_MONTH = MONTHS[:2]
"""One that is made here, and one that is not: no sensor requests anything of it beside a test."""
GROUPS = {
    "responses": ["attempts", "question_bank", "item_response_time", "scored_responses"],
    "calibration": ["item_calibration"],
}
RUN_MS = 300_000
SET_GATES = {"item_calibration": ["converged", "connected"], "linked_item_parameters": ["linked", "anchors_agree"]}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with (
        small_world(tmp_path_factory.mktemp("world"), MONTHS) as settings,
        running_stack(settings, "irt_assets.definitions") as harness,
    ):
        yield harness


def test_a_month_is_made_by_clicking_and_the_page_follows_it(stack: Harness, page: Page, screenshots: Path) -> None:
    """It is told of what happens through a WebSocket, which our layer lets the page itself open."""
    told: list[str] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: told.append(str(frame))))
    opened = ",".join(f"global@global:{group}" for group in GROUPS)
    page.goto(f"{stack.stack.address}/asset-groups?expanded={opened}")
    for assets in GROUPS.values():
        for name in assets:
            expect(node(page, name)).to_be_attached()
    page.screenshot(path=screenshots / "1-groups.png")

    page.goto(f"{stack.stack.address}/jobs")
    page.get_by_role("link", name=MONTHLY_JOB).first.click()
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_placeholder("ex: ").fill(MONTH)
    page.get_by_placeholder("ex: ").press("Enter")
    page.screenshot(path=screenshots / "2-month.png")
    page.get_by_role("button", name="Launch 1 run").click()
    expect(page.get_by_text("Launched run")).to_be_visible()
    page.get_by_text("View", exact=True).click()
    page.wait_for_url("**/runs/*")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=RUN_MS)
    assert any(json.loads(frame)["type"] == "data" for frame in told)
    page.screenshot(path=screenshots / "3-run.png")


def test_its_checks_tell_in_a_sentence_what_they_saw(stack: Harness, page: Page, screenshots: Path) -> None:
    for asset, gates in SET_GATES.items():
        page.goto(f"{stack.stack.address}/assets/{asset}")
        page.get_by_role("tab", name="Checks").click()
        for gate in gates:
            page.get_by_text(gate, exact=True).first.click()
            expect(page.get_by_text("Passed", exact=True).first).to_be_visible()
            expect(page.get_by_text(MONTH).first).to_be_visible()
    page.screenshot(path=screenshots / "4-checks.png")


def test_its_plots_are_pictures(stack: Harness, page: Page, screenshots: Path) -> None:
    page.goto(f"{stack.stack.address}/assets/linked_item_parameters")
    page.get_by_role("tab", name="Partitions").click()
    page.get_by_text(MONTH, exact=True).first.click()
    row = page.get_by_role("row").filter(has_text="plot: parameters")
    page.screenshot(path=screenshots / "5-partition.png")
    row.get_by_text("Show Markdown").click()
    picture = page.locator("img[src^='data:image/png']").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 300
    page.wait_for_timeout(500)  # the window fades in
    page.screenshot(path=screenshots / "6-plot.png")


def test_the_readme_s_picture_of_the_graph_can_be_taken(stack: Harness, chromium: Browser, screenshots: Path) -> None:
    picture = screenshots / "asset-graph.png"
    photograph_graph(chromium, stack.stack.address, picture)
    width = int.from_bytes(picture.read_bytes()[16:20], "big")  # of the PNG's header
    assert width == PICTURE_WIDTH


def test_a_report_opens_with_one_click_and_runs_no_script(stack: Harness, page: Page, screenshots: Path) -> None:
    database, store = stack.database, object_store(stack.settings)
    evil = "<title>Drift report</title><h1>Safe to release: yes.</h1><script>document.body.remove()</script>"
    html = store_report(
        database, store, "reports/drift/a.html", evil.encode(), format="html", window=f"{QUIET_MONTH}/s"
    )
    pdf = store_report(database, store, "reports/drift/a.pdf", b"%PDF-1.7", format="pdf", window=f"{QUIET_MONTH}/s")
    links = [page_path(one.artifact_id, "") for one in (html, pdf)]
    metadata = {name: dg.MetadataValue.url(link) for name, link in zip(("open", "download"), links, strict=True)}
    stack.instance.report_runless_asset_event(
        dg.AssetMaterialization(DRIFT_REPORT, partition=QUIET_MONTH, metadata=metadata)
    )
    page.goto(f"{stack.stack.address}/assets/{DRIFT_REPORT}?view=partitions&partition={QUIET_MONTH}")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name=links[0]).first.click()
    report = opened.value
    expect(report).to_have_title("Drift report")
    expect(report.get_by_role("heading", name="Safe to release: yes.")).to_be_visible()
    report.screenshot(path=screenshots / "7-report.png")
    answer = page.request.get(f"{stack.stack.address}{links[1]}")
    assert answer.headers["content-disposition"] == f"attachment; filename*=utf-8''drift_{QUIET_MONTH}_s.pdf"


def node(page: Page, name: str) -> Locator:
    """A group or an asset in the graph."""
    return page.locator("svg foreignObject").filter(has_text=name).first.locator("div").first
