"""Fixtures of the walks: a platform, a browser, a page, and pictures of it.

The files are a story of one platform: a month is calibrated, the next month is red, people decide, the month is
corrected, and failures are reported. So the files run in the order of their names, on one worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from irt_assets.common.partitions import Month
from irt_assets.simulation.scenario import Fault
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers.databases import template_copy
from tests.helpers.rooms import run_sql
from tests.integration.sinks import http_sink, smtp_sink
from tests.testbed.patience import patient
from tests.testbed.small_world import fill, last_months
from tests.testbed.stack_harness import running_stack
from tests.ui.browser import CHROMIUM, browser
from tests.ui.walked_platform import PAGE_MS, Picture, Platform

ANCHORS_MISRECORDED, LEARNERS = 7, 600
"""Number of anchors with wrong scores, and of learners a month: with 300 learners, some months would stay green."""
MADE_EASY = 3


@pytest.fixture(scope="package")
def platform(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    months = last_months(5)
    empty, full = months[:2], months[2:]
    with http_sink() as web, smtp_sink() as mail:
        options = {
            "irt_first_month": empty[0],
            "irt_threads": 2,
            "irt_schedules": "stopped",
            "env_name": "test",
            "alert_webhook_url": SecretStr(f"{web.url}/hook"),
            "alert_email": "ops@example.org",
            "smtp_url": SecretStr(f"smtp://127.0.0.1:{mail.port}"),
        }
        with template_copy(postgres, migrated_template, tmp_path_factory.mktemp("platform"), **options) as settings:
            drift = Fault("drift", first_month=full[2], size=-0.9, n_items=MADE_EASY)
            fill(settings, full, drift, learners_per_month=LEARNERS)
            _misrecord(Database(settings), full[1])
            with running_stack(settings, "tests.helpers.quiet_location", "tests.helpers.quick_daemon") as stack:
                yield Platform(stack, web, mail, empty, full)


def _misrecord(database: Database, month: str) -> None:
    run_sql(
        database,
        """CREATE TABLE misrecorded AS
           SELECT attempt_id FROM response_log
           WHERE completed_at >= %s AND completed_at < %s AND correct AND hashtext(attempt_id) %% 2 = 0
             AND item_id IN (SELECT item_id FROM anchor_set ORDER BY item_id LIMIT %s)""",
        (*Month(month).bounds, ANCHORS_MISRECORDED),
    )
    run_sql(
        database,
        "UPDATE response_log SET correct = false FROM misrecorded m WHERE m.attempt_id = response_log.attempt_id",
    )


@pytest.fixture(scope="package")
def chromium(require: Callable[[bool, str], None]) -> Iterator[Browser]:
    """The system's Chromium. It is closed after this package, as its event loop in this thread would block others."""
    require(CHROMIUM.exists(), f"browser {CHROMIUM}")
    with browser() as chromium:
        expect.set_options(timeout=patient(PAGE_MS))
        yield chromium


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(patient(PAGE_MS))
    yield page
    page.close()


@pytest.fixture(scope="session")
def picture() -> Picture:
    """`picture(page, name)` saves a picture if the environment variable IRT_SCREENSHOTS names a folder."""
    named = os.environ.get("IRT_SCREENSHOTS")
    if named is None:
        return lambda *_, **__: None
    folder = Path(named)
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name, **options: page.screenshot(path=folder / f"{name}.png", animations="disabled", **options)
