"""Take the pictures of these pages again, from a demo whose servers run (`make demo` in another terminal).

    python -m docs.images.photograph [FOLDER]      # FOLDER: this one, if it is not named

spark-month.png is taken if IRT_SPARK is set, as during the demo. data-flow.svg is drawn by hand.
"""

from __future__ import annotations

import base64
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import dagster as dg
import pypdfium2
from playwright.sync_api import Browser

from irt_assets.cli.installation import current_database, current_settings
from irt_assets.common.partitions import last_complete_month, months_between
from irt_assets.reports import drift_month
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database
from resources.settings import Settings
from tests.ui.browser import browser, photograph_graph

DASHBOARD_SIZE = {"width": 1180, "height": 540}
EVENT_SIZE = {"width": 1280, "height": 960}
REPORT_SCALE = 1.5
"""Pixels for each point of the PDF."""
PICTURE = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")


def main(folder: Path) -> None:
    settings, database = current_settings(), current_database()
    months = [*months_between(settings.irt_first_month, last_complete_month(datetime.now(UTC)))]
    (folder / "linking-anchors-moved.svg").write_bytes(linking_plot(settings, database, months[1]))
    photograph_report(database, months[-1], folder / "drift-report.png")
    with browser() as chromium:
        photograph_dashboard(chromium, settings, folder / "dashboard.png")
        photograph_graph(chromium, settings.ui_url, folder / "asset-graph.png")
        if settings.irt_spark is not None:
            photograph_month_of_answers(chromium, settings, months[-1], folder / "spark-month.png")


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


def photograph_report(database: Database, month: str, picture: Path) -> None:
    """The first page of the month's drift report."""
    pdf = next(url for url in drift_month.kept(database, month) if url.endswith(".pdf"))
    page = pypdfium2.PdfDocument(unquote(urlsplit(pdf).path))[0]
    page.render(scale=REPORT_SCALE).to_pil().quantize(64).save(picture)


def photograph_dashboard(chromium: Browser, settings: Settings, picture: Path) -> None:
    page = chromium.new_page(viewport=DASHBOARD_SIZE)
    page.goto(f"http://127.0.0.1:{settings.irt_dashboard_port}")
    page.locator("table").first.wait_for()
    page.screenshot(path=picture)
    page.close()


def photograph_month_of_answers(chromium: Browser, settings: Settings, month: str, picture: Path) -> None:
    """The month's newest materialisation of `scored_responses`, with its metadata."""
    page = chromium.new_page(viewport=EVENT_SIZE)
    page.goto(f"{settings.ui_url}/assets/scored_responses?view=events&partition={month}")
    page.get_by_role("button", name="Hide navigation").click()
    page.get_by_text("Spark application").wait_for()
    page.screenshot(path=picture)
    page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
