"""A snapshot as a manifest over parts: read as one file is, and refused, erased, pruned and backed up by its parts."""

from __future__ import annotations

import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from irt_assets.backup.cited import cited_files
from irt_assets.calibration.month import fit_month
from irt_assets.engines.em import EmEngine
from irt_assets.responses.snapshot import (
    Snapshot,
    current_snapshot,
    read_learners_of,
    read_snapshot,
    snapshot_problem,
    take_snapshot,
)
from irt_assets.responses.snapshot_files import Manifest, Part, columns_of, read_manifest, store_manifest, store_parquet
from jobs.retention.unused import prune_files
from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms

MONTH = rooms.MONTHS[0]
FOLDER = f"scored_responses/{MONTH}"
N_PARTS = 3


@pytest.fixture
def settings(world: Settings) -> Settings:
    """Database and store of a test are those of `world`."""
    return world


def in_parts(database: Database, store: FolderStore) -> tuple[Snapshot, Snapshot]:
    """The month's snapshot as one file, and the same as parts, which is the month's from then on."""
    whole, _ = take_snapshot(database, store, MONTH, None)
    table = read_snapshot(store, whole)
    learner = pc.rank(table["learner_key"], tiebreaker="dense").to_numpy()
    parts = [stored_part(store, table.filter(pa.array(learner % N_PARTS == n))) for n in range(N_PARTS)]
    key, digest = store_manifest(store, FOLDER, Manifest.over(MONTH, parts, columns_of(table.schema)))
    rooms.run_sql(
        database, "UPDATE scored_snapshot SET snapshot_hash = %s, uri = %s WHERE month = %s", (digest, key, MONTH)
    )
    with database.connect() as connection:
        found = current_snapshot(connection, MONTH)
    return whole, found


def stored_part(store: FolderStore, table: pa.Table) -> Part:
    key, digest, size = store_parquet(store, FOLDER, table)
    return Part(key=key, sha256=digest, rows=table.num_rows, bytes=size, sums=("0", "0"))


def manifest_of(store: FolderStore, snapshot: Snapshot) -> Manifest:
    return read_manifest(snapshot.uri, store.get(snapshot.uri))


def with_part(store: FolderStore, snapshot: Snapshot, table: pa.Table, **said: Any) -> Snapshot:
    """The snapshot with a manifest whose first part is `table`, of which the manifest says what it said before."""
    manifest = manifest_of(store, snapshot)
    key, digest, size = store_parquet(store, FOLDER, table)
    first = manifest.parts[0].model_copy(update={"key": key, "sha256": digest, "bytes": size, **said})
    changed = manifest.model_copy(update={"parts": (first, *manifest.parts[1:])})
    uri, snapshot_hash = store_manifest(store, FOLDER, changed)
    return Snapshot(**vars(snapshot) | {"uri": uri, "snapshot_hash": snapshot_hash})


def part_table(store: FolderStore, part: Part) -> pa.Table:
    return pq.read_table(io.BytesIO(store.get(part.key)))


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([("row", "ascending")]).combine_chunks()


def test_parts_are_read_as_one_file_is(database: Database, store: FolderStore) -> None:
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


def test_a_fit_of_parts_is_that_of_the_file(database: Database, store: FolderStore) -> None:
    take_snapshot(database, store, MONTH, None)
    fits = "SELECT md5(calibration) FROM fit_staging ORDER BY fitted_at"
    fit_month(database, store, MONTH, EmEngine(1), None)
    in_parts(database, store)
    fit_month(database, store, MONTH, EmEngine(1), None)
    first, second = rooms.rows(database, fits)
    assert first == second


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda store, part: store.delete(part.key), "{part} of the snapshot of {month} is missing"),
        (lambda store, part: store.put(part.key, b"x"), "{part} of the snapshot of {month} has sha256"),
    ],
    ids=["missing", "corrupt"],
)
def test_a_part_that_is_gone_or_changed_is_named(
    world: Settings, store: FolderStore, spoil: Any, sentence: str
) -> None:
    _, snapshot = in_parts(Database(world), store)
    part = manifest_of(store, snapshot).parts[1]
    spoil(store, part)
    why = sentence.format(part=part.key, month=MONTH)
    assert why in (snapshot_problem(store, snapshot) or "")
    for read in (read_snapshot, lambda *of: read_learners_of(*of, rooms.SCALE, "i")):
        with pytest.raises(PermanentFailure, match=f"(?s){why}.*materialise scored_responses of {MONTH} again"):
            read(store, snapshot)


def test_a_part_of_other_columns_rows_or_form_is_refused(world: Settings, store: FolderStore) -> None:
    _, snapshot = in_parts(Database(world), store)
    table = part_table(store, manifest_of(store, snapshot).parts[0])
    place = table.schema.get_field_index("response_time_ms")
    other = table.set_column(place, "response_time_ms", table["response_time_ms"].cast(pa.float64()))
    for spoilt, why in (
        (other, "column response_time_ms as double, and the manifest says int64"),
        (table.drop_columns(["score"]), "lacks the column score"),
        (table.append_column("more", table["score"]), "columns that the manifest does not name: more"),
        (table.slice(1), "rows, and the manifest says"),
    ):
        assert why in (snapshot_problem(store, with_part(store, snapshot, spoilt)) or "")
    key = f"snapshots/{FOLDER}/no_parquet"
    store.put(key, b"no parquet")
    text = with_part(store, snapshot, table, key=key, sha256=hashlib.sha256(b"no parquet").hexdigest())
    assert "is not a Parquet file" in (snapshot_problem(store, text) or "")


def test_learners_in_two_parts_are_refused(world: Settings, store: FolderStore) -> None:
    _, snapshot = in_parts(Database(world), store)
    first, second, _ = (part_table(store, part) for part in manifest_of(store, snapshot).parts)
    n = first.num_rows
    doubled = with_part(store, snapshot, pa.concat_tables([first.slice(1), second.slice(0, 1)]), rows=n)
    with pytest.raises(PermanentFailure, match="share 1 learners"):
        read_snapshot(store, doubled)


def test_a_manifest_that_does_not_add_up_or_is_of_a_later_format_is_refused(
    world: Settings, store: FolderStore
) -> None:
    _, snapshot = in_parts(Database(world), store)
    said = json.loads(store.get(snapshot.uri))
    for change, why in (
        ({"rows": 1}, "do not add up"),
        ({"data_hash": "v2:other"}, "do not add up"),
        ({"parts": said["parts"] * 2}, "names a part twice"),
        ({"format": 2}, "has format 2, and this code reads 1: install the newer irt-assets"),
        ({"parts": None}, "is not a manifest"),
    ):
        content = json.dumps(said | change).encode()
        uri = f"snapshots/{FOLDER}/{hashlib.sha256(content).hexdigest()}.json"
        store.put(uri, content)
        spoilt = Snapshot(**vars(snapshot) | {"uri": uri})
        assert why in (snapshot_problem(store, spoilt) or "")


def test_pruning_keeps_the_parts_of_cited_manifests_and_no_others(database: Database, store: FolderStore) -> None:
    whole, snapshot = in_parts(database, store)
    table = part_table(store, manifest_of(store, snapshot).parts[0])
    left = store_parquet(store, FOLDER, table.slice(1))[0]
    later = datetime.now(UTC) + timedelta(days=2)
    assert set(prune_files(database, store, later, dry_run=False).names) == {whole.uri, left}
    assert snapshot_problem(store, snapshot) is None
    store.delete(snapshot.uri)
    assert prune_files(database, store, later, dry_run=False).names == (), "a manifest that is gone may come back"
    rooms.run_sql(database, "DELETE FROM scored_snapshot")
    assert len(prune_files(database, store, later, dry_run=False).names) == N_PARTS
    assert [*store.list("snapshots")] == []


def test_a_backup_lists_the_parts(database: Database, store: FolderStore) -> None:
    _, snapshot = in_parts(database, store)
    with database.connect() as connection:
        listed = {one.key: one for one in cited_files(connection, store)}
    parts = manifest_of(store, snapshot).parts
    assert listed.keys() == {snapshot.uri, *(part.key for part in parts)}
    assert all((listed[part.key].sha256, listed[part.key].size) == (part.sha256, part.bytes) for part in parts)
    store.delete(parts[0].key)
    with database.connect() as connection:
        assert [one.key for one in cited_files(connection, store) if one.size is None] == [parts[0].key]
