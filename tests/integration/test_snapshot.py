"""A month's snapshot: its contents, and snapshots that are repeated, damaged or cannot be written."""

from __future__ import annotations

import errno
import hashlib
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from irt_assets.backup.cited_files import cited_files
from irt_assets.calibration.month import fit_month
from irt_assets.common.partitions import Month
from irt_assets.engines.em import EmEngine
from irt_assets.responses.snapshot import (
    Snapshot,
    current_snapshot,
    read_learners_of,
    read_snapshot,
    snapshot_problem,
    take_snapshot,
)
from irt_assets.responses.snapshot_files import (
    Part,
    SnapshotManifest,
    columns_of,
    read_manifest,
    store_manifest,
    store_parquet,
)
from irt_assets.scales.scale import change_rules, read_scales
from irt_assets.simulation.truth import Truth
from jobs.retention.unused import prune_files
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.sentences import missing_sentences, refusal

MONTH = rooms.MONTHS[0]


@pytest.fixture
def settings(world: Settings) -> Settings:
    """Let a test use the database and the store of `world`."""
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
    """The test compares a sum, because the count of rapid guesses may differ: some planted guesses are slower than the
    limit, and some honest answers faster. All answers are read, even if they arrived weeks late."""
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


def test_file_contains_every_attempt_of_the_month_with_its_reason(database: Database, store: FolderStore) -> None:
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


def test_sessions_are_numbers_and_the_files_bytes_contain_no_id(database: Database, store: FolderStore) -> None:
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


def test_snapshot_by_changed_rules_supersedes_and_snapshot_by_former_rules_is_reused(
    database: Database, store: FolderStore
) -> None:
    first, _ = take_snapshot(database, store, MONTH, "one")
    assert take_snapshot(database, store, MONTH, "two")[0] == first, "the same answers"
    change_rules(database, rooms.SCALE, {"min_responses": 10_000})
    second, _ = take_snapshot(database, store, MONTH, None)
    assert (second.snapshot_hash != first.snapshot_hash, second.data_hash) == (True, first.data_hash)
    assert state(database) == [(first.snapshot_hash, False), (second.snapshot_hash, True)]
    assert (snapshot_problem(store, first), rooms.call(database, current_snapshot, MONTH)) == (None, second)
    change_rules(database, rooms.SCALE, {"min_responses": rooms.LOWERED["min_responses"]})
    take_snapshot(database, store, MONTH, None)
    assert dict(state(database)) == {first.snapshot_hash: True, second.snapshot_hash: False}


def test_snapshot_of_a_month_without_attempts_fails_permanently_with_the_reason(
    world: Settings, database: Database
) -> None:
    assert not missing_sentences(
        refusal(take_snapshot, database, rooms.folder_store(world), "2026-05", None),
        "2026-05 has no attempts",
        "irt import attempts",
    )
    assert rooms.rows(database, "SELECT * FROM scored_snapshot") == []


def test_a_full_disk_leaves_the_earlier_snapshot_in_use(
    world: Settings, database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = take_snapshot(database, store, MONTH, None)
    change_rules(database, rooms.SCALE, {"min_responses": 10_000})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "disk is full" in refusal(take_snapshot, database, store, MONTH, None)
    assert state(database) == [(first.snapshot_hash, True)]
    files = [path for path in Path(FolderStore(world.irt_home / "objects").root).rglob("*") if path.is_file()]
    assert [path.stem for path in files] == [first.snapshot_hash]


def test_rule_of_a_later_release_is_ignored_and_kept(world: Settings) -> None:
    """A scale stores only the rules that differ from the defaults, and rules set by a later release."""
    database, kept = Database(world), "SELECT rules - %s::text[] FROM calibration_scale"
    rooms.run_sql(database, """UPDATE calibration_scale SET rules = rules || '{"of_a_later_release": 1}'""")
    found = []
    for value in (0.08, 0.05):  # another value, then the default
        change_rules(database, rooms.SCALE, {"max_rmsd": value})
        found.append(rooms.call(database, read_scales)[rooms.SCALE].rules.publication.max_rmsd)
        found.append(rooms.rows(database, kept, ([*rooms.LOWERED, "latent", "new_misfit"],)))
    rooms.run_sql(database, "UPDATE calibration_scale SET rules = rules - 'of_a_later_release'")
    assert found == [
        0.08,
        [({"of_a_later_release": 1, "max_rmsd": 0.08},)],
        0.05,
        [({"of_a_later_release": 1},)],
    ]


# -- in parts ----------------------------------------------------------------------------------------
# A snapshot as a manifest over parts: read as one file is, and refused, erased, pruned and backed up by its parts.

FOLDER = f"scored_responses/{MONTH}"
N_PARTS = 3


def in_parts(database: Database, store: FolderStore) -> tuple[Snapshot, Snapshot]:
    """The month's snapshot as one file, and the same as parts, which is the month's from then on."""
    whole, _ = take_snapshot(database, store, MONTH, None)
    table = read_snapshot(store, whole)
    learner = pc.rank(table["learner_key"], tiebreaker="dense").to_numpy()
    parts = [stored_part(store, table.filter(pa.array(learner % N_PARTS == n))) for n in range(N_PARTS)]
    key, digest = store_manifest(store, FOLDER, SnapshotManifest.from_parts(MONTH, parts, columns_of(table.schema)))
    rooms.run_sql(
        database, "UPDATE scored_snapshot SET snapshot_hash = %s, uri = %s WHERE month = %s", (digest, key, MONTH)
    )
    found = rooms.call(database, current_snapshot, MONTH)
    return whole, found


def stored_part(store: FolderStore, table: pa.Table) -> Part:
    key, digest, size = store_parquet(store, FOLDER, table)
    return Part(key=key, sha256=digest, rows=table.num_rows, bytes=size, sums=("0", "0"))


def manifest_of(store: FolderStore, snapshot: Snapshot) -> SnapshotManifest:
    return read_manifest(snapshot.uri, store.get(snapshot.uri))


def with_part(store: FolderStore, snapshot: Snapshot, table: pa.Table, **changes: Any) -> Snapshot:
    """The snapshot with a manifest whose first part is `table`; the manifest's entry for this part is unchanged."""
    manifest = manifest_of(store, snapshot)
    key, digest, size = store_parquet(store, FOLDER, table)
    first = manifest.parts[0].model_copy(update={"key": key, "sha256": digest, "bytes": size, **changes})
    changed = manifest.model_copy(update={"parts": (first, *manifest.parts[1:])})
    uri, snapshot_hash = store_manifest(store, FOLDER, changed)
    return Snapshot(**vars(snapshot) | {"uri": uri, "snapshot_hash": snapshot_hash})


def part_table(store: FolderStore, part: Part) -> pa.Table:
    return pq.read_table(io.BytesIO(store.get(part.key)))


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([("row", "ascending")]).combine_chunks()


def test_parts_are_read_like_a_single_file(database: Database, store: FolderStore) -> None:
    whole, parts = in_parts(database, store)
    assert snapshot_problem(store, parts) is None
    assert in_order(read_snapshot(store, parts)).equals(in_order(read_snapshot(store, whole)))
    few = read_snapshot(store, parts, columns=("row", "score"))
    assert few.column_names == ["row", "score"]
    assert in_order(few).equals(in_order(read_snapshot(store, whole).select(few.column_names)))
    item = read_snapshot(store, whole)["item_id"][0].as_py()
    by = [("learner_key", "ascending"), ("item_id", "ascending")]
    found, expected = (read_learners_of(store, one, rooms.SCALE, item).sort_by(by) for one in (parts, whole))
    assert found.num_rows > 0
    assert found.combine_chunks().equals(expected.combine_chunks())
    assert read_learners_of(store, parts, rooms.SCALE, "no item").num_rows == 0


def test_fit_of_parts_equals_the_fit_of_the_file(database: Database, store: FolderStore) -> None:
    take_snapshot(database, store, MONTH, None)
    fits = "SELECT md5(calibration) FROM fit_staging ORDER BY fitted_at"
    fit_month(database, store, MONTH, EmEngine(1), None)
    in_parts(database, store)
    fit_month(database, store, MONTH, EmEngine(1), None)
    first, second = rooms.rows(database, fits)
    assert first == second


@pytest.mark.parametrize("parts", [False, True], ids=["one file", "in parts"])
@pytest.mark.parametrize(
    ("spoil", "problem"), [(FolderStore.delete, "is missing"), (partial(FolderStore.put, data=b"x"), "has sha256")]
)
def test_missing_or_changed_file_or_part_is_named(
    world: Settings, store: FolderStore, spoil: Callable[[FolderStore, str], object], problem: str, parts: bool
) -> None:
    whole, in_pieces = in_parts(Database(world), store)
    snapshot = in_pieces if parts else whole
    key = manifest_of(store, snapshot).parts[1].key if parts else whole.uri
    spoil(store, key)
    assert not missing_sentences(snapshot_problem(store, snapshot) or "", key, problem)
    for read in (read_snapshot, lambda *arguments: read_learners_of(*arguments, rooms.SCALE, "i")):
        assert not missing_sentences(
            refusal(read, store, snapshot), key, problem, f"materialise scored_responses of {MONTH} again"
        )


def test_part_with_unexpected_columns_rows_or_format_is_refused(world: Settings, store: FolderStore) -> None:
    _, snapshot = in_parts(Database(world), store)
    table = part_table(store, manifest_of(store, snapshot).parts[0])
    index = table.schema.get_field_index("response_time_ms")
    other = table.set_column(index, "response_time_ms", table["response_time_ms"].cast(pa.float64()))
    for spoilt, reason in (
        (other, "column response_time_ms as double, but the manifest lists it as int64"),
        (table.drop_columns(["score"]), "lacks the column score"),
        (table.append_column("more", table["score"]), "columns that the manifest does not list: more"),
        (table.slice(1), "rows, but the manifest lists"),
    ):
        assert reason in (snapshot_problem(store, with_part(store, snapshot, spoilt)) or "")
    key = f"snapshots/{FOLDER}/no_parquet"
    store.put(key, b"no parquet")
    text = with_part(store, snapshot, table, key=key, sha256=hashlib.sha256(b"no parquet").hexdigest())
    assert "is not a Parquet file" in (snapshot_problem(store, text) or "")


def test_learners_in_two_parts_are_refused(world: Settings, store: FolderStore) -> None:
    _, snapshot = in_parts(Database(world), store)
    first, second, _ = (part_table(store, part) for part in manifest_of(store, snapshot).parts)
    n = first.num_rows
    doubled = with_part(store, snapshot, pa.concat_tables([first.slice(1), second.slice(0, 1)]), rows=n)
    assert "share 1 learners" in refusal(read_snapshot, store, doubled)


def test_inconsistent_manifest_or_manifest_of_a_later_format_is_refused(world: Settings, store: FolderStore) -> None:
    _, snapshot = in_parts(Database(world), store)
    manifest = json.loads(store.get(snapshot.uri))
    for change, reason in (
        ({"rows": 1}, "do not add up"),
        ({"data_hash": "v2:other"}, "do not add up"),
        ({"parts": manifest["parts"] * 2}, "a part is listed twice"),
        ({"format": 2}, "has format 2, and this code reads 1: install the newer irt-assets"),
        ({"parts": None}, "is not a manifest"),
    ):
        content = json.dumps(manifest | change).encode()
        uri = f"snapshots/{FOLDER}/{hashlib.sha256(content).hexdigest()}.json"
        store.put(uri, content)
        spoilt = Snapshot(**vars(snapshot) | {"uri": uri})
        assert reason in (snapshot_problem(store, spoilt) or "")


def test_prune_keeps_only_the_parts_of_cited_manifests(database: Database, store: FolderStore) -> None:
    whole, snapshot = in_parts(database, store)
    table = part_table(store, manifest_of(store, snapshot).parts[0])
    remaining = store_parquet(store, FOLDER, table.slice(1))[0]
    later = datetime.now(UTC) + timedelta(days=2)
    assert set(prune_files(database, store, later, dry_run=False).names) == {whole.uri, remaining}
    assert snapshot_problem(store, snapshot) is None
    store.delete(snapshot.uri)
    assert prune_files(database, store, later, dry_run=False).names == (), "a manifest that is gone may come back"
    rooms.run_sql(database, "DELETE FROM scored_snapshot")
    assert len(prune_files(database, store, later, dry_run=False).names) == N_PARTS
    assert [*store.list("snapshots")] == []


def test_backup_lists_the_parts(database: Database, store: FolderStore) -> None:
    _, snapshot = in_parts(database, store)
    listed = {one.key: one for one in rooms.call(database, cited_files, store)}
    parts = manifest_of(store, snapshot).parts
    assert listed.keys() == {snapshot.uri, *(part.key for part in parts)}
    assert all((listed[part.key].sha256, listed[part.key].size) == (part.sha256, part.bytes) for part in parts)
    store.delete(parts[0].key)
    assert [one.key for one in rooms.call(database, cited_files, store) if one.size is None] == [parts[0].key]
