"""The page of a form that was assembled: a psychometrician looks at the draft and releases it in the browser."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Page, expect

from irt_assets.adaptive.blueprint import Blueprint
from irt_assets.adaptive.forms import assemble_forms, read_drafts, store_drafts
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.server import build_app
from tests.helpers.door import listening, port_of, serve_in_thread
from tests.helpers.rooms import SCALE, call
from tests.helpers.score_world import NOW, SIGNED, build_exam
from tests.ui.walked_platform import Picture

pytestmark = [pytest.mark.xdist_group("ui"), pytest.mark.ci]

RULES = f"""
name: mock
scale: {SCALE}
forms: 2
length: {{max: 10}}
objective: {{kind: target, theta: [-1, 0, 1], target: [1.8, 2.2, 1.8]}}
enemies: [[i1, i2]]
"""


def test_draft_is_released_and_its_release_undone_in_the_browser(
    settings: Settings, database: Database, tmp_path: Path, page: Page, picture: Picture
) -> None:
    build_exam(database, tmp_path / "exam", learners=40)
    store_drafts(database, call(database, assemble_forms, Blueprint.from_yaml(RULES), NOW), **SIGNED)
    own = listening()
    with dg.DagsterInstance.ephemeral() as instance:
        reader = Reader(settings, instance)
        reader.now = lambda: NOW  # type: ignore[method-assign]
        with serve_in_thread(build_app(reader, None, settings), [own]):
            page.goto(f"http://localhost:{port_of(own)}/?view=forms&scale={SCALE}")
            page.get_by_role("link", name="mock-2").click()
            expect(page.get_by_role("heading", name="Overlap")).to_be_visible()
            expect(page.locator(".figure .main-svg").first).to_be_visible()
            picture(page, "draft-of-a-form", full_page=True)
            for button, confirm, state in (
                ("Release the form", "Yes, release", "released"),
                ("Undo the release", "Yes, undo", "draft"),
            ):
                page.get_by_label("Reason").fill("exam of June")
                page.get_by_role("button", name=button).click()
                page.get_by_role("button", name=confirm, exact=True).click()
                expect(page.locator("h1 + .decided")).to_be_visible()
                expect(page.get_by_text(f"Form mock-2: {state} since")).to_be_visible()
                assert call(database, read_drafts)["mock-2"].state == state
            page.set_viewport_size({"width": 390, "height": 844})
            page.reload()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
