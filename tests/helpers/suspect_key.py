"""An item with a wrong key in a month of learners who guess; the month is the origin of its scale."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.engines.em import EmEngine
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, answer_matrix, attempt, folder_store, run_sql
from tests.helpers.score_world import analyse
from tests.helpers.worlds import OF_MONTHS

TEMPLATE = "template_suspect_key"
FIRST, NEXT = MONTHS
NOW = datetime(2026, 7, 15, tzinfo=UTC)
"""A day on which only the first month is over."""
SUSPECT, RECORDED, RIGHT = "suspect", "B", "C"
LEARNERS, ITEMS = 2000, [f"i{j:02d}" for j in range(26)]
GUESSED = 0.2
RULES = {"min_responses": 200, "min_responses_3pl": 500, "min_anchor_responses": 200}


def suspect_key_template(postgres: EmbeddedPostgres, migrated_template: str) -> str:
    """Build the template database, in which the origin window let guessing pass and left the item out."""
    made_once(postgres, TEMPLATE, migrated_template, _fill, **OF_MONTHS)
    return TEMPLATE


def _fill(settings: Settings) -> None:
    database, rng = Database(settings), np.random.default_rng(5)
    add_items(database, dict.fromkeys([*ITEMS, SUSPECT]))
    run_sql(
        database,
        "UPDATE question SET meta = jsonb_build_object('key', %s::text) WHERE item_id = 'suspect'",
        (RECORDED,),
    )
    a, b = np.exp(rng.normal(0.3, 0.3, len(ITEMS) + 1)), rng.normal(0.4, 1.0, len(ITEMS) + 1)
    theta = rng.normal(0.0, 1.0, (LEARNERS, 1))
    right = rng.random((LEARNERS, len(ITEMS) + 1)) < GUESSED + (1 - GUESSED) / (1 + np.exp(-a * (theta - b)))
    users, at = [f"u{i:04d}" for i in range(LEARNERS)], Month(FIRST).start + timedelta(days=1, hours=1)
    wrong_options = rng.choice(["A", RECORDED, "D"], LEARNERS)
    chosen = np.where(right[:, -1], RIGHT, wrong_options).tolist()
    add_attempts(database, answer_matrix(FIRST, right[:, :-1].astype(float), ITEMS, users))
    add_attempts(
        database,
        [
            attempt(user, SUSPECT, at, response=option, correct=option == RECORDED)
            for user, option in zip(users, chosen, strict=True)
        ],
    )
    window = OriginWindow(*Month(FIRST).bounds, EmEngine(1), folder_store(settings))
    origin = initialise(database, SCALE, first_month=FIRST, thresholds=RULES, window=window)
    assert (origin.guessing, [*origin.left_out]) == (True, [SUSPECT])
    analyse(database, settings.irt_home, FIRST)
