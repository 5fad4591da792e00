"""A month's snapshot: what is in it, and what happens when it is taken again, spoilt or cannot be written."""

from __future__ import annotations

import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from irt_assets.common.partitions import Month
from irt_assets.psychometrics.simulation.truth import Truth
from irt_assets.responses.scales import change_rules, read_scales
from irt_assets.responses.snapshot import (
    current_snapshot,
    read_snapshot,
    snapshot_problem,
    take_snapshot,
)
from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms

MONTH = rooms.MONTHS[0]


@pytest.fixture
def settings(world: Settings) -> Settings:
    """Database and store of a test are those of `world`."""
    return world


def state(database: Database) -> list[tuple[str, bool]]:
    """Hash, and whether it is in use, of every snapshot of the month."""
    return rooms.rows(
        database,
        "SELECT snapshot_hash, superseded_at IS NULL FROM scored_snapshot WHERE month = %s ORDER BY created_at",
        (MONTH,),
    )


def test_counts_by_reason_agree_with_the_truth_of_the_simulation(
    database: Database, store: FolderStore, small_truth: Truth
) -> None:
    """Rapid guesses may differ: planted ones above the rule's limit, honest ones below it; hence the sum. All answers
    are read, also those that came weeks late."""
    for month in rooms.MONTHS:
        snapshot, _ = take_snapshot(database, store, month, None)
        counts, truth = snapshot.counts[rooms.SCALE], small_truth.counts[month]
        assert sum(counts.values()) == snapshot.n_attempts
        for reason in ("sandbox", "test_account", "repeat", "not_reached"):
            assert counts[reason] == truth[reason] > 0, reason
        judged_by_content = sum(
            counts[reason] for reason in ("scored", "rapid", "few_learner_responses", "few_item_responses")
        )
        assert judged_by_content == truth["scored"] + truth["rapid"]
        assert counts["unusable"] == counts["hinted"] == 0


def test_the_file_holds_every_attempt_of_the_month_with_its_reason(database: Database, store: FolderStore) -> None:
    snapshot, _ = take_snapshot(database, store, MONTH, None)
    table = read_snapshot(store, snapshot)
    logged = rooms.rows(
        database,
        """SELECT learner_key, item_id, completed_at FROM response_log JOIN learner USING (user_id)
           WHERE to_char(completed_at, 'YYYY-MM') = %s ORDER BY learner_key, completed_at""",
        (MONTH,),
    )
    stored = [tuple(row.values()) for row in table.select(["learner_key", "item_id", "completed_at"]).to_pylist()]
    assert stored == logged
    assert table["row"].to_pylist() == list(range(len(logged)))
    assert not {"attempt_id", "user_id", "session_id"} & {*table.column_names}
    reasons = table["reason"].to_pylist()
    assert reasons.count(None) == snapshot.counts[rooms.SCALE]["scored"]
    scores = table["score"].to_pylist()
    assert [reason is None for reason in reasons] == [score is not None for score in scores]


def test_a_session_is_a_number_and_no_id_is_in_the_bytes_of_the_file(database: Database, store: FolderStore) -> None:
    users = ['q"q7', "a b", "ü", "4711471147114711"]
    at = Month(MONTH).start
    rows = [
        rooms.attempt(user, f"{user} item", at, attempt_id=f"attempt of {user}", session_id=f"session of {user}")
        for user in users
    ]
    rooms.add_attempts(database, [*rows, rooms.attempt(users[0], "alone", at, session_id=None)])
    snapshot, _ = take_snapshot(database, store, MONTH, None)
    table = read_snapshot(store, snapshot)
    sessions = table.filter(pc.match_substring(table["item_id"], " item"))["session"]
    assert (len(sessions.unique()), sessions.null_count) == (len(users), 0)
    assert table.filter(pc.equal(table["item_id"], "alone"))["session"].to_pylist() == [None]
    texts = [name for name in table.column_names if pa.types.is_string(table[name].type) and name != "item_id"]
    for named in (*users, "attempt of", "session of"):
        assert not any(pc.any(pc.match_substring(table[name], named)).as_py() for name in texts)
        assert f"of {named}".encode() not in store.get(snapshot.uri)


def test_the_same_answers_give_the_same_hash_and_one_row(database: Database, store: FolderStore) -> None:
    first, _ = take_snapshot(database, store, MONTH, "one")
    second, _ = take_snapshot(database, store, MONTH, "two")
    assert second == first
    assert state(database) == [(first.snapshot_hash, True)]


def test_a_snapshot_of_changed_rules_supersedes_and_does_not_delete(database: Database, store: FolderStore) -> None:
    first, _ = take_snapshot(database, store, MONTH, None)
    change_rules(database, rooms.SCALE, {"min_responses": 10_000})
    second, _ = take_snapshot(database, store, MONTH, None)
    assert second.snapshot_hash != first.snapshot_hash
    assert second.data_hash == first.data_hash
    assert state(database) == [(first.snapshot_hash, False), (second.snapshot_hash, True)]
    assert snapshot_problem(store, first) is None
    with database.connect() as connection:
        assert current_snapshot(connection, MONTH) == second


def test_a_snapshot_taken_as_before_comes_back_into_use(database: Database, store: FolderStore) -> None:
    first, _ = take_snapshot(database, store, MONTH, None)
    change_rules(database, rooms.SCALE, {"min_responses": 10_000})
    second, _ = take_snapshot(database, store, MONTH, None)
    change_rules(database, rooms.SCALE, {"min_responses": rooms.LOWERED["min_responses"]})
    take_snapshot(database, store, MONTH, None)
    assert dict(state(database)) == {first.snapshot_hash: True, second.snapshot_hash: False}


def test_a_file_that_was_changed_is_named(world: Settings, store: FolderStore) -> None:
    snapshot, _ = take_snapshot(Database(world), store, MONTH, None)
    store.put(snapshot.uri, store.get(snapshot.uri) + b"x")
    assert snapshot.uri in (snapshot_problem(store, snapshot) or "")
    with pytest.raises(PermanentFailure, match=f"(?s){snapshot.uri}.*materialise scored_responses of {MONTH} again"):
        read_snapshot(store, snapshot)


def test_a_file_that_is_gone_is_named(world: Settings, store: FolderStore) -> None:
    snapshot, _ = take_snapshot(Database(world), store, MONTH, None)
    store.delete(snapshot.uri)
    with pytest.raises(PermanentFailure, match=f"{snapshot.uri} is missing"):
        read_snapshot(store, snapshot)


def test_a_month_without_attempts_is_a_permanent_failure_that_says_so(world: Settings, database: Database) -> None:
    with pytest.raises(PermanentFailure, match=r"2026-05 has no attempts.*irt import attempts"):
        take_snapshot(database, rooms.folder_store(world), "2026-05", None)
    assert rooms.rows(database, "SELECT * FROM scored_snapshot") == []


def test_a_full_disk_leaves_the_earlier_snapshot_in_use(
    world: Settings, database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = take_snapshot(database, store, MONTH, None)
    change_rules(database, rooms.SCALE, {"min_responses": 10_000})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(PermanentFailure, match="disk is full"):
        take_snapshot(database, store, MONTH, None)
    assert state(database) == [(first.snapshot_hash, True)]
    files = [path for path in Path(FolderStore(world.irt_home / "objects").root).rglob("*") if path.is_file()]
    assert [path.stem for path in files] == [first.snapshot_hash]


def test_a_rule_that_a_release_does_not_know_neither_stops_it_nor_is_lost(world: Settings) -> None:
    """A scale keeps what differs from the defaults, and what a later release has set."""
    database, kept = Database(world), "SELECT rules - %s::text[] FROM calibration_scale"
    rooms.run_sql(database, """UPDATE calibration_scale SET rules = rules || '{"of_a_later_release": 1}'""")
    found = []
    for value in (0.08, 0.05):  # another one, and the default again
        change_rules(database, rooms.SCALE, {"max_rmsd": value})
        with database.connect() as connection:
            found.append(read_scales(connection)[rooms.SCALE].rules.publication.max_rmsd)
        found.append(rooms.rows(database, kept, ([*rooms.LOWERED, "latent", "new_misfit"],)))
    rooms.run_sql(database, "UPDATE calibration_scale SET rules = rules - 'of_a_later_release'")
    assert found == [
        0.08,
        [({"of_a_later_release": 1, "max_rmsd": 0.08},)],
        0.05,
        [({"of_a_later_release": 1},)],
    ]
