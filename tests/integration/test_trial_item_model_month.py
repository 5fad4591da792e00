"""Months of a scale under an item model that the product does not know, from answers to θ, report and lineage.

The model has an upper asymptote u, in `tests/helpers/trial_item_model.py` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from irt_assets.calibration.month import fit_month, link_month, publish_month
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.engines.em import EmEngine
from irt_assets.psychometrics.core.item_models import ITEM_MODELS
from irt_assets.responses.snapshot import take_snapshot
from resources import tables
from resources.postgres import warehouse
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import ensure_month_partitions
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import SCALE, add_items, answer_matrix, folder_store, rows
from tests.helpers.trial_item_model import MODEL
from tests.helpers.worlds import OF_MONTHS

FIRST, NEXT = rooms.MONTHS
LEARNERS = 3000
ITEMS = [*(f"i{j:02d}" for j in range(24)), "new0", "new1"]
MOVED = "i03"
RULES = {"min_responses": 200, "min_anchor_responses": 200, "latent": "normal"}
rng = np.random.default_rng(4)
A, B = np.exp(rng.normal(0.5, 0.15, len(ITEMS))), rng.normal(-0.8, 0.6, len(ITEMS))
U = rng.uniform(0.75, 0.88, len(ITEMS))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ITEM_MODELS, MODEL.name, MODEL)


def add_answers(database: Database, month: str, n_items: int, mean: float, moved: float) -> None:
    draw = np.random.default_rng([5, Month(month).start.month])
    b = B + moved * (np.array(ITEMS) == MOVED)
    parameters, two = np.stack([A, -A * b, logit(U)]), np.full(len(ITEMS), 2)
    p = MODEL.probabilities(draw.normal(mean, 1, LEARNERS), parameters, two)[:n_items, :, 1].T
    scores = (draw.random(p.shape) < p).astype(float)
    attempts = answer_matrix(month, scores, ITEMS[:n_items], [f"{month}-{i}" for i in range(LEARNERS)])
    with database.connect() as connection:
        ensure_month_partitions(connection, month, month)
        warehouse.append(connection, tables.response_log, pd.DataFrame(attempts))


def two_months(settings: Settings) -> None:
    """The first month is the origin; in the second, two items are new and one has become easier."""
    database, store = Database(settings), folder_store(settings)
    add_items(database, dict.fromkeys(ITEMS))
    add_answers(database, FIRST, 24, 0.0, 0.0)
    add_answers(database, NEXT, len(ITEMS), 0.3, -1.0)
    window = OriginWindow(*Month(FIRST).bounds, EmEngine(1), store)
    initialise(database, SCALE, first_month=FIRST, thresholds=RULES, window=window, model=MODEL.name)
    for month in rooms.MONTHS:
        take_snapshot(database, store, month, "run")
        fit_month(database, store, month, EmEngine(1), "run")
        link_month(database, month, "run")
        publish_month(database, store, month, (), "run")


@pytest.fixture
def world(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    made_once(postgres, "template_trial_item_model", migrated_template, two_months, **OF_MONTHS)
    with template_copy(postgres, "template_trial_item_model", tmp_path, **OF_MONTHS) as settings:
        yield settings


def test_a_month_publishes_u_and_proposes_it_where_it_changed(world: Settings) -> None:
    database = Database(world)
    for q in (
        "select month, item_id, parameters, rule from item_parameter_publication order by 1,2",
        "select month, item_id, parameters, why from item_parameter_proposal",
        "select fit_id, model_spec->'linking_constants', model_spec->'impact' from mirt_fit_meta",
        "select month, item_id, severity, delta_b, wabc, details from item_drift where severity <> 'none'",
    ):
        for row in rows(database, q):
            print(row)
