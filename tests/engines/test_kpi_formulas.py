"""KPIs and features in DuckDB, compared with their formulas computed answer by answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from irt_assets.features.daily import features
from irt_assets.kpis.kpi_definitions import RANGES
from irt_assets.kpis.weekly import kpis, quiet_learners
from tests.helpers import kpi_reference as reference
from tests.helpers.kpi_reference import World
from tests.helpers.kpi_worlds import END, attempt, in_duckdb, published_of, random_world, scales_of

CLOSE = 1e-8
"""θ is accurate to 1e-9 of the population's SD; the rest agrees up to rounding."""


def compute_kpis(world: World, end: datetime = END) -> dict[str, dict[str, Any]]:
    frame = kpis(in_duckdb(world), end, scales_of(world), published_of(world))
    assert frame["user_id"].is_unique
    return dict(zip(frame["user_id"], frame["kpis"], strict=True))


def assert_same(found: dict[str, Any], expected: dict[str, Any], location: str) -> None:
    for name, value in expected.items():
        if name == "by_scale":
            assert found[name].keys() == value.keys(), location
            for scale in value:
                assert_same(found[name][scale], value[scale], f"{location} on {scale}")
        elif isinstance(value, float | int):
            assert found[name] == pytest.approx(value, abs=CLOSE), f"{location}: {name}"
        else:
            assert found[name] == value, f"{location}: {name}"


@pytest.mark.parametrize(
    ("seed", "end"),
    [
        (1, END),
        (2, END),
        (3, datetime(2026, 3, 11, 13, 7, 5, 123456, tzinfo=UTC)),  # a running week, summer time just begun in New York
        (4, datetime(2024, 3, 4, tzinfo=UTC)),  # a leap day in the last week
    ],
)
def test_kpis_of_every_learner_match_the_formulas(seed: int, end: datetime) -> None:
    world = random_world(seed, end=end)
    found, expected = compute_kpis(world, end), reference.kpis(world, end)
    assert found.keys() == expected.keys()
    defined = {name: sum(record[name] is not None for record in expected.values()) for name in RANGES}
    assert all(n > 0 for n in defined.values()), defined
    for user in expected:
        assert_same(found[user], expected[user], user)


@pytest.mark.parametrize("seed", [5, 6])
def test_features_match_the_formulas(seed: int) -> None:
    world = random_world(seed)
    start, end = END - timedelta(days=100), END - timedelta(days=3)
    frame = features(in_duckdb(world), start, end)
    rows = frame.astype(object).where(frame.notna(), None)
    found = {(r.user_id, r.topic_id, r.date): (r.attempts, r.correct, r.rt_median, r.hints) for r in rows.itertuples()}
    assert found == reference.features(world, start, end)
    assert any(rt is None for _, _, rt, _ in found.values())
    assert any(hints is None for *_, hints in found.values())


def test_kpis_after_the_first_answer_have_a_reason_for_every_null() -> None:
    at = END - timedelta(hours=30)
    world = World(
        [attempt(1, "new", "i", at, correct=False)], {"i": ("one", None)}, {"one": {"i": (1.0, 0.0, 0.0)}}, {}
    )
    record = compute_kpis(world)["new"]
    assert {name: record[name] for name in ("I_t", "E_t", "R_t", "R_t_coverage", "P")} == dict.fromkeys(record["why"])
    assert record["why"] == {
        "I_t": "fewer than 5 eligible answers to published items in the last 14 days",
        "E_t": "fewer than 20 correct answers with a time in the last 28 days",
        "R_t": "no item was wrong at its last answer 28 to 56 days ago",
        "R_t_coverage": "no item was wrong at its last answer 28 to 56 days ago",
        "P": "the learner has no target ability on this scale",
    }
    assert record["A_t"] == 0.5  # sessions, gaps, hints and dwell are unknown
    assert record["assumed"] == {"A_t": ["sessions", "gaps", "hints", "dwell"], "S": ["sessions"]}
    assert (record["S"], record["by_scale"]) == (pytest.approx(0.60 * 1.25 / 14 + 0.25 + 0.15 * 0.5), {})


def test_learner_with_a_single_old_answer_is_at_risk_and_not_engaged() -> None:
    world = World([attempt(1, "gone", "i", END - timedelta(days=57))], {"i": ("one", None)}, {"one": {}}, {})
    record = compute_kpis(world)["gone"]
    assert (record["A_t"], record["S"], record["assumed"]) == (0.0, 1.0, {})
    assert record["why"]["I_t"] == "no parameters of the scale were in force"


def test_learners_without_answers_in_a_year_have_no_kpis() -> None:
    empty = World([], {"i": ("one", None)}, {"one": {"i": (1.0, 0.0, 0.0)}}, {"u": {"target_theta": 0.0}})
    assert compute_kpis(empty) == {}
    old = World([attempt(1, "u", "i", END - timedelta(days=366))], empty.items, empty.published, empty.learners)
    assert compute_kpis(old) == {}
    assert quiet_learners(in_duckdb(old), END, scales_of(old), published_of(old)).empty


def test_learner_without_a_goal_has_kpis_by_scale_if_the_bank_has_several_scales() -> None:
    items = {"i": ("one", None), "j": ("two", None)}
    at = END - timedelta(days=1)
    world = World([attempt(1, "u", "i", at), attempt(2, "u", "j", at)], items, {"one": {}, "two": {}}, {})
    record = compute_kpis(world)["u"]
    assert record["I_t"] is None
    assert record["why"]["I_t"] == "the learner has no target scale, and the bank has several"
    assert set(record["by_scale"]) == {"one", "two"}


def test_quiet_learners_get_the_same_goal_probability_and_risk_as_in_the_week() -> None:
    world = random_world(7)
    week = compute_kpis(world)
    frame = quiet_learners(in_duckdb(world), END, scales_of(world), published_of(world))
    found = dict(zip(frame["user_id"], frame["kpis"], strict=True))
    last: dict[str, datetime] = {}
    for a in reference.live_answers(world, END - timedelta(days=365), END):
        last[a["user_id"]] = max(a["completed_at"], last.get(a["user_id"], a["completed_at"]))
    assert found.keys() == {user for user, at in last.items() if END - at >= timedelta(days=7)}
    assert 0 < len(found) < len(week)
    for user, record in found.items():
        assert (record["P"], record["S"]) == (week[user]["P"], week[user]["S"])
        assert record["why"].get("P") == week[user]["why"].get("P")
        assert record["assumed"].get("S") == week[user]["assumed"].get("S")
