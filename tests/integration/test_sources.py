"""What days of features were computed from: stored with their rows, and changed by what they read and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from irt_assets.features.daily import features, features_in_parts, write_features
from irt_assets.responses.observe import answer_versions
from resources.cluster.relational import on_postgres
from resources.postgres.database import Database
from resources.postgres.sources import recorded_sources
from tests.helpers.rooms import run_sql
from tests.testbed.partitions import ensure_month_partitions

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 3
END = START + timedelta(days=DAYS)
ASSET = "features_topic_daily"
LOG = """INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, correct, mode)
         VALUES (%s, %s, %s, %s, %s, %s)"""


@pytest.fixture
def log(database: Database) -> Database:
    """Answers on the first and the last of three days, of them one of a test account."""
    with database.connect() as connection:
        ensure_month_partitions(connection, "2026-03", "2026-03")
        connection.execute("INSERT INTO question (item_id, topic_id) VALUES ('i', 'algebra'), ('j', 'algebra')")
        connection.execute("INSERT INTO learner (user_id, is_test) VALUES ('tester', true), ('late starter', false)")
        for n, (user, hours) in enumerate((("ann", 1), ("ben", 2), ("tester", 3), ("ann", 71.9))):
            connection.execute(LOG, (f"{n}", START + timedelta(hours=hours), user, "i", True, "live"))
    return database


def logged(at: str, user: str = "ann", correct: str = "true", mode: str = "live") -> str:
    return f"""INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, correct, mode)
               VALUES ('9', '{at}', '{user}', 'i', {correct}, '{mode}')"""


def versions(database: Database) -> dict[str, str]:
    with database.connect() as connection:
        return answer_versions(connection, START, END)


@pytest.mark.parametrize(
    ("change", "days"),
    [
        (logged("2026-03-02T23:59:59Z"), {2}),
        (logged("2026-03-01T00:00:00Z", correct="false"), {1}),
        ("DELETE FROM response_log WHERE attempt_id = '3'", {3}),
        ("UPDATE response_log SET correct = false WHERE attempt_id = '3'", {3}),
        ("UPDATE response_log SET hints_used = 1 WHERE attempt_id = '0'", {1}),
        ("UPDATE response_log SET response_time_ms = 900 WHERE attempt_id = '0'", {1}),
        ("UPDATE question SET topic_id = 'geometry' WHERE item_id = 'i'", {1, 3}),
        ("UPDATE learner SET is_test = false WHERE user_id = 'tester'", {1}),
        (logged("2026-03-02Z", mode="sandbox"), set()),
        (logged("2026-03-02Z", user="tester"), set()),
        (logged("2026-03-02Z", correct="NULL"), set()),
        ('UPDATE question SET meta = \'{"key": "B"}\'', set()),
    ],
)
def test_a_days_version_changes_with_what_features_read_of_it_and_with_nothing_else(
    log: Database, change: str, days: set[int]
) -> None:
    before = versions(log)
    assert list(before) == ["2026-03-01", "2026-03-02", "2026-03-03"]
    run_sql(log, change)
    after = versions(log)
    assert {day for day in before if before[day] != after[day]} == {f"2026-03-{day:02d}" for day in days}


def test_the_order_in_which_answers_came_does_not_matter(log: Database) -> None:
    before = versions(log)
    run_sql(log, "CREATE TABLE kept AS SELECT * FROM response_log ORDER BY attempt_id DESC")
    run_sql(log, "DELETE FROM response_log")
    run_sql(log, "INSERT INTO response_log SELECT * FROM kept")
    assert versions(log) == before


def test_a_day_is_fresh_until_an_answer_arrives_and_again_when_it_is_made_again(log: Database) -> None:
    def stale() -> set[str]:
        with log.connect() as connection:
            known, now = recorded_sources(connection, ASSET), answer_versions(connection, START, END)
        return {day for day in known if known[day] != now[day]}

    with log.connect() as connection:
        written = write_features(connection, START, END)
        assert recorded_sources(connection, ASSET) == {day: made.data_hash for day, made in written.items()}
    assert len(written) == DAYS
    assert stale() == set()
    run_sql(log, LOG, ("9", START + timedelta(hours=30), "ann", "j", True, "live"))
    assert stale() == {"2026-03-02"}
    with log.connect() as connection:
        write_features(connection, START + timedelta(days=1), START + timedelta(days=2))
    assert stale() == set()


def test_an_answer_that_arrives_while_a_day_is_made_leaves_it_stale(
    log: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*arguments: object) -> object:
        run_sql(log, LOG, ("9", START, "ann", "j", True, "live"))
        return features_in_parts(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("irt_assets.features.daily.features_in_parts", late)
    with log.connect() as connection:
        write_features(connection, START, START + timedelta(days=1))
        assert features(on_postgres(connection), START, END)["attempts"].sum() == 4
        assert (
            recorded_sources(connection, ASSET)["2026-03-01"] != answer_versions(connection, START, END)["2026-03-01"]
        )


def test_a_day_that_could_not_be_written_keeps_its_hash_too(log: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with log.connect() as connection:
        write_features(connection, START, END)
        before = recorded_sources(connection, ASSET)
    run_sql(log, LOG, ("9", START, "ann", "j", True, "live"))
    monkeypatch.setattr("resources.postgres.warehouse._copy_parts", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), log.connect() as connection:
        write_features(connection, START, END)
    with log.connect() as connection:
        assert recorded_sources(connection, ASSET) == before
