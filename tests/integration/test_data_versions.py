"""A stored hash is the hash: no change of what it is of goes unnoticed, and nothing else costs a reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import LiteralString

import psycopg
import pytest

from irt_assets.common.partitions import Month
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.responses import data_versions
from irt_assets.responses.data_versions import data_version, merge_changes, states_of
from irt_assets.responses.observe import day_versions
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.stored_window import verdict_hash
from irt_assets.responses.window import data_hash
from resources.cluster.relational import on_postgres
from resources.postgres import schema
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.databases import WORKER
from tests.helpers.rooms import rows, run_sql
from tests.testbed.partitions import ensure_month_partitions

pytestmark = pytest.mark.ci

FIRST, SECOND = rooms.MONTHS[:2]
START = Month(SECOND).start
ANSWER = """INSERT INTO response_log (attempt_id, user_id, item_id, completed_at, correct, response_time_ms, mode,
                                      recorded_at)
            SELECT {name}, user_id, item_id, {at}, correct, 30000, 'live', {at} FROM response_log
            WHERE completed_at >= '2026-07-01+00' AND correct IS NOT NULL ORDER BY attempt_id LIMIT 1"""


class Look:
    """Asks for a month's version as the status does, and counts how often its answers were read."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database, self.store, self.readings = Database(settings), rooms.folder_store(settings), 0
        self.meanwhile: Callable[[], None] = lambda: None

        def counted(*asked: object) -> str:
            self.readings += 1
            self.meanwhile()
            return data_hash(*asked)  # type: ignore[arg-type]

        monkeypatch.setattr(data_versions, "data_hash", counted)

    def __call__(self, month: str = SECOND, **other_scales: Scale) -> tuple[str, str, int]:
        """The version, the hash, and how often answers were read for the first."""
        before = self.readings
        with self.database.connect() as connection:
            scales = read_scales(connection) | other_scales
            version = data_version(connection, month, scales)
            return version, data_hash(connection, *Month(month).bounds, scales), self.readings - before

    def write(self, statement: LiteralString, *values: object) -> None:
        with self.database.connect() as connection:
            assert connection.execute(statement, values).rowcount > 0

    def autocommit(self, *statements: LiteralString) -> None:
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture
def look(world: Settings, monkeypatch: pytest.MonkeyPatch) -> Look:
    return Look(world, monkeypatch)


def answer(look: Look, at: str, name: str = "again") -> None:
    """Somebody answers an item of the second month at another time, too."""
    look.write(ANSWER.format(name=f"'{name}'", at=f"'{at}'"))  # type: ignore[arg-type]


def test_what_nobody_wrote_to_is_read_once(look: Look) -> None:
    first, truth, readings = look()
    assert (first, readings) == (truth, 1)
    assert look() == (truth, truth, 0)


IN_JULY = "completed_at >= '2026-07-01+00' AND completed_at < '2026-08-01+00'"
ONE = f"(SELECT min(attempt_id) FROM response_log WHERE {IN_JULY} AND correct IS NOT NULL)"
CHANGES: dict[str, Callable[[Look], None]] = {
    "an answer": lambda look: answer(look, "2026-07-03 12:00+00"),
    "an earlier answer": lambda look: answer(look, "2026-06-03 12:00+00"),
    "a deletion": lambda look: look.write(f"DELETE FROM response_log WHERE attempt_id = {ONE}"),  # type: ignore[arg-type]
    "an update in place": lambda look: look.write(
        f"UPDATE response_log SET correct = NOT correct WHERE attempt_id = {ONE}"  # type: ignore[arg-type]
    ),
    "an update of the partition itself": lambda look: look.write(
        f"UPDATE response_log_2026_07 SET correct = NOT correct WHERE attempt_id = {ONE}"  # type: ignore[arg-type]
    ),
    "an answer that moves to another month": lambda look: look.write(
        f"UPDATE response_log SET completed_at = '2026-06-02+00' WHERE attempt_id = {ONE}"  # type: ignore[arg-type]
    ),
    "a deletion and as many new rows": lambda look: look.autocommit(
        "DELETE FROM response_log WHERE attempt_id = (SELECT max(attempt_id) FROM response_log_2026_07)",
        ANSWER.format(name="'other'", at="'2026-07-03+00'"),  # type: ignore[arg-type]
    ),
    "a replication": lambda look: look.autocommit(
        "SET session_replication_role = replica",
        f"UPDATE response_log SET correct = NOT correct WHERE attempt_id = {ONE}",  # type: ignore[arg-type]
    ),
    "triggers off for a moment": lambda look: look.autocommit(
        "ALTER TABLE response_log DISABLE TRIGGER ALL",
        f"UPDATE response_log SET correct = NOT correct WHERE attempt_id = {ONE}",  # type: ignore[arg-type]
        "ALTER TABLE response_log ENABLE TRIGGER ALL",
        "ALTER TABLE response_log ENABLE ALWAYS TRIGGER log_changed",
    ),
    "an emptied log": lambda look: look.autocommit("TRUNCATE response_log"),
    "an emptied partition": lambda look: look.autocommit("TRUNCATE response_log_2026_07"),
    "a partition that is gone": lambda look: look.autocommit("DROP TABLE response_log_2026_07"),
    "a partition that is detached": lambda look: look.autocommit(
        "ALTER TABLE response_log DETACH PARTITION response_log_2026_07"
    ),
    "a month detached, changed and attached again": lambda look: look.autocommit(
        "ALTER TABLE response_log DETACH PARTITION response_log_2026_07",
        "UPDATE response_log_2026_07 SET correct = NOT correct",
        """ALTER TABLE response_log ATTACH PARTITION response_log_2026_07
           FOR VALUES FROM ('2026-07-01+00') TO ('2026-08-01+00')""",
    ),
    "test accounts": lambda look: look.write("UPDATE learner SET is_test = true"),
    "an item of another topic": lambda look: look.write("UPDATE question SET topic_id = 'another'"),
    "an item of another scale": lambda look: look.write("UPDATE question SET scale_id = 'another'"),
    "an item that is gone": lambda look: look.write(
        f"DELETE FROM question WHERE item_id = (SELECT min(item_id) FROM response_log WHERE {IN_JULY})"  # type: ignore[arg-type]
    ),
    "a bank that is gone": lambda look: look.autocommit("TRUNCATE question"),
    "another view": lambda look: look.autocommit(
        """CREATE OR REPLACE VIEW attempt AS
           SELECT attempt_id AS id, user_id, item_id, 'one'::text AS topic_id, session_id, form_id, position,
                  started_at, completed_at, correct, response, response_time_ms, hints_used > 0 AS hint_used,
                  hints_used, mode, recorded_at, score FROM response_log"""
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_no_change_goes_unnoticed(look: Look, change: Callable[[Look], None]) -> None:
    before, _, _ = look()
    change(look)
    after, truth, readings = look()
    assert (after, readings) == (truth, 1)
    assert after != before


OF_NO_CONCERN: dict[str, Callable[[Look], None]] = {
    "an answer of the month after": lambda look: answer(look, "2026-08-03+00"),
    "an answer before the look-back": lambda look: answer(look, "2025-06-30+00"),
    "an item that nobody answered": lambda look: look.write("INSERT INTO question (item_id) VALUES ('new')"),
    "an item's key": lambda look: look.write('UPDATE question SET meta = \'{"key": "B"}\''),
    "a test account without answers": lambda look: look.write(
        "INSERT INTO learner (user_id, is_test) VALUES ('new', true)"
    ),
    "a learner": lambda look: look.write("INSERT INTO learner (user_id) VALUES ('new')"),
    "a change that was taken back": lambda look: look.autocommit("BEGIN; DELETE FROM response_log; ROLLBACK"),
    "a new month": lambda look: look.autocommit(
        """CREATE TABLE response_log_2025_05 PARTITION OF response_log
           FOR VALUES FROM ('2025-05-01+00') TO ('2025-06-01+00')"""
    ),
}


@pytest.mark.parametrize("change", OF_NO_CONCERN.values(), ids=OF_NO_CONCERN.keys())
def test_what_a_month_does_not_read_costs_no_reading(look: Look, change: Callable[[Look], None]) -> None:
    with look.database.connect() as connection:
        ensure_month_partitions(connection, "2025-06", "2025-06")
    before, truth, _ = look()
    change(look)
    assert look() == (before, truth, 0)
    assert look() == (before, truth, 0)


def test_an_item_that_moves_and_comes_back_is_read_again_in_between(look: Look) -> None:
    before, _, _ = look()
    look.write("UPDATE question SET scale_id = 'another'")
    moved, truth, readings = look()
    assert (moved, readings) == (truth, 1)
    look.write("UPDATE question SET scale_id = 'default'")
    assert look() == (before, before, 1)


def test_a_snapshot_and_so_what_is_published_from_it_has_the_hash_of_what_was_read(look: Look) -> None:
    answer(look, "2026-07-03 12:00+00")
    taken, _ = take_snapshot(look.database, look.store, SECOND, None)
    assert rows(look.database, "SELECT data_hash FROM data_version") == [(taken.data_hash,)]
    with look.database.connect() as connection:
        now = data_version(connection, SECOND, {}, taken.data_hash)
        assert now == taken.data_hash == verdict_hash(on_postgres(connection), *Month(SECOND).bounds)


def test_another_look_back_is_another_version(look: Look) -> None:
    look()
    with look.database.connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
    short = replace(scale, rules=Rules.from_settings(scale.rules.changed() | {"lookback_months": 0}))
    version, truth, readings = look(**{rooms.SCALE: short})
    assert (version, readings) == (truth, 1)


def test_the_upgrade_to_revisions_writes_no_answer_again_and_costs_no_reading(look: Look) -> None:
    files = "SELECT relname, relfilenode FROM pg_class WHERE relname ~ '^response_log_2' AND relkind = 'r' ORDER BY 1"
    _, truth, _ = look()
    with look.database.connect() as connection:
        days = day_versions(connection, *Month(SECOND).bounds)
    then = rows(look.database, files)
    schema.downgrade(look.database, "0039_learner_reports")
    schema.upgrade(look.database)
    assert rows(look.database, files) == then
    assert look() == (truth, truth, 0)
    with look.database.connect() as connection:
        assert day_versions(connection, *Month(SECOND).bounds) == days


def test_each_month_has_its_own(look: Look) -> None:
    assert look(FIRST)[0] != look(SECOND)[0]
    assert look(FIRST)[2] + look(SECOND)[2] == 0


def test_answers_that_are_committed_while_others_are_read_are_noticed_the_next_time(look: Look) -> None:
    look.meanwhile = lambda: answer(look, "2026-07-03+00")
    look()
    look.meanwhile = lambda: None
    version, truth, readings = look()
    assert (version, readings) == (truth, 1)
    assert look() == (truth, truth, 0)


def test_a_bank_that_is_changed_and_changed_back_while_answers_are_read_leaves_no_hash(look: Look) -> None:
    """The hash is that of the bank in between, which no month may be compared with."""
    look.meanwhile = lambda: look.write("UPDATE question SET scale_id = 'another'")
    with look.database.connect() as connection:
        data_version(connection, SECOND, read_scales(connection))
        look.write("UPDATE question SET scale_id = 'default'")
    look.meanwhile = lambda: None
    version, truth, readings = look()
    assert (version, readings) == (truth, 1)


def test_a_transaction_that_changed_the_data_stores_nothing(look: Look) -> None:
    with look.database.connect() as connection:
        scales = read_scales(connection)
        for name in ("first", "second"):
            connection.execute(ANSWER.format(name=f"'{name}'", at="'2026-07-03+00'").encode())
            now = data_hash(connection, *Month(SECOND).bounds, scales)
            assert data_version(connection, SECOND, scales) == now
    assert rows(look.database, "SELECT count(*) FROM data_version") == [(0,)]


def test_a_reader_that_may_not_write_hashes_the_answers(look: Look) -> None:
    with look.database.connect() as connection:
        connection.execute("SET TRANSACTION READ ONLY")
        scales = read_scales(connection)
        assert data_version(connection, SECOND, scales) == data_hash(connection, *Month(SECOND).bounds, scales)
    assert look()[2] == 1


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE response_log DISABLE TRIGGER log_changed",
        "ALTER TABLE response_log_2026_07 DISABLE TRIGGER log_changed",
        "ALTER TABLE response_log ENABLE TRIGGER log_changed",
        "DROP TRIGGER item_changed ON question",
    ],
)
def test_where_nothing_is_proved_every_answer_is_read(look: Look, statement: str) -> None:
    run_sql(look.database, statement)
    with look.database.connect() as connection:
        assert states_of(connection, SECOND, read_scales(connection)) is None
    for _ in range(2):
        version, truth, readings = look()
        assert (version, readings) == (truth, 1)


def test_merged_changes_have_the_same_sums(look: Look) -> None:
    for n in range(3):
        answer(look, "2026-07-03+00", f"again{n}")
    _, truth, _ = look()
    sums = "SELECT part, sum(changes) FROM data_change GROUP BY part ORDER BY part"
    before = rows(look.database, sums)
    with look.database.connect() as connection:
        assert merge_changes(connection) >= 2
    with look.database.connect() as connection:
        assert merge_changes(connection) == 0
    assert rows(look.database, sums) == before
    assert look() == (truth, truth, 0)


@pytest.mark.parametrize("path", ["public", "exam, pg_catalog, public"])
def test_a_role_that_may_only_add_answers_is_counted(look: Look, path: str) -> None:
    """Also with a search path of its own, on which other functions come before those that the triggers call."""
    look()
    role = f"adds_answers_{WORKER}"  # the databases of the server have it in common
    look.autocommit(
        f"DROP ROLE IF EXISTS {role}",  # type: ignore[arg-type]
        f"CREATE ROLE {role}",  # type: ignore[arg-type]
        f"GRANT SELECT, INSERT ON response_log TO {role}",  # type: ignore[arg-type]
        f"CREATE SCHEMA exam AUTHORIZATION {role}",  # type: ignore[arg-type]
        "CREATE FUNCTION exam.to_char(timestamp, text) RETURNS text LANGUAGE sql AS $$ SELECT 'never' $$",
    )
    with look.database.connect() as connection:
        connection.execute(f"SET LOCAL ROLE {role}".encode())
        connection.execute("SELECT set_config('search_path', %s, true)", (path,))
        connection.execute(ANSWER.format(name="'theirs'", at=f"'{START + timedelta(days=2)}'").encode())
    look.autocommit(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")  # type: ignore[arg-type]
    version, truth, readings = look()
    assert (version, readings) == (truth, 1)


# -- tables that are not ours: no trigger counts, nights look ------------------------------------------
