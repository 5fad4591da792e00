"""The pages of new items: a psychometrician seeds items with limits and publishes one in the browser."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Page, expect

from irt_assets.new_items.decided import read_seeding
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.server import build_app
from tests.helpers.door import listening, port_of, serve_in_thread
from tests.helpers.new_items import NIGHT, pipeline_item, store_pipeline
from tests.helpers.rooms import SCALE, add_items, rows
from tests.helpers.score_world import build_exam
from tests.ui.walked_platform import Picture

pytestmark = [pytest.mark.xdist_group("ui"), pytest.mark.ci]


def decide(page: Page, button: str, confirm: str) -> None:
    page.get_by_label("Reason").fill("field trial")
    page.get_by_role("button", name=button).click()
    page.get_by_role("button", name=confirm, exact=True).click()
    expect(page.locator("h1 + .decided")).to_be_visible()


def test_items_are_seeded_and_published_in_the_browser(
    settings: Settings, database: Database, tmp_path: Path, page: Page, picture: Picture
) -> None:
    build_exam(database, tmp_path / "exam", learners=40)
    add_items(database, dict.fromkeys(["slow", "ready", "draft"]))
    store_pipeline(
        database, pipeline_item("slow", 0.5), pipeline_item("ready", 0.2, publishable=True, publishable_at=NIGHT)
    )
    own = listening()
    with (
        dg.DagsterInstance.ephemeral() as instance,
        serve_in_thread(build_app(Reader(settings, instance), None, settings), [own]),
    ):
        address = f"http://localhost:{port_of(own)}/?scale={SCALE}"
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(f"{address}&view=new_items")
        page.get_by_label("Items", exact=True).select_option(["slow", "draft"])
        page.get_by_text("Limits for seeding").click()
        page.get_by_label("Most answers to an item").fill("60")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        picture(page, "new-items", full_page=True)
        decide(page, "Seed …", "Yes, seed")
        with database.connect() as connection:
            seeded = read_seeding(connection, SCALE, rows(database, "SELECT now()")[0][0])
        assert {item: limits.max_answers for item, limits in seeded.items()} == {"slow": 60, "draft": 60}

        page.goto(f"{address}&view=item&item=ready")
        page.get_by_text("Decide on the item").click()
        picture(page, "new-item", full_page=True)
        decide(page, "Publish …", "Yes, publish")
        assert rows(database, "SELECT count(*) FROM item_parameter_publication WHERE item_id = 'ready'") == [(1,)]
        page.set_viewport_size({"width": 390, "height": 844})
        for view in ("new_items", "item&item=draft"):
            page.goto(f"{address}&view={view}")
            for folded in page.get_by_text("Decide on the item").all():
                folded.click()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            picture(page, f"{view.partition('&')[0]}-phone", full_page=True)
