"""A scale with 0/1 and scored items whose learners are skewed: every record of its fits is read as it was written."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from irt_assets.calibration.group_shift import measure_month
from irt_assets.calibration.month import fit_month, link_month, publish_month
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.engines.em import EmEngine
from irt_assets.ledger.fit_spec import LinkedSpec, LinkingConstants, MadeWith, Part, SetStatistics, Spread, StagedSpec
from irt_assets.ledger.fits import latest_staged, linked_fit, read_group_shift
from irt_assets.ledger.linked_windows import linkings_of
from irt_assets.ledger.month_state import find_reference, latest_attempt, months_made_with
from irt_assets.psychometrics.core.model_families import GPCM, TWO_PL
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import take_snapshot
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, attempt, rows, run_sql

pytestmark = pytest.mark.ci

ORIGIN, MONTH = MONTHS
LEARNERS = 1500
MOST = {f"i{k:02d}": 1 + k % 2 for k in range(12)}
"""Maximum scores: six items of 0 and 1, six of 0 to 2."""


def add_answers(database: Database, month: str, rng: np.random.Generator) -> None:
    """Answers of learners whose θ is a standardised −χ² with 4 degrees of freedom."""
    theta = (4 - rng.chisquare(4, LEARNERS)) / np.sqrt(8)
    start = Month(month).start + timedelta(days=1)
    for j, (item, most) in enumerate(MOST.items()):
        d = 0.5 * (j // 2 - 2.5)
        model, parameters = (TWO_PL, [1.3, d]) if most == 1 else (GPCM, [0.9, d, 0.0, 0.4, 0.0])
        p = model.probabilities(theta, np.array(parameters)[:, None], np.array([most + 1]))[0]
        scores = (rng.random((LEARNERS, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
        add_attempts(
            database,
            [
                attempt(
                    f"{month}-{i:04d}",
                    item,
                    start + timedelta(minutes=j),
                    correct=bool(score == most),
                    score=None if most == 1 else int(score),
                )
                for i, score in enumerate(scores)
            ],
        )


@pytest.fixture
def fitted(database: Database, store: ObjectStore) -> Database:
    """The origin window and a month, both with the default rules."""
    rng = np.random.default_rng(4)
    add_items(database, dict.fromkeys(MOST))
    run_sql(
        database,
        """UPDATE question SET meta = '{"irt": {"max_score": 2}}' WHERE item_id = ANY(%s)""",
        ([item for item, most in MOST.items() if most > 1],),
    )
    for month in MONTHS:
        add_answers(database, month, rng)
    window = OriginWindow(*Month(ORIGIN).bounds, EmEngine(1), store)
    done = initialise(database, SCALE, first_month=ORIGIN, window=window)
    assert "θ is taken as a histogram" in (done.shape or "")
    take_snapshot(database, store, MONTH, "run")
    fit_month(database, store, MONTH, EmEngine(1), "run")
    link_month(database, MONTH, "run")
    measure_month(database, MONTH)
    publish_month(database, store, MONTH, (), "run")
    return database


def test_every_record_of_a_mixed_scale_with_skewed_learners_is_read_as_it_was_written(fitted: Database) -> None:
    found: list[tuple[type[Part], object]] = [
        (kind, stored)
        for kind, query in (
            (StagedSpec, "SELECT spec FROM fit_staging"),
            (LinkedSpec, "SELECT model_spec FROM mirt_fit_meta"),
            (LinkingConstants, "SELECT model_spec->'linking_constants' FROM mirt_fit_meta"),
            (SetStatistics, "SELECT model_spec->'fit_statistics' FROM mirt_fit_meta"),
            (Spread, "SELECT model_spec->'latent' FROM mirt_fit_meta"),
        )
        for (stored,) in rows(fitted, query)
    ]
    assert [kind.__name__ for kind, _ in found].count("LinkedSpec") == 2, "the origin window and the month"
    for kind, stored in found:
        assert kind.from_json(stored, "fit").as_json() == stored, kind.__name__  # type: ignore[arg-type]
    with fitted.connect() as connection:
        scale = read_scales(connection, Month(MONTH).start)[SCALE]
        staged = latest_staged(connection, MONTH, SCALE, "em")
        linked = linked_fit(connection, SCALE, "monthly", Month(MONTH).start, "em")
        assert staged is not None
        assert linked is not None
        assert staged.spec.shape is not None
        assert staged.spec.shape.latent == "histogram"
        assert {one.model for one in staged.spec.shape.compared} == {"2pl+gpcm"}
        assert linked.model_spec.shape == staged.spec.shape
        raw = staged.decoded()
        assert raw is not None
        assert staged.says_the_same(staged.snapshot_hash, raw, staged.spec)
        attempted = latest_attempt(connection, MONTH, SCALE, "em")
        assert attempted is not None
        assert isinstance(attempted.made_with, MadeWith)
        assert months_made_with(connection, scale, ORIGIN).keys() == {MONTH}
        assert find_reference(connection, scale, MONTH) is not None
        assert [one.spec for one in linkings_of(connection, scale, MONTH)] == [linked.model_spec]
        assert read_group_shift(connection, linked.fit_id) is not None
