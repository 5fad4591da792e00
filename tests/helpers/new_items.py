"""Rows of `item_pipeline`, made without a night."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from irt_assets.new_items.progress import PipelineItem
from resources import tables
from resources.postgres import warehouse
from resources.postgres.database import Database
from tests.helpers.rooms import SCALE

NIGHT = datetime(2026, 8, 1, tzinfo=UTC)
PUBLISHABLE = """INSERT INTO item_pipeline
                   (scale_id, item_id, model, parameters, n, first_at, last_at, measured_at, prior_share, p_gates,
                    e_value, publishable, publishable_at)
                 VALUES ('default', %s, '2pl',
                         '{"a": 1.1, "b": 0.4, "c": 0, "a_se": 0.2, "b_se": 0.2, "cov_ab": 0.005}', 210,
                         '2026-06-01', '2026-06-20', '2026-06-10', 0.15,
                         '{"positive_a": 1, "max_abs_b": 1, "max_b_se": 1, "max_rmsd": 1}', 0.8, true, '2026-06-21')"""
"""Insert a publishable item. Value: the item."""


def pipeline_item(item_id: str, b_se: float, **others: Any) -> PipelineItem:
    """An item after 120 answers that is publishable in 20 days, with a = 1.25 and an SE of ln a of 0.2."""
    row = {
        "model": "2pl",
        "parameters": {"a": 1.25, "b": 0.4, "a_se": 0.25, "b_se": b_se, "cov_ab": 0.0},
        "n": 120,
        "first_at": NIGHT - timedelta(days=30),
        "last_at": NIGHT - timedelta(days=1),
        "measured_at": None,
        "prior_share": 0.2,
        "p_gates": {"positive_a": 1.0},
        "e_value": None,
        "accused": False,
        "position": 12.0,
        "misfit": 0.5,
        "flags": [],
        "publishable": False,
        "publishable_at": None,
        "ready_at": NIGHT.date() + timedelta(days=20),
        "ready_from": NIGHT.date() + timedelta(days=15),
        "ready_to": NIGHT.date() + timedelta(days=28),
        "stuck": None,
        "evaluated_at": NIGHT,
    }
    return PipelineItem(scale_id=SCALE, item_id=item_id, **(row | others))


def store_pipeline(database: Database, *items: PipelineItem) -> None:
    """Replace the rows of the scale."""
    frame = pd.DataFrame([asdict(item) for item in items])
    with database.connect() as connection:
        warehouse.replace(connection, tables.item_pipeline, {"scale_id": SCALE}, frame)
