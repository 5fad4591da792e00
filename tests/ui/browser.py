"""A headless browser on the Dagster UI, and the picture of the asset graph for the README.

python -m tests.ui.browser http://127.0.0.1:3000 docs/images/asset-graph.png

"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
PICTURE_WIDTH = 1800
GRAPH_WIDTH, GRAPH_HEIGHT = 2300, 2150
GRAPH_GROUPS = ("intake", "responses", "calibration")
"""Groups that are open in the picture. The whole graph fits a page of this size, which is then scaled down."""
UNLOADED = re.compile("Loading|fetching statuses")
"""Text of nodes and groups whose details are still being loaded."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Yields the system's Chromium. No browser is downloaded."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()


def open_graph(page: Page, address: str) -> None:
    """Open the asset graph and fit it to the page."""
    named = ",".join(f"global@global:{group}" for group in GRAPH_GROUPS)
    page.goto(f"{address}/asset-groups?expanded={named}")
    page.locator("svg foreignObject").first.wait_for()
    page.get_by_role("button", name="Hide navigation").click()
    page.locator("button", has=page.get_by_label("panel_show_right")).click()
    page.wait_for_timeout(1000)  # animation of the panels
    size = page.viewport_size
    page.mouse.dblclick(
        size["width"] / 2, size["height"] - 40
    )  # a double click on the background fits the graph to the page
    page.wait_for_timeout(1500)  # animation of the zoom
    expect(page.get_by_text(UNLOADED)).to_have_count(0, timeout=30_000)


def photograph_graph(chromium: Browser, address: str, picture: Path) -> None:
    """Save the asset graph as a PNG, `PICTURE_WIDTH` pixels wide."""
    page = chromium.new_page(
        viewport={"width": GRAPH_WIDTH, "height": GRAPH_HEIGHT}, device_scale_factor=PICTURE_WIDTH / GRAPH_WIDTH
    )
    open_graph(page, address)
    page.screenshot(path=picture)
    page.close()


if __name__ == "__main__":
    with browser() as system_chromium:
        photograph_graph(system_chromium, sys.argv[1], Path(sys.argv[2]))
