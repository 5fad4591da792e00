"""The red month's answers are put right, and the analyst makes it again."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from irt_assets.gates.month_judged import State
from tests.helpers.rooms import run_sql
from tests.testbed.patience import patient
from tests.ui.test_analyst_red_month import BACKFILL_S, backfill, open_check
from tests.ui.walked_platform import Picture, Platform

pytestmark = [pytest.mark.timeout(patient(BACKFILL_S + 300)), pytest.mark.xdist_group("ui")]
PUT_RIGHT = "UPDATE response_log SET correct = true FROM misrecorded m WHERE m.attempt_id = response_log.attempt_id"


def test_once_the_answers_are_right_that_month_and_the_next_are_made_green(
    platform: Platform, page: Page, picture: Picture
) -> None:
    platform.make(platform.months[0])
    run_sql(platform.stack.database, PUT_RIGHT)
    backfill(platform, page, "red-6-backfill", picture)
    expect(page.get_by_role("row", name="100% completed 2 0 2 0")).to_be_visible()
    picture(page, "red-7-backfill-ended")
    assert platform.states() == [State.GREEN] * 3


def test_its_checks_pass_now(platform: Platform, page: Page, picture: Picture) -> None:
    open_check(platform, page)
    expect(page.get_by_text("Passed (3)")).to_be_visible()
    page.get_by_text(platform.bad, exact=True).first.click()
    expect(page.get_by_text("anchors agree").first).to_be_visible()
    picture(page, "red-8-checks")
