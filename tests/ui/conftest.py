"""What every walk through the UI needs: a browser, a page, and where pictures go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.browser import CHROMIUM, browser


@pytest.fixture(scope="module")
def chromium(require: Callable[[bool, str], None]) -> Iterator[Browser]:
    require(CHROMIUM.exists(), f"browser {CHROMIUM}")
    with browser() as chromium:
        yield chromium


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    yield page
    page.close()


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: $IRT_SCREENSHOTS, else a folder that vanishes."""
    folder = Path(os.environ.get("IRT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
