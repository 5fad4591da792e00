"""The red month's answers are corrected, the month is calibrated again, and the analyst sees its checks pass."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from irt_assets.gates.month_classification import State
from irt_assets.runs.in_process_runs import run_month
from tests.helpers.rooms import run_sql
from tests.ui.test_analyst_red_month import open_check
from tests.ui.walked_platform import Picture, Platform

pytestmark = pytest.mark.xdist_group("ui")
PUT_RIGHT = "UPDATE response_log SET correct = true FROM misrecorded m WHERE m.attempt_id = response_log.attempt_id"


def test_corrected_month_and_the_next_month_become_green_when_recalibrated(platform: Platform) -> None:
    platform.make(platform.months[0])
    run_sql(platform.stack.database, PUT_RIGHT)
    for month in platform.months[1:]:
        assert platform.run_in_thread(run_month, month).success
    assert platform.states() == [State.GREEN] * 3


def test_checks_of_the_corrected_month_pass(platform: Platform, page: Page, picture: Picture) -> None:
    open_check(platform, page)
    expect(page.get_by_text("Passed (3)")).to_be_visible()
    page.get_by_text(platform.bad_month, exact=True).first.click()
    expect(page.get_by_text("anchors agree").first).to_be_visible()
    picture(page, "red-6-checks")
