"""Take the pictures of these pages from a demo whose servers run (`make demo` in another terminal).

    python -m docs.images.photograph [FOLDER]      # FOLDER: this one, if it is not named

spark-month.png is taken if IRT_SPARK is set, as during the demo. Four diagrams are drawn by hand: data-flow,
item-life, month-in-time and month-states. essay.png shows the item essay_1 in the home of tutorial/essays.md.
"""

from __future__ import annotations

import base64
import re
import sys
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import dagster as dg
import pypdfium2
from PIL import Image
from playwright.sync_api import Browser, Page

from irt_assets.adaptive.blueprint import Blueprint
from irt_assets.adaptive.forms import assemble_forms, store_drafts
from irt_assets.cli.installation import current_database, current_settings
from irt_assets.common.partitions import last_complete_month, months_between
from irt_assets.reports import drift_month
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database, one_value
from resources.settings import Settings
from tests.ui.browser import browser, photograph_graph

DASHBOARD_WIDTH = 1000
DAGSTER_WIDTH = 1280
REPORT_SCALE = 1.5
"""Pixels for each point of the PDF."""
COLOURS = 256
DRIFTED = "A21"
"""An item of the demo that drifts in its third month."""
PICTURE = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")


def main(folder: Path) -> None:
    settings, database = current_settings(), current_database()
    months = [*months_between(settings.irt_first_month, last_complete_month(datetime.now(UTC)))]
    red, last = months[1], months[-1]
    (folder / "linking-anchors-moved.svg").write_bytes(linking_plot(settings, database, red))
    drift_report = next(url for url in drift_month.stored_uris(database, last) if url.endswith(".pdf"))
    photograph_report(Path(unquote(urlsplit(drift_report).path)), folder / "drift-report.png")
    learner_reports = (settings.irt_home / "reports").glob("*/*.html")
    english = next(html for html in learner_reports if 'lang="en"' in html.read_text("utf-8"))
    photograph_report(english.with_suffix(".pdf"), folder / "learner-report.png")
    views = {  # with the height in pixels
        "dashboard.png": ("", 965),
        "month-red.png": (f"?view=month&month={red}", 1330),
        "proposal.png": (f"?view=proposal&proposal={last}/{DRIFTED}", 1325),
        "item.png": (f"?view=item&item={DRIFTED}", 1470),
        "learner.png": (f"?view=learner&user={most_measured_learner(database)}", 1030),
        "arrivals.png": ("?view=arrivals", 620),
        "assembled-form.png": (f"?view=form&form={assemble_drafts(database)}", 1000),
    }
    with browser() as chromium:
        for name, (query, height) in views.items():
            photograph_dashboard(chromium, settings, query, height, folder / name)
        photograph_check(chromium, settings, folder / "asset-check.png")
        photograph_graph(chromium, settings.ui_url, folder / "asset-graph.png")
        save_in_few_colours(Image.open(folder / "asset-graph.png"), folder / "asset-graph.png")
        if settings.irt_spark is not None:
            photograph_month_of_answers(chromium, settings, last, folder / "spark-month.png")


def assemble_drafts(database: Database) -> str:
    """Store the drafts of the blueprint on the page about it. Returns the name of the first."""
    page = Path(__file__).parents[1] / "how-to/assemble-forms.md"
    blueprint = page.read_text("utf-8").split("```yaml\n")[1].split("```")[0]
    drafts = database.call(assemble_forms, Blueprint.from_yaml(blueprint), datetime.now(UTC))
    store_drafts(database, drafts, by="Kim", reason="assembled from midterm.yaml")
    return drafts[0].form_id


def save_in_few_colours(image: Image.Image, picture: Path) -> None:
    image.convert("RGB").quantize(COLOURS).save(picture, optimize=True)


def save_screen(page: Page, picture: Path) -> None:
    save_in_few_colours(Image.open(BytesIO(page.screenshot())), picture)
    page.close()


def most_measured_learner(database: Database) -> str:
    with database.connect() as connection:
        return one_value(
            connection,
            "SELECT user_id FROM mirt_ability GROUP BY user_id ORDER BY count(DISTINCT theta) DESC, user_id LIMIT 1",
        )


def linking_plot(settings: Settings, database: Database, month: str) -> bytes:
    """The plot of the anchors on the page of `linked_item_parameters`; the demo's second month is its red one."""
    records_filter = dg.AssetRecordsFilter(asset_key=dg.AssetKey("linked_item_parameters"), asset_partitions=[month])
    with dagster_instance(settings, database) as instance:
        record = instance.fetch_materializations(records_filter, limit=1).records[0]
    assert record.asset_materialization is not None
    metadata = str(record.asset_materialization.metadata["plot: linking (default)"].value)
    match = PICTURE.search(metadata)
    assert match is not None, metadata[:100]
    return base64.b64decode(match[1])


def photograph_report(pdf: Path, picture: Path) -> None:
    """Save the first page of a report."""
    page = pypdfium2.PdfDocument(pdf)[0]
    save_in_few_colours(page.render(scale=REPORT_SCALE).to_pil(), picture)


def photograph_dashboard(chromium: Browser, settings: Settings, query: str, height: int, picture: Path) -> None:
    """Save the upper `height` pixels of a page of the dashboard."""
    page = chromium.new_page(viewport={"width": DASHBOARD_WIDTH, "height": height})
    page.goto(f"http://127.0.0.1:{settings.irt_dashboard_port}/{query}")
    page.locator("h1").first.wait_for()
    page.wait_for_timeout(3000)  # plots are drawn last
    save_screen(page, picture)


def photograph_check(chromium: Browser, settings: Settings, picture: Path) -> None:
    """Save the Dagster UI's page of the set gate `anchors_agree`, which fails in the red month."""
    page = chromium.new_page(viewport={"width": DAGSTER_WIDTH, "height": 720})
    page.goto(f"{settings.ui_url}/assets/linked_item_parameters?view=checks&checkDetail=anchors_agree")
    page.get_by_role("button", name="Hide navigation").click()
    page.get_by_text("Latest execution").wait_for()
    page.wait_for_timeout(1000)  # animation of the panels
    save_screen(page, picture)


def photograph_month_of_answers(chromium: Browser, settings: Settings, month: str, picture: Path) -> None:
    """Save the month's newest materialisation of `scored_responses`, with its metadata."""
    page = chromium.new_page(viewport={"width": DAGSTER_WIDTH, "height": 960})
    page.goto(f"{settings.ui_url}/assets/scored_responses?view=events&partition={month}")
    page.get_by_role("button", name="Hide navigation").click()
    page.get_by_text("Spark application").wait_for()
    save_screen(page, picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
