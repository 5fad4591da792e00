"""A month with items assigned by earlier ability, and a month with rarely answered items, through the database."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irt_assets.adaptive.policy import Policy
from irt_assets.decisions.origin import initialise
from irt_assets.gates.advisory_checks import items_are_assigned_as_the_scale_says
from irt_assets.scales.scale import change_rules, read_scales
from irt_assets.simulation.truth import Truth
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.decided import set_policy
from tests.helpers.rooms import (
    LOWERED,
    MONTHS,
    SCALE,
    evidence_of,
    folder_store,
    load_small_world,
    rows,
    run_sql,
)

pytestmark = pytest.mark.ci

MONTH = MONTHS[1]


@pytest.fixture
def adaptive(settings: Settings) -> tuple[Settings, Truth]:
    """Two months with items assigned by level. New learners have a session of random items first, which sets their
    level. Only 100 new learners of the second month are kept."""
    truth = load_small_world(
        Database(settings), assignment="adaptive", adaptive_items=24, adaptive_width=0.5, learners_per_month=900
    )
    late = "DELETE FROM response_log WHERE user_id LIKE %s AND right(user_id, 5) > '00100'"
    run_sql(Database(settings), late, ("L%-2607-%",))
    initialise(Database(settings), SCALE, first_month=MONTHS[0], thresholds=dict(LOWERED))
    return settings, truth


def calibrate(settings: Settings, **rules: Any) -> dict[str, dict[str, Any]]:
    """The month's linked items after a change of rules."""
    database, store = Database(settings), folder_store(settings)
    if rules:
        change_rules(database, SCALE, rules)
    rooms.calibrate(settings, MONTH)
    with database.connect() as connection:
        evidence = evidence_of(connection, store, MONTH, read_scales(connection)[SCALE])
    return {"items": evidence.linked.items, "evidence": evidence, "spec": evidence.staged.spec.as_json()}


def raw_bias(found: dict[str, Any], truth: Truth) -> float:
    """Mean of ln a against the truth in the unit of the month's learners, over items with 200 responses."""
    sd = truth.sample_sd[1]
    raw = found["evidence"].calibration
    logs = [
        np.log(a / (truth.bank.a[truth.bank.item_ids.index(item)] * sd))
        for item, a, n in zip(raw.item_ids, raw.a, raw.n, strict=True)
        if n >= 200 and a > 0
    ]
    return float(np.mean(logs))


def test_month_assigned_by_level_is_warned_of_as_linear_and_unbiased_by_level(adaptive: tuple[Settings, Truth]) -> None:
    settings, truth = adaptive
    linear = calibrate(settings, max_rmsd=0.2)
    warned = items_are_assigned_as_the_scale_says(linear["evidence"])
    assert not warned.passed
    assert "--set assignment=by_level" in warned.why
    assert warned.details["correlation"] > 0.2
    levelled = calibrate(settings, assignment="by_level")
    assert items_are_assigned_as_the_scale_says(levelled["evidence"]).passed
    names = [p["name"] for p in levelled["spec"]["populations"]]
    assert sum(name.startswith("level") for name in names) >= 5
    assert "unknown" in names  # the learners who are new this month
    one, by_level = raw_bias(linear, truth), raw_bias(levelled, truth)
    assert one < -0.08
    assert abs(by_level) < 0.06  # its standard error in one small month is about 0.02
    assert levelled["spec"]["fit_statistics"]["set"]["reliability"] > 0.5


def test_items_chosen_by_the_answers_of_their_session_are_no_assignment_by_level(
    adaptive: tuple[Settings, Truth],
) -> None:
    """The sessions after the first one are of an adaptive test that starts at the population."""
    settings, _ = adaptive
    policy = Policy.from_yaml(f"{{test: adaptive, scale: {SCALE}, length: {{max: 24}}}}")
    set_policy(Database(settings), policy, by="Ann", reason="June")
    verdict = items_are_assigned_as_the_scale_says(calibrate(settings, max_rmsd=0.2)["evidence"])
    assert verdict.passed, verdict.why


def test_month_with_new_learners_states_that_assignment_cannot_be_tested(world: Settings) -> None:
    verdict = items_are_assigned_as_the_scale_says(calibrate(world)["evidence"])
    assert verdict.passed
    assert "too few learners have answers from before the month" in verdict.why


def test_items_with_few_responses_are_provisional_and_never_published(world: Settings) -> None:
    database = Database(world)
    half = int(np.median([one.n for one in calibrate(world)["items"].values()])) + 1
    found = calibrate(world, min_responses=half, min_provisional_responses=50)
    provisional = {item for item, one in found["items"].items() if "provisional" in one.flags}
    assert provisional == {item for item, one in found["items"].items() if one.n < half}
    assert 0 < len(provisional) < len(found["items"])
    fit_id = found["evidence"].linked.fit_id
    published = rows(database, "SELECT item_id FROM item_parameter_publication WHERE fit_id = %s", (fit_id,))
    assert not {item for (item,) in published} & provisional
    anchors = {item for (item,) in rows(database, "SELECT item_id FROM anchor_set")}
    assert set(found["spec"]["priors"]["only"]) == provisional - anchors
    assert anchors & provisional & set(found["evidence"].linked.constants.anchors_used)
    ((held,),) = rows(database, "SELECT held FROM publication_step WHERE month = %s", (MONTH,))
    for item in provisional:
        assert held[item] == ["provisional: it has too few responses to be published, or to be used for a reported θ"]
