"""From the card of a suspect key to the published value of its item, in the browser, with clicks counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from irt_assets.decisions.rekey import rekey
from irt_assets.runs import queue
from resources.postgres.embedded_postgres import EmbeddedPostgres
from services.dashboard.data_access import Reader
from services.dashboard.server import build_app
from tests.helpers.dagster_private import create_run_for_test
from tests.helpers.databases import template_copy
from tests.helpers.door import listening, port_of, serve_in_thread
from tests.helpers.rooms import SCALE, rows
from tests.helpers.suspect_key import FIRST, NOW, RECORDED, RIGHT, SUSPECT, suspect_key_template
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph
from tests.integration.test_made_again import beat
from tests.ui.walked_platform import Picture

pytestmark = [pytest.mark.xdist_group("ui"), pytest.mark.ci]
MAX_CLICKS = 12
STEPS = ["Correct the key", "Recompute its months", "Decide what holds a month", "Publish its value"]


def states_of_steps(page: Page) -> list[str]:
    """State of each of `STEPS` in the list on the page."""
    table = page.get_by_role("table", name="What follows a decision on the key")
    cells = [row.get_by_role("cell").all_inner_texts() for row in table.locator("tbody tr").all()]
    assert [title for _, title, _, _ in cells] == STEPS
    return [state for _, _, state, _ in cells]


@dataclass
class Walk:
    """A page on which every click is counted, and the runs that the page has requested."""

    browser: Browser
    page: Page
    graph: Graph
    picture: Picture
    requested: list[str] = field(default_factory=list)
    clicks: list[str] = field(default_factory=list)

    def click(self, what: str, where: Locator) -> None:
        where.click()
        self.clicks.append(what)

    def press(self, name: str) -> None:
        self.click(name, self.page.get_by_role("button", name=name))

    def decide(self, button: str, confirm: str, *, effect: str, outcome: str) -> None:
        """Write a reason, look at the effect, and confirm the decision; the page loads again by itself."""
        self.click("reason", self.page.get_by_label("Reason"))
        self.page.keyboard.type("seen in the browser")
        self.press(button)
        expect(self.page.locator("#decision")).to_contain_text(effect)
        self.look(button)
        self.press(confirm)
        self.wait_for(outcome)

    def recompute(self, decision: str) -> None:
        """Recompute the month; the page loads again by itself. `decision`: the state of the third step meanwhile."""
        beat(self.graph.instance, datetime.now(UTC))
        self.press(f"Recompute {FIRST}")
        expect(self.page.get_by_text("this page loads again at the end")).to_be_visible()
        other = self.browser.new_page()
        other.goto(self.page.url)
        assert states_of_steps(other) == ["done", "under way", decision, "later"]
        other.close()
        self.run_requested()
        self.wait_for("The runs have ended.")

    def wait_for(self, outcome: str) -> None:
        """Wait until the page has loaded again and shows an outcome below its heading."""
        expect(self.page.locator("h1 + .decided")).to_contain_text(outcome)

    def steps(self) -> list[str]:
        self.look("steps")
        return states_of_steps(self.page)

    def look(self, name: str) -> None:
        self.picture(self.page, f"key-{len(self.clicks):02d}-{name.replace(' ', '-')}", full_page=True)

    def run_requested(self) -> None:
        """Run the requested months in another thread, as Playwright's event loop blocks this thread."""
        with ThreadPoolExecutor(1) as other:
            other.submit(self.graph.run, self.requested[-1]).result()
        self.end_requested()

    def end_requested(self) -> None:
        for run in self.graph.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            self.graph.instance.report_run_canceled(run)


@pytest.fixture
def walk(
    postgres: EmbeddedPostgres,
    migrated_template: str,
    tmp_path: Path,
    chromium: Browser,
    page: Page,
    picture: Picture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Walk]:
    """The first screen, on which the key of the item is suspect."""
    template, own = suspect_key_template(postgres, migrated_template), listening()
    (tmp_path / "instance").mkdir()
    with (
        template_copy(postgres, template, tmp_path / "home", **OF_MONTHS) as settings,
        dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as instance,
    ):
        page.set_viewport_size({"width": 1280, "height": 900})
        walk, reader = Walk(chromium, page, Graph(settings, instance), picture), Reader(settings, instance)

        def queued(_i: object, _workspace: Path, _location: str, job: str, tags: Mapping[str, str], **_: object) -> str:
            walk.requested.append(tags["dagster/partition"])
            return create_run_for_test(instance, job, status=dg.DagsterRunStatus.STARTED, tags=dict(tags)).run_id

        monkeypatch.setattr(queue, "queue_run", queued)
        reader.now = lambda: NOW  # type: ignore[method-assign]
        beat(instance, datetime.now(UTC))
        with serve_in_thread(build_app(reader, None, settings), [own]):
            page.goto(f"http://localhost:{port_of(own)}/")
            yield walk


@pytest.mark.parametrize("is_foreseen", [True, False], ids=["accepted_before", "held_first"])
def test_corrected_key_leads_to_a_published_value_in_at_most_twelve_clicks(walk: Walk, is_foreseen: bool) -> None:
    """The month is held because learners guess, unless this was accepted before the month was recomputed."""
    page = walk.page
    walk.look("first screen")
    walk.click("card", page.get_by_role("link", name=f"Key of {SUSPECT} Option"))
    for option in (RECORDED, RIGHT):
        walk.click(f"option {option}", page.get_by_label(option, exact=True))
    held = f"{FIRST} will be held until somebody accepts that learners guess"
    walk.decide("Change the key", "Yes, change the key", effect=held, outcome=f"{RECORDED} → {RIGHT}")
    assert walk.steps() == ["done", "later", "next", "later"]
    expect(page.get_by_text(f"{FIRST} will be held because learners guess.")).to_be_visible()
    if not is_foreseen:
        walk.recompute("next")
        assert walk.steps() == ["done", "done", "next", "later"]
        expect(page.get_by_text(f"{FIRST} is held because learners guess.")).to_be_visible()
        assert published(walk) == []
    accepted = f"months from {FIRST} on"
    walk.decide("Accept that learners guess", "Yes, accept", effect=accepted, outcome="Accepted: learners guess")
    assert walk.steps() == ["done", "next", "later", "later"]
    walk.recompute("later")
    assert walk.steps() == ["done"] * 4
    expect(page.get_by_role("cell", name=", in force from 2026-07-01 on")).to_be_visible()
    assert published(walk) == [("first",)]
    assert len(walk.clicks) == (10 if is_foreseen else 11) <= MAX_CLICKS, walk.clicks
    page.get_by_role("link", name="Months", exact=True).click()
    expect(page.get_by_role("heading", name="Months", exact=True)).to_be_visible()
    expect(page.get_by_text(f"Key of {SUSPECT}")).to_have_count(0)
    walk.look("first screen again")


def test_page_with_a_typed_reason_does_not_load_again_when_the_runs_end(walk: Walk) -> None:
    rekey(walk.graph.database, SUSPECT, RIGHT, by="Ann", reason="seen by Ann")
    walk.page.goto(f"{walk.page.url}?view=rekey&scale={SCALE}&item={SUSPECT}")
    walk.press(f"Recompute {FIRST}")
    expect(walk.page.get_by_text("this page loads again at the end")).to_be_visible()
    walk.page.get_by_label("Reason").fill("half a reason")
    walk.end_requested()
    expect(walk.page.locator("#making .decided")).to_contain_text("The runs have ended.")
    expect(walk.page.get_by_label("Reason")).to_have_value("half a reason")


def published(walk: Walk) -> list[tuple[str]]:
    """The rule of each publication of the item."""
    return rows(walk.graph.database, "SELECT rule FROM item_parameter_publication WHERE item_id = %s", [SUSPECT])
