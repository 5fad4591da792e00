"""The page of an adaptive test in the browser, wide and on a phone."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Page, expect

from irt_assets.adaptive.policy import Policy
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.server import build_app
from tests.helpers import rooms
from tests.helpers.decided import set_policy
from tests.helpers.door import listening, port_of, serve_in_thread
from tests.helpers.rooms import run_sql
from tests.helpers.score_world import SIGNED, build_exam
from tests.ui.walked_platform import Picture

pytestmark = [pytest.mark.xdist_group("ui"), pytest.mark.ci]
POLICY = f"""test: placement
scale: {rooms.SCALE}
length: {{min: 5, max: 12, se: 0.45}}
topics: {{algebra: {{min: 2, max: 5}}}}
enemies: [[i1, i2]]
exposure: {{max: 0.5}}
"""


def test_page_of_a_test_shows_promises_exposure_and_content_on_any_screen(
    settings: Settings, database: Database, tmp_path: Path, page: Page, picture: Picture
) -> None:
    build_exam(database, tmp_path / "exam")
    run_sql(database, "UPDATE question SET topic_id = 'algebra' WHERE right(item_id, 1) IN ('0', '2', '4', '6', '8')")
    set_policy(database, Policy.from_yaml(POLICY), **SIGNED)
    own = listening()
    with (
        dg.DagsterInstance.ephemeral() as instance,
        serve_in_thread(build_app(Reader(settings, instance), None, settings), [own]),
    ):
        page.goto(f"http://localhost:{port_of(own)}/?view=test&test=placement")
        expect(page.get_by_role("heading", name="Adaptive test placement")).to_be_visible()
        for title in ("Precision", "Length", "Exposure", "Content", "Versions"):
            expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        expect(page.get_by_role("cell", name="topic algebra")).to_be_visible()
        picture(page, "adaptive-test", full_page=True)
        page.set_viewport_size({"width": 390, "height": 844})
        page.reload()
        expect(page.get_by_role("heading", name="Exposure", exact=True)).to_be_visible()
        picture(page, "adaptive-test-on-a-phone", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
