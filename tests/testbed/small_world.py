"""A small, sound bank with a few months of answers for tests that run the real graph.

It has just enough data for every month to be green.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from irt_assets.common.partitions import Month, last_complete_month, month_of
from irt_assets.decisions.origin import initialise
from irt_assets.simulation.files import SCALE_ID, write
from irt_assets.simulation.response_log import simulate
from irt_assets.simulation.scenario import Fault
from resources import tables
from resources.postgres import warehouse
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.scenario import AnyScenario

THRESHOLDS = {"min_responses": 120, "min_anchor_responses": 80}
"""Thresholds for a month with about 200 first answers to an item. The defaults require 500."""


def last_months(n: int) -> list[str]:
    """The last `n` complete months, oldest first."""
    month, months = last_complete_month(datetime.now(UTC)), []
    for _ in range(n):
        months.insert(0, month)
        month = last_complete_month(Month(month).start)
    return months


@contextmanager
def small_world(home: Path, months: list[str], *faults: Fault) -> Iterator[Settings]:
    """Yields settings whose embedded database contains the bank, its answers and an initialised scale.

    `faults` are planted in the answers. The database is stopped at the end.
    """
    settings = Settings(
        irt_home=home,
        database_url=None,
        s3_bucket=None,
        irt_first_month=months[0],
        irt_threads=2,
        irt_schedules="stopped",
        _env_file=None,  # type: ignore[call-arg]
    )
    try:
        upgrade(Database(settings))
        fill(settings, months, *faults)
        yield settings
    finally:
        EmbeddedPostgres(home / "postgres").stop()


def fill(settings: Settings, months: list[str], *faults: Fault, learners_per_month: int = 300) -> None:
    """Load the bank and its answers into an empty database, and initialise the scale."""
    database = Database(settings)
    scenario = AnyScenario(
        months=tuple(months),
        now=Month(months[-1]).end,
        seed=20260702,
        learners_per_month=learners_per_month,
        items_per_block=12,
        anchors_per_block=5,
        faults=faults,
    )
    files = write(*simulate(scenario), settings.irt_home / "simulated")
    with database.connect() as connection:
        ensure_month_partitions(connection, months[0], month_of(datetime.now(UTC)))
        warehouse.append(connection, tables.question, _lines(files.questions))
        warehouse.append(connection, tables.learner, _lines(files.learners))
        warehouse.append(connection, tables.response_log, pq.read_table(files.attempts).to_pandas())
    initialise(database, SCALE_ID, first_month=months[0], thresholds=THRESHOLDS)


def _lines(path: Path) -> pd.DataFrame:
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return pd.DataFrame(rows)
