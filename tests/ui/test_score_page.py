"""A form's page in the browser: a psychometrician releases its score table, and issues the month's scores."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Page, expect

from irt_assets.scores.issued import current_scores
from irt_assets.scores.releases import released_tables
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.server import build_app
from tests.helpers import rooms
from tests.helpers.door import listening, port_of, serve_in_thread
from tests.helpers.rooms import call
from tests.helpers.score_world import MONTH, NOW, build_exam, make_tables
from tests.ui.walked_platform import Picture

pytestmark = [pytest.mark.xdist_group("ui"), pytest.mark.ci]


def test_table_is_released_and_its_scores_are_issued_in_the_browser(
    settings: Settings, database: Database, tmp_path: Path, page: Page, picture: Picture
) -> None:
    build_exam(database, tmp_path / "exam")
    table = make_tables(database)["F1"]
    own = listening()
    with dg.DagsterInstance.ephemeral() as instance:
        reader = Reader(settings, instance)
        reader.now = lambda: NOW  # type: ignore[method-assign]
        with serve_in_thread(build_app(reader, None, settings), [own]):
            page.goto(f"http://localhost:{port_of(own)}/?view=form&form=F1&month={MONTH}")
            for button, confirm in (("Release the newest table", "Yes, release"), ("Issue the month", "Yes, issue")):
                page.get_by_label("Reason").fill("committee of June")
                page.get_by_role("button", name=button).click()
                page.get_by_role("button", name=confirm, exact=True).click()
                expect(page.locator("h1 + .decided")).to_be_visible()
            expect(page.get_by_text(f"Score table {table.table_id} of {MONTH} is released.")).to_be_attached()
            picture(page, "scores-of-a-form", full_page=True)
            page.set_viewport_size({"width": 390, "height": 844})
            page.reload()
            for summary in page.locator("main details > summary").all():
                summary.click()
            picture(page, "scores-of-a-form-on-a-phone", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert call(database, released_tables, rooms.SCALE)["F1"].table_hash == table.table_hash
    issued = call(database, current_scores, form_id="F1")
    assert (len(issued), {score.table_id for score in issued}) == (150, {table.table_id})
