"""`question` and `learner` as copies of a company's tables: sources of these kinds, which the sensor `pull` reads."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from irt_assets.decisions.withdrawal import MIN_LEAD_TIME
from jobs import copies as copying, pulls
from resources.postgres.database import Database
from tests.helpers.decided import decide_use
from tests.helpers.rooms import rows, run_sql
from tests.helpers.worlds import not_before

COMPANY = """
    CREATE SCHEMA company;
    CREATE TABLE company.items (
        id integer PRIMARY KEY, topic text, labels text[], answer_key text, meta jsonb DEFAULT '{}', price numeric);
    INSERT INTO company.items VALUES
        (1, 'sums', '{anchor,old}', 'B', '{"irt": {"a": 1.5, "b": 0.25, "D": 1.0}, "source": "2019"}', 3),
        (2, 'sums', NULL, NULL, '{}', 3), (3, NULL, '{}', 'C', '{}', 3);
    CREATE TABLE company.students (student_id text PRIMARY KEY, is_test boolean, country text, mail text);
    INSERT INTO company.students VALUES ('ann', false, 'KR', 'a@x'), ('bob', NULL, 'DE', 'b@x');
"""
SOURCES = """
question:
  kind: question
  address: this
  table: company.items
  mapping: {columns: {item_id: id, topic_id: topic, tags: labels, key: answer_key, meta: meta}}
learner:
  kind: learner
  address: this
  table: company.students
  mapping: {columns: {user_id: student_id, is_test: is_test, country: country}}
"""
BANK = "SELECT item_id, scale_id, topic_id, meta FROM question ORDER BY 1"
USE = "SELECT item_id, state, decided_by FROM item_status ORDER BY status_id"
ALERTS = "SELECT key, severity FROM alert WHERE resolved_at IS NULL ORDER BY 1"


class Copies:
    """A database whose `question` and `learner` are copies, with the sensor that copies them, tick by tick."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.cursor: str | None = None

    def tick(self, *statements: str, after_s: float = 300) -> str:
        """Run the company's statements, then the sensor `after_s` seconds after its last tick. Returns its message."""
        for statement in statements:
            run_sql(self.database, statement)
        if self.cursor is not None:
            cursor = json.loads(self.cursor)
            marks = {name: (mark, at - after_s) for name, (mark, at) in cursor["marks"].items()}
            self.cursor = json.dumps(cursor | {"marks": marks})
        with dg.build_sensor_context(
            cursor=self.cursor, resources={"database": self.database}, sensor_name="pull"
        ) as context:
            tick = pulls.pull.evaluate_tick(context)
        assert not tick.run_requests
        self.cursor = tick.cursor
        assert tick.skip_message
        return tick.skip_message

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return rows(self.database, query)

    @property
    def versions(self) -> list[tuple[Any, ...]]:
        """Row versions of items and learners. An UPDATE creates a new version, even without a change."""
        return self.rows("SELECT item_id, xmin FROM question UNION ALL SELECT user_id, xmin FROM learner ORDER BY 1")


@pytest.fixture
def now() -> datetime:
    """Current time. Items are retired on the next day at the earliest, also if the test runs over midnight."""
    return not_before(30.0, timedelta(days=1) - MIN_LEAD_TIME, timedelta(0))


@pytest.fixture
def copies(database: Database, tmp_path: Path) -> Copies:
    file = tmp_path / "sources.yaml"
    file.write_text(SOURCES)
    file.chmod(0o600)
    made = Copies(Database(database.settings.model_copy(update={"irt_pull_sources": file})))
    made.tick(COMPANY)
    return made


def test_copies_are_compared_every_five_minutes(copies: Copies) -> None:
    result = copies.tick("INSERT INTO company.items (id) VALUES (4)", after_s=60)
    assert result == "learner: compared less than five minutes ago; question: compared less than five minutes ago"
    assert len(copies.rows(BANK)) == 3


def test_copy_contains_tags_key_and_anchors_and_only_mapped_columns(copies: Copies) -> None:
    irt = {"a": 1.5, "b": 0.25, "D": 1.0}
    assert (copies.rows(BANK), copies.rows("SELECT user_id, is_test, attributes FROM learner ORDER BY 1")) == (
        [
            ("1", "default", "sums", {"tags": ["anchor", "old"], "key": "B", "irt": irt, "source": "2019"}),
            ("2", "default", "sums", {}),
            ("3", "default", None, {"tags": [], "key": "C"}),
        ],
        [
            ("ann", False, {"country": "KR"}),
            ("bob", False, {"country": "DE"}),
        ],
    )


def test_second_comparison_of_copies_changes_no_rows(copies: Copies) -> None:
    before = copies.versions, copies.rows(BANK), copies.rows(USE)
    assert {*copies.tick().split("; ")} == {"question: unchanged", "learner: unchanged"}
    copies.cursor = None
    result = copies.tick()
    assert "question: 3 rows read, 0 new or changed, 0 retired, 0 active again" in result
    assert "learner: 2 rows read, 0 new or changed" in result
    assert (copies.versions, copies.rows(BANK), copies.rows(USE)) == before


def test_only_changed_and_emptied_cells_are_written(copies: Copies) -> None:
    run_sql(copies.database, "UPDATE question SET testlet_id = 'ours' WHERE item_id = '1'")
    copies.tick()
    untouched = copies.rows("SELECT item_id, xmin::text FROM question WHERE item_id <> '1'")
    result = copies.tick(
        "UPDATE company.items SET topic = NULL, answer_key = NULL, labels = '{anchor}', "
        """meta = '{"irt": {"a": 1.5, "b": 0.5}}' WHERE id = 1"""
    )
    assert "3 rows read, 1 new or changed" in result
    irt = {"a": 1.5, "b": 0.5}
    assert (
        copies.rows(f"SELECT topic_id, meta, testlet_id FROM ({BANK.replace('meta', 'meta, testlet_id')}) b LIMIT 1"),
        copies.rows("SELECT item_id, xmin::text FROM question WHERE item_id <> '1'"),
    ) == ([(None, {"tags": ["anchor"], "irt": irt}, "ours")], untouched)


def test_local_change_of_a_copied_column_is_reverted(copies: Copies) -> None:
    assert (
        "1 new or changed" in copies.tick("UPDATE question SET topic_id = 'mine', meta = '{}' WHERE item_id = '3'"),
        copies.rows(BANK)[2],
    ) == (True, ("3", "default", None, {"tags": [], "key": "C"}))


def test_new_item_of_the_company_is_copied(copies: Copies) -> None:
    assert (
        "4 rows read, 1 new or changed" in copies.tick("INSERT INTO company.items (id, topic) VALUES (4, 'limits')"),
        copies.rows(BANK)[3],
    ) == (True, ("4", "default", "limits", {}))


@pytest.mark.usefixtures("now")
def test_vanished_item_is_retired_without_deletion_and_active_again_on_its_return(copies: Copies) -> None:
    result = copies.tick("DELETE FROM company.items WHERE id = 2")
    assert "1 retired, 0 active again" in result
    assert (
        len(copies.rows(BANK)),
        copies.rows(USE),
        "unchanged" in copies.tick(),
        "0 retired, 1 active again" in copies.tick("INSERT INTO company.items (id, topic) VALUES (2, 'sums')"),
        copies.rows(USE)[1:],
        copies.rows("SELECT item_id FROM item_withdrawal WHERE until IS NULL OR until > since"),
    ) == (3, [("2", "withdrawn", "irt pull")], True, True, [("2", "restored", "irt pull")], [])
    copies.tick("DELETE FROM company.items WHERE id = 2")
    assert len(copies.rows(USE)) == 3


def test_item_can_be_retired_in_the_last_minute_of_a_day(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2030, 3, 1, 23, 59, 40, tzinfo=tz)

    monkeypatch.setattr(copying, "datetime", Late)
    copies.tick("DELETE FROM company.items WHERE id = 2")
    assert [str(day) for (day,) in copies.rows("SELECT effective_from::date FROM item_status")] == ["2030-03-03"]


def test_persons_decision_on_an_items_use_is_kept(copies: Copies, now: datetime) -> None:
    decide_use(copies.database, ["1"], "withdrawn", by="Kim", reason="leaked", now=now)
    copies.cursor = None
    assert "0 retired, 0 active again" in copies.tick()
    copies.tick("DELETE FROM company.items WHERE id = 2")
    decide_use(copies.database, ["2"], "restored", by="Kim", reason="still on paper", now=now)
    copies.cursor = None
    assert ("0 retired, 0 active again" in copies.tick(), copies.rows(USE)) == (
        True,
        [
            ("1", "withdrawn", "Kim"),
            ("2", "withdrawn", "irt pull"),
            ("2", "restored", "Kim"),
        ],
    )


def test_vanished_anchor_is_reported_until_a_person_drops_the_anchor(copies: Copies) -> None:
    of_anchor = '{"model": "2pl", "a": 1, "b": 0, "c": 0, "a_se": 0.1, "b_se": 0.1}'
    copies.tick(
        "INSERT INTO calibration_scale (scale_id, origin, anchor_version) VALUES ('default', '{}', 1)",
        f"""INSERT INTO anchor_set (scale_id, version, item_id, parameters, errors_assumed, anchor_hash)
            VALUES ('default', 1, '1', '{of_anchor}', true, '')""",
    )
    assert ("0 retired" in copies.tick("DELETE FROM company.items WHERE id = 1"), copies.rows(ALERTS)) == (
        True,
        [("rows of question", "warning")],
    )
    [(fix,)] = copies.rows("SELECT fix FROM alert")
    assert "irt release drop-anchors 1" in fix
    assert ("1 retired" in copies.tick("UPDATE calibration_scale SET anchor_version = 2"), copies.rows(ALERTS)) == (
        True,
        [],
    )


def test_flag_of_a_test_account_is_copied(copies: Copies) -> None:
    assert (
        "1 new or changed" in copies.tick("UPDATE company.students SET is_test = true WHERE student_id = 'bob'"),
        copies.rows("SELECT is_test FROM learner WHERE user_id = 'bob'"),
    ) == (True, [(True,)])


def test_invalid_row_is_refused_and_the_remaining_rows_are_copied(copies: Copies) -> None:
    result = copies.tick(
        """UPDATE company.items SET meta = '{"irt": {"a": 1.5}}' WHERE id = 1""",
        "UPDATE company.items SET topic = 'limits' WHERE id = 2",
    )
    assert "3 rows read, 1 new or changed, 0 retired, 0 active again, rejected: 1 × incomplete_parameters" in result
    assert (copies.rows(BANK)[1][2], copies.rows(ALERTS)) == ("limits", [("rows of question", "warning")])
    [(fix,)] = copies.rows("SELECT fix FROM alert")
    assert fix.startswith("irt intake rejects --source question shows each refused row.")
    assert {*copies.tick().split("; ")} == {"question: unchanged", "learner: unchanged"}
    copies.tick("""UPDATE company.items SET meta = '{"irt": {"a": 1.5, "b": 1}}' WHERE id = 1""")
    assert copies.rows(ALERTS) == []


@pytest.mark.parametrize(
    ("damage", "mending", "message"),
    [
        ("ALTER TABLE company.items RENAME topic TO theme", "ALTER TABLE company.items RENAME theme TO topic", "topic"),
        ("ALTER TABLE company.items RENAME TO gone", "ALTER TABLE company.gone RENAME TO items", "company.items"),
        (
            "CREATE TABLE kept AS TABLE company.items; DELETE FROM company.items",
            "INSERT INTO company.items TABLE kept",
            "no",
        ),
    ],
    ids=["column", "table", "empty"],
)
def test_unreadable_table_opens_an_alert_and_the_second_copy_continues(
    damage: str, mending: str, message: str, copies: Copies
) -> None:
    bank = copies.rows(BANK)
    result = copies.tick(damage, "UPDATE company.students SET country = 'US' WHERE student_id = 'bob'")
    assert message in result
    assert "learner: 2 rows read, 1 new or changed" in result
    assert (copies.rows(ALERTS), copies.rows(BANK), copies.rows(USE)) == ([("pull question", "error")], bank, [])
    copies.tick(mending)
    assert copies.rows(ALERTS) == []


def test_locked_table_is_read_next_time(copies: Copies) -> None:
    with copies.database.connect() as connection:
        connection.execute("LOCK TABLE company.items IN ACCESS EXCLUSIVE MODE")
        assert "question: its table is locked" in copies.tick()
    assert ({*copies.tick().split("; ")}, copies.rows(ALERTS)) == ({"question: unchanged", "learner: unchanged"}, [])
