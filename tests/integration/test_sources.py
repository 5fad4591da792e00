"""Days of features and weeks of KPIs store the state of their verdicts. If the state changes, they are requested."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from irt_assets.common.partitions import day_bounds
from irt_assets.features.daily import features_in_parts, write_features
from irt_assets.kpis.weekly import window_of_week
from irt_assets.responses.verdict_states import (
    changed_partitions,
    record_states,
)
from irt_assets.responses.verdicts import judge_differing
from resources.postgres.database import Database
from tests.helpers.rooms import add_attempts, add_items, add_learners, attempt, call, run_sql

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 3
END = START + timedelta(days=DAYS)
FIRST, SECOND, THIRD = (f"{START + timedelta(days=n):%Y-%m-%d}" for n in range(DAYS))
ASSET = "features_topic_daily"
NEW_ANSWER = """INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, correct)
                VALUES ('9', '2026-03-03T23:59:59Z', 'ann', 'j', true)"""


@pytest.fixture
def log(database: Database) -> Database:
    """Answers on the first and the last of three days, one of them of a test account, all judged."""
    add_items(database, {"i": None, "j": None})
    add_learners(database, ["ann", "ben", "tester"])
    run_sql(database, "UPDATE learner SET is_test = true WHERE user_id = 'tester'")
    for user, hours in (("ann", 1), ("ben", 2), ("tester", 3), ("ann", 71.9)):
        add_attempts(database, [attempt(user, "i", START + timedelta(hours=hours))])
    judge(database)
    return database


def judge(database: Database) -> None:
    judge_differing(database, START.date(), END.date())


def write(database: Database, start: datetime = START, end: datetime = END) -> None:
    call(database, write_features, start, end)


def stale(database: Database) -> list[str]:
    return call(database, changed_partitions, ASSET, day_bounds)


@pytest.mark.parametrize(
    ("change", "days"),
    [
        (NEW_ANSWER, [SECOND]),
        ("DELETE FROM response_log WHERE completed_at >= '2026-03-04Z'", [THIRD]),
        ("UPDATE response_log SET correct = NOT correct WHERE completed_at >= '2026-03-04Z'", [THIRD]),
        ("UPDATE response_log SET hints_used = 1 WHERE user_id = 'ben'", [FIRST]),
        ("UPDATE learner SET is_test = false WHERE user_id = 'tester'", [FIRST]),
        ("UPDATE question SET topic_id = 'geometry' WHERE item_id = 'i'", []),
        ("UPDATE response_log SET revision = 0", [FIRST, THIRD]),
    ],
)  # fmt: skip
def test_day_is_stale_after_a_verdict_of_the_day_has_changed(log: Database, change: str, days: list[str]) -> None:
    write(log)
    run_sql(log, change)
    assert stale(log) == [], "the night has not judged it yet"
    judge(log)
    assert stale(log) == days
    write(log)
    assert stale(log) == []


def test_day_judged_during_its_computation_stays_stale(log: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*arguments: object) -> object:
        add_attempts(log, [attempt("ann", "j", START)])
        judge(log)
        return features_in_parts(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("irt_assets.features.daily.features_in_parts", late)
    write(log, START, START + timedelta(days=1))
    assert stale(log) == [FIRST]


def test_day_that_could_not_be_written_stays_stale(log: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log)
    add_attempts(log, [attempt("ann", "j", START)])
    judge(log)
    monkeypatch.setattr("resources.postgres.warehouse._copy_parts", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(log)
    assert stale(log) == [FIRST]


def test_week_is_stale_if_verdicts_of_the_eight_weeks_before_have_changed(log: Database) -> None:
    weeks = [f"{START + timedelta(weeks=n):%Y-%m-%d}" for n in (-1, 0, 8, 9)]
    call(log, record_states, "weekly_kpi", dict.fromkeys(weeks, ""))
    changed = call(log, changed_partitions, "weekly_kpi", window_of_week)
    assert changed == weeks[1:3]
