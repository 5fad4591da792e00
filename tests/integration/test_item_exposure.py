"""Exposure of items in adaptive tests: the counts of sessions in the log, and the counts by which items are drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from psycopg.types.json import Jsonb

from irt_assets.abilities.online import read_measures
from irt_assets.adaptive.assets import build_exposure_asset
from irt_assets.adaptive.banks import TestBank, read_test_bank
from irt_assets.adaptive.exposure import count_exposure, exposure_counts, simulated_counts, with_prior
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.sessions import Answer, Plans, Session, begin_session
from irt_assets.common.partitions import daily
from irt_assets.decisions.origin import initialise
from irt_assets.scales.scale import change_rules
from irt_assets.scores.issuing import issue_scores
from resources.postgres.database import Database
from tests.helpers import rooms, score_world
from tests.helpers.decided import set_policy

BEGAN = datetime(2026, 7, 14, 23, 50, tzinfo=UTC)
LIMIT = 0.4
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


def test_simulated_sessions_count_until_there_are_a_hundred_real_ones(database: Database, bank: TestBank) -> None:
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
    real = rooms.call(database, exposure_counts, 1, bank.plan)
    simulated = rooms.call(database, simulated_counts, 1, bank.plan)
    at = [bank.plan.places[item] for item in ("i1", "i2", "i3", "i4")]
    assert real[:, :, at].tolist() == [[[0, 0, 4, 0], [16, 0, 0, 0]], [[0, 0, 3, 0], [12, 0, 0, 0]]]
    both = with_prior(real, simulated)  # below θ = 0 as 96 sessions, above as 84
    assert both[:, :, at] == pytest.approx(
        np.array([[[96, 64, 4, 0], [100, 0, 0, 0]], [[48, 0.128, 3, 0], [45.6, 0, 0, 0]]])
    )
    assert with_prior(30 * real, simulated)[:, :, at] == pytest.approx(30 * real[:, :, at])
    assert np.shape(both) == (2, 2, 30)


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


@pytest.mark.ci
@pytest.mark.parametrize("theta", [0.3, -1.5])
def test_no_item_is_given_much_more_often_than_its_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch, theta: float
) -> None:
    """1,050 learners at one θ, 24 at once, over two replicas that take turns at random. The first 50 sessions are not
    counted, because the simulated learners, who need other items, count more than these."""
    rooms.add_items(database, score_world.item_values())
    initialise(database, rooms.SCALE, first_month=rooms.MONTHS[0])
    text = f"test: placement\nscale: {rooms.SCALE}\nlength: {{max: 5}}\nexposure: {{max: {LIMIT}}}\n"
    set_policy(database, Policy.from_yaml(text), by="Ann", reason="June", effective_from=BEGAN - timedelta(days=1))
    rng, values, given = np.random.default_rng(11), score_world.item_values(), Counter[str]()
    monkeypatch.setattr("secrets.randbits", lambda bits: int(rng.integers(2**bits)))
    replicas, under_way, begun = [Plans(), Plans()], dict[int, tuple[Session, list[Answer]]](), 0
    with database.connect() as connection:
        measures = read_measures(connection, BEGAN)
        for plans in replicas:
            plans.refresh(connection, BEGAN)
        while begun < 1_050 or under_way:
            while begun < 1_050 and len(under_way) < 24:
                offer = replicas[rng.integers(2)].offers["placement"]
                session = begin_session(connection, offer, measures, f"u{begun}", f"s{begun}", BEGAN)
                under_way[begun], begun = (session, []), begun + 1
            k = int(rng.choice([*under_way]))
            session, answers = under_way[k]
            step = replicas[rng.integers(2)].next_item(connection, session, answers, BEGAN)
            if step.item_id is None:
                del under_way[k]
                given.update(answer.item_id for answer in answers if k >= 50)
            else:
                own = values[step.item_id]
                right = rng.random() < 1 / (1 + np.exp(-own["a"] * (theta - own["b"])))
                answers.append(Answer(step.item_id, bool(right), None))
    assert given.total() == 5_000
    assert max(given.values()) <= 450
