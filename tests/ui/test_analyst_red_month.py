"""An analyst finds a red month in a browser, reads the reason and opens the plot.

The answers are corrected in `test_red_month_corrected`.
"""

from __future__ import annotations

import dagster as dg
import pytest
from playwright.sync_api import Page, expect

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.gates.gates import SET_GATES
from irt_assets.gates.month_classification import State
from services.dashboard.views.months import backfill_path
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for
from tests.ui.walked_platform import Picture, Platform

BACKFILL_S = 240
pytestmark = [pytest.mark.timeout(patient(BACKFILL_S + 300)), pytest.mark.xdist_group("ui")]
UNDER_WAY = {"REQUESTED", "FAILING", "CANCELING"}


def test_backfill_is_launched_by_clicking_and_a_failing_month_delays_no_other_month(
    platform: Platform, page: Page, picture: Picture
) -> None:
    """The dashboard's link is the first of three clicks."""
    platform.make(platform.months[0])
    page.goto(f"{platform.address}{backfill_path(platform.months[1:])}")
    page.get_by_role("button", name="Materialize all").click()
    expect(page.get_by_placeholder("ex: ")).to_have_value(f"[{platform.bad_month}...{platform.months[2]}]")
    picture(page, "red-1-backfill")
    page.get_by_role("button", name="Launch backfill").click()
    expect(page.get_by_text("Created backfill")).to_be_visible()
    page.get_by_text("View", exact=True).click()
    page.wait_for_url("**/runs/b/*")
    shown = page.url
    backfill = shown.rpartition("/")[2]
    page.goto("about:blank")
    wait_for(
        "the backfill to end", lambda: platform.stack.backfill_status(backfill) not in UNDER_WAY, BACKFILL_S, pause=2
    )
    page.goto(shown)
    expect(page.get_by_text("100% completed")).to_be_visible()
    picture(page, "red-2-backfill-ended")
    expect(page.get_by_role("row", name="100% completed 2 0 1 1")).to_be_visible()
    if State.PENDING in platform.states():  # the last month finished before the bad month, and no sensor runs here
        settled = platform.stack.launch(MONTHLY_JOB, platform.months[2], ["published_item_parameters", "abilities"])
        assert platform.stack.finished(settled) is dg.DagsterRunStatus.SUCCESS
    assert platform.states() == [State.GREEN, State.RED, State.GREEN]


def test_the_red_month_is_shown_as_failed_on_the_asset_of_publications(
    platform: Platform, page: Page, picture: Picture
) -> None:
    page.goto(f"{platform.address}/assets/published_item_parameters?view=partitions")
    expect(page.get_by_text("Failed (1)")).to_be_visible()
    page.get_by_text(platform.bad_month, exact=True).first.click()
    expect(page.get_by_text("failed, and did not materialize this asset")).to_be_visible()
    picture(page, "red-3-month")


def test_log_of_the_red_months_run_states_the_reason_and_the_decision_to_make(
    platform: Platform, page: Page, picture: Picture
) -> None:
    (failed, *_) = platform.stack.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    page.goto(f"{platform.address}/runs/{failed.run_id}")
    expect(page.get_by_text(f"{platform.bad_month} is held: ").first).to_be_visible()
    expect(page.get_by_text("decide: take the anchors that changed").first).to_be_visible()
    picture(page, "red-3-run")


def test_asset_page_of_the_red_month_states_the_reason_and_names_the_dashboard(
    platform: Platform, page: Page, picture: Picture
) -> None:
    page.goto(f"{platform.address}/assets/published_item_parameters?view=events&partition={platform.bad_month}")
    expect(page.get_by_text(f"{platform.bad_month} is held: ").first).to_be_visible()
    picture(page, "red-3-asset")
    expect(page.get_by_text("the dashboard, or `irt release`").first).to_be_visible()


def test_failed_check_of_the_red_month_states_the_reason_and_the_remedy(
    platform: Platform, page: Page, picture: Picture
) -> None:
    open_check(platform, page)
    page.get_by_text(platform.bad_month, exact=True).first.click()
    expect(page.get_by_text("anchors moved against the others").first).to_be_visible()
    (fix,) = (gate.fix for gate in SET_GATES if gate.name == "anchors_agree")
    expect(page.get_by_role("row").filter(has_text="how to fix it").get_by_text(fix)).to_be_visible()
    picture(page, "red-4-why")


def test_linking_plot_of_the_red_month_is_shown_as_a_picture(platform: Platform, page: Page, picture: Picture) -> None:
    page.goto(f"{platform.address}/assets/linked_item_parameters?view=partitions&partition={platform.bad_month}")
    page.get_by_role("row").filter(has_text="plot: linking (").get_by_text("Show Markdown").click()
    plot = page.locator("img[src^='data:image/svg']").first
    expect(plot).to_be_visible()
    assert plot.evaluate("image => image.naturalWidth") > 300
    picture(page, "red-5-plot")


def open_check(platform: Platform, page: Page) -> None:
    page.goto(f"{platform.address}/assets/linked_item_parameters?view=checks&checkDetail=anchors_agree")
    expect(page.get_by_role("tab", name="Partitions")).to_have_count(2)  # a tab of the asset and a tab of the check
    page.get_by_role("tab", name="Partitions").last.click()
