"""A month in which learners grow while they follow a curriculum: what says so, and what a decision does about it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.common.partitions import Month
from irt_assets.decisions.model_change import decide_model_change, preview_model_change
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.engines.em import EmEngine
from irt_assets.gates.advisory_checks import ability_stands_still_within_the_month
from irt_assets.gates.evidence import Verdict, load_evidence
from irt_assets.ledger.fits import LinkedFit, latest_staged, linked_fit
from irt_assets.reports.month_shown import growth_of_anchors, growth_within
from irt_assets.responses.scales import read_scales
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, attempt, calibrate, folder_store, run_sql
from tests.helpers.worlds import OF_MONTHS

pytestmark = pytest.mark.ci

FIRST, NEXT = MONTHS
LEARNERS, DAYS, GROWTH = 1200, 14.0, 1.5
ITEMS = [f"i{j:02d}" for j in range(20)]
B = np.resize([-0.8, 0.6, 0.0, -0.3, 0.9], len(ITEMS))
RULES = {"min_responses": 200, "min_anchor_responses": 200, "latent": "normal"}


def answered(settings: Settings) -> None:
    """In the first month in any order within an hour; in the second one after the other, at paces of 1/2 to 2."""
    rng, database = np.random.default_rng(21), Database(settings)
    add_items(database, dict.fromkeys(ITEMS))
    for month in MONTHS:
        grows = month == NEXT
        theta = rng.standard_normal(LEARNERS)
        pace = 2.0 ** rng.uniform(-1, 1, LEARNERS)
        place = np.arange(len(ITEMS)) / len(ITEMS)
        days = DAYS * pace[:, None] * place if grows else rng.permuted(np.tile(place, (LEARNERS, 1)), axis=1) / 24
        right = rng.random(days.shape) < expit(theta[:, None] + (GROWTH * days / 30 if grows else 0.0) - B)
        start = Month(month).start + timedelta(hours=1)
        add_attempts(
            database,
            [
                attempt(f"{month}-{i}", item, start + timedelta(days=days[i, j]), correct=bool(right[i, j]))
                for i in range(LEARNERS)
                for j, item in enumerate(ITEMS)
            ],
        )
    window = OriginWindow(*Month(FIRST).bounds, EmEngine(1), folder_store(settings))
    initialise(database, SCALE, first_month=FIRST, model="2pl", thresholds=RULES, window=window)
    for month in MONTHS:
        calibrate(settings, month)


@pytest.fixture
def world(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    made_once(postgres, "template_growth", migrated_template, answered, **OF_MONTHS)
    with template_copy(postgres, "template_growth", tmp_path, **OF_MONTHS) as settings:
        yield settings


def judged(settings: Settings, month: str) -> Verdict:
    with Database(settings).connect() as connection:
        scale = read_scales(connection, Month(month).start)[SCALE]
        evidence = load_evidence(connection, month, scale)
    return ability_stands_still_within_the_month(evidence)


def fitted(settings: Settings, month: str) -> LinkedFit:
    with Database(settings).connect() as connection:
        found = linked_fit(connection, SCALE, "monthly", Month(month).start, "em")
    assert found is not None
    return found


def trend(found: LinkedFit) -> float:
    """Of the error of b from the first item to the last."""
    error = np.array([found.values[item].b for item in ITEMS]) - B
    return float(np.polyfit(np.linspace(0, 1, len(ITEMS)), error, 1)[0])


def change(settings: Settings, values: dict[Any, str]) -> Any:
    return preview_model_change(
        Database(settings),
        folder_store(settings),
        SCALE,
        values,
        NEXT,
        calibrations_begin=FIRST,
        build=lambda _: EmEngine(1),
    )


def test_weeks_of_learners_are_fitted_by_decision_where_growth_goes_into_difficulty(world: Settings) -> None:
    """Growth of 1.5 in 30 days is one of .7 from the first item to the last; what the fit of weeks leaves of it is
    within three of its standard errors, .3 by those of the estimate (.2 in 30 days)."""
    sound, warned = judged(world, FIRST), judged(world, NEXT)
    assert sound.passed
    assert sound.why == "no learner's answers are known to lie a day apart"
    assert not warned.passed
    assert "ability grows by +" in warned.why
    assert "so that later items look easier than they are" in warned.why
    before = fitted(world, NEXT)
    assert trend(before) < -0.5

    with Database(world).connect() as connection:
        scale = read_scales(connection)[SCALE]
        shown = list(growth_within(connection, scale, NEXT))
        staged = latest_staged(connection, NEXT, SCALE, "em")
    assert "Ability grows by" in str(shown[0])
    assert "all items" in str(shown[1])
    with Database(world).connect() as connection:
        by_place = growth_of_anchors(connection, scale, NEXT)
    assert by_place is not None
    assert by_place.anchors == len(ITEMS)
    # The anchors' own line takes the part of growth that is in their mean and slope; the rest is the trend.
    assert abs(by_place.estimate - GROWTH) < 4 * by_place.se
    assert staged is not None
    assert "occasions" not in staged.spec.as_json()  # as earlier releases wrote it

    wanted = change(world, {"occasions": "week"})
    assert wanted.stale == (NEXT,)
    assert wanted.lines[0].startswith(f"scale {SCALE}: occasions month → week from {NEXT} on")
    decide_model_change(Database(world), wanted, by="Ann", reason="a curriculum")
    calibrate(world, NEXT)
    after = fitted(world, NEXT)
    assert abs(trend(after)) < 0.3
    assert judged(world, NEXT).passed
    assert "learners' weeks were fitted" in judged(world, NEXT).why
    assert fitted(world, FIRST).fit_id != after.fit_id
    assert not change(world, {"occasions": "week"}).values


def test_occasions_are_months_or_weeks_and_go_with_the_rules(world: Settings) -> None:
    with pytest.raises(PermanentFailure, match="occasions are month or week, got 'day'"):
        change(world, {"occasions": "day"})
    run_sql(Database(world), 'UPDATE calibration_scale SET rules = rules || \'{"latent": "histogram"}\'')
    with pytest.raises(PermanentFailure, match="irt scale set latent=normal"):
        change(world, {"occasions": "week"})


def test_a_month_made_before_growth_was_looked_for_is_not_stale(world: Settings) -> None:
    database = Database(world)
    run_sql(
        database,
        """UPDATE fit_staging SET spec = jsonb_set(spec #- '{fit_statistics,set,growth}', '{fit_statistics,items}',
             (spec->'fit_statistics'->'items') - 'growth' - 'growth_se' - 'growth_days')""",
    )
    assert judged(world, NEXT) == Verdict(True, "no learner's answers are known to lie a day apart")
    with database.connect() as connection:
        (said,) = growth_within(connection, read_scales(connection)[SCALE], NEXT)
    assert "not looked for" in str(said)
    assert change(world, {"prior_a": "none"}).stale == ()
