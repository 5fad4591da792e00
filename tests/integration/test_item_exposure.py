"""Exposure of items in adaptive tests: the counts of sessions in the log, and the counts by which items are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from psycopg.types.json import Jsonb

from irt_assets.adaptive.assets import build_exposure_asset
from irt_assets.adaptive.banks import TestBank, read_test_bank
from irt_assets.adaptive.exposure import count_exposure, exposure_counts
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.versions import set_policy
from irt_assets.common.partitions import daily
from irt_assets.responses.scales import change_rules
from irt_assets.scores.issuing import issue_scores
from resources.postgres.database import Database
from tests.helpers import rooms, score_world

BEGAN = datetime(2026, 7, 14, 23, 50, tzinfo=UTC)
POLICY = f"""
test: placement
scale: {rooms.SCALE}
length: {{max: 4}}
exposure: {{max: 0.5, theta_cuts: [0.0]}}
"""


@pytest.fixture
def bank(database: Database, tmp_path: Path) -> TestBank:
    """A small exam's bank with the first version of a test that limits exposure below and above θ = 0."""
    score_world.build_exam(database, tmp_path, learners=10)
    policy = Policy.from_yaml(POLICY)
    set_policy(database, policy, by="Ann", reason="June", effective_from=BEGAN - timedelta(days=1))
    return rooms.call(database, read_test_bank, policy, BEGAN)


def add_session(
    database: Database, user: str, answers: Mapping[str, bool | None], off: Mapping[str, Sequence[int]], began: datetime
) -> None:
    """Store a session of `placement` and its answers, one a minute."""
    rooms.run_sql(
        database,
        """INSERT INTO adaptive_session (session_id, user_id, test_id, version, scale_id, scale_version, set_hash, seed,
             eligible, unscored, seen, started_at)
           VALUES (%s, %s, 'placement', 1, %s, 1, 'set', 5, %s, '[]', '[]', %s)""",
        (f"s-{user}", user, rooms.SCALE, Jsonb(off), began),
    )
    rooms.add_attempts(
        database,
        [
            rooms.attempt(
                user,
                item,
                began + timedelta(minutes=at),
                correct=right,
                session_id=f"s-{user}",
                form_id="placement",
                position=at,
            )
            for at, (item, right) in enumerate(answers.items(), 1)
        ],
    )


def test_exposure_of_a_day_counts_its_sessions_by_interval_of_theta(database: Database, bank: TestBank) -> None:
    """Three sessions of the day, one of which ends after midnight, and a session of the next day.

    Two learners answer everything right and are above 0. The third answers nothing right. i5 is not eligible below 0,
    i6 not above 0. An item without published values, new, is not counted.
    """
    off = {"i5": [0, 1], "i6": [1, 0]}
    rooms.run_sql(database, "INSERT INTO question (item_id, scale_id) VALUES ('new', %s)", (rooms.SCALE,))
    add_session(database, "u1", {"i1": True, "new": True, "i2": True}, off, BEGAN)
    add_session(database, "u2", {"i1": True, "i3": True}, {}, BEGAN)
    add_session(database, "u3", {"i1": False, "i2": None}, off, BEGAN)
    add_session(database, "u4", {"i1": True}, {}, BEGAN + timedelta(minutes=10))
    day = BEGAN.replace(hour=0, minute=0)

    rows = rooms.call(database, count_exposure, day, day + timedelta(days=1))

    assert {*rows["day"]} == {day.date()}
    assert {*rows["item_id"]} == {*bank.items.item_ids}
    found = rows.set_index(["theta_interval", "item_id"])[["sessions", "eligible", "given"]]
    expected = {
        (1, "i1"): (2, 2, 2),
        (1, "i2"): (2, 2, 1),
        (1, "i3"): (2, 2, 1),
        (1, "i5"): (2, 2, 0),
        (1, "i6"): (2, 1, 0),
        (0, "i1"): (1, 1, 1),
        (0, "i2"): (1, 1, 1),
        (0, "i5"): (1, 0, 0),
        (0, "i6"): (1, 1, 0),
    }
    assert {key: tuple(found.loc[key]) for key in expected} == expected


def test_counts_of_a_plan_add_days_to_a_simulation_of_limited_weight(database: Database, bank: TestBank) -> None:
    """A simulation of 4,000 tests counts as 1,000 sessions, so its numbers are divided by 4."""
    rooms.run_sql(
        database,
        """INSERT INTO adaptive_simulation (month, version, test_id, scale_id, set_hash, summary, items, code_version)
           VALUES ('2026-06', 1, 'placement', %s, 'set', '{}', %s, '1')""",
        (
            rooms.SCALE,
            Jsonb(
                {
                    "i1": {"eligible": [3000.0, 1000.0], "given": [1500.0, 400.0]},
                    "i2": {"eligible": [2000.0, 0.0], "given": [4.0, 0.0]},
                    "withdrawn": {"eligible": [3000.0, 1000.0], "given": [3000.0, 1000.0]},
                }
            ),
        ),
    )
    rooms.run_sql(
        database,
        """INSERT INTO item_exposure VALUES ('2026-07-14', 1, 1, 'i1', 10, 8, 6), ('2026-07-15', 1, 1, 'i1', 10, 8, 6),
             ('2026-07-15', 2, 1, 'i1', 99, 99, 99), ('2026-07-15', 1, 0, 'i3', 5, 4, 3)""",
    )
    eligible, given = rooms.call(database, exposure_counts, 1, bank.plan)
    at = {item: bank.plan.places[item] for item in ("i1", "i2", "i3", "i4")}
    assert eligible[:, [*at.values()]].T.tolist() == [[750, 266], [500, 0], [4, 0], [0, 0]]
    assert given[:, [*at.values()]].T.tolist() == [[375, 112], [1, 0], [3, 0], [0, 0]]
    assert np.shape(given) == (2, 30)


def test_asset_replaces_the_rows_of_its_days(database: Database, bank: TestBank) -> None:
    """A range of two days, made twice. The second time, a session of the first day has one more answer."""
    add_session(database, "u1", {"i1": True}, {}, BEGAN)
    add_session(database, "u2", {"i1": True}, {}, BEGAN + timedelta(minutes=10))
    asset = build_exposure_asset(daily("2026-07"))
    span = {"dagster/asset_partition_range_start": "2026-07-14", "dagster/asset_partition_range_end": "2026-07-15"}
    given = "SELECT day::text, item_id FROM item_exposure WHERE given > 0 ORDER BY 1, 2"

    assert dg.materialize([asset], resources={"database": database}, tags=span).success
    assert rooms.rows(database, given) == [("2026-07-14", "i1"), ("2026-07-15", "i1")]
    late = rooms.attempt(
        "u1", "i2", BEGAN + timedelta(hours=2), session_id="s-u1", form_id="placement", position=2, correct=False
    )
    rooms.add_attempts(database, [late])
    assert dg.materialize([asset], resources={"database": database}, tags=span).success
    assert rooms.rows(database, given) == [("2026-07-14", "i1"), ("2026-07-14", "i2"), ("2026-07-15", "i1")]


def test_sitting_of_an_adaptive_test_is_no_fixed_form_and_has_a_score_by_theta(
    database: Database, bank: TestBank, tmp_path: Path
) -> None:
    """A single learner: the log alone would make a fixed form of the session's items."""
    del bank
    add_session(database, "u1", {"i1": True, "i2": False, "i3": True, "i4": True}, {}, BEGAN)
    change_rules(database, rooms.SCALE, {"score_by": "theta"})
    score_world.analyse(database, tmp_path, f"{BEGAN:%Y-%m}")
    assert rooms.rows(database, "SELECT form_id FROM form ORDER BY 1") == [("F1",), ("F2",)]

    now = BEGAN + timedelta(days=20)
    issued = issue_scores(database, rooms.SCALE, "placement", f"{BEGAN:%Y-%m}", by="Ann", reason="July", now=now)
    assert [(score.user_id, score.status) for score in issued.new] == [("u1", "issued")]
    assert issued.without == ()
