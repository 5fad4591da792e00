"""Files that named learners by id are written again with keys, and what cites them finds them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from irt_assets.common.partitions import Month
from irt_assets.ledger import snapshot_upgrade
from irt_assets.ledger.snapshot_upgrade import replace_ids
from irt_assets.responses.erased import begin
from irt_assets.responses.facts import FACTS, SCORES
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import (
    Snapshot,
    current_snapshot,
    read_snapshot,
    snapshot_problem,
    take_snapshot,
    user_ids_of,
)
from irt_assets.responses.snapshot_files import Manifest, Part, columns_of, store_manifest, store_parquet
from irt_assets.responses.stored_window import stored_window
from irt_assets.responses.verdicts import judge_differing
from irt_assets.responses.window import FILE, scored_responses_of
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms

MONTH = rooms.MONTHS[0]
FOLDER = f"scored_responses/{MONTH}"


IDS = {"row": "attempt_id", "learner_key": "user_id", "session": "session_id"}
FORMER = [IDS.get(name, name) for name in FILE if name not in (*SCORES, "reason", "score")]
"""Columns of attempts in the files of earlier releases."""


@pytest.fixture
def settings(world: Settings) -> Settings:
    """Database and store of a test are those of `world`."""
    return world


def former_rows(database: Database) -> pa.Table:
    """The month's attempts as earlier releases stored them: by learner's id, with the ids of attempts and sessions."""
    start, end = Month(MONTH).bounds
    judge_differing(database, start.date(), end.date())
    with database.connect() as connection:
        table = stored_window(connection, start, end, read_scales(connection)).table
        users = user_ids_of(connection, table["learner_key"].to_numpy())
    table = table.append_column("user_id", pa.array(users))
    for name in FACTS:
        table = table.append_column(name, pa.repeat(False, table.num_rows))
    table = table.select([*FORMER, "reason", "score"])
    kinds = [(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in table.schema]
    by = [(name, "ascending") for name in ("user_id", "completed_at", "attempt_id")]
    return table.cast(pa.schema(kinds)).sort_by(by)


def taken(database: Database, store: FolderStore) -> Snapshot:
    """The month's snapshot."""
    return take_snapshot(database, store, MONTH, None)[0]


def current(database: Database) -> Snapshot:
    with database.connect() as connection:
        found = current_snapshot(connection, MONTH)
    assert found is not None
    return found


def cite(database: Database, uri: str, digest: str) -> Snapshot:
    rooms.run_sql(database, "UPDATE scored_snapshot SET (snapshot_hash, uri) = (%s, %s)", (digest, uri))
    return current(database)


def test_a_former_file_becomes_one_without_ids_and_is_found_under_its_hash(
    database: Database, store: FolderStore
) -> None:
    now = taken(database, store)
    store.delete(now.uri)
    old = store_parquet(store, FOLDER, former_rows(database))
    before = cite(database, old.key, old.sha256)
    fitted = scored_responses_of(read_snapshot(store, before), rooms.SCALE)[0]  # former files are read until then
    assert replace_ids(database, store) == (1, [])
    after = current(database)
    assert after.snapshot_hash == old.sha256
    assert [name for name, _ in store.list("snapshots")] == [after.uri]
    assert snapshot_problem(store, after) is None
    assert scored_responses_of(read_snapshot(store, after), rooms.SCALE)[0].n_responses == fitted.n_responses
    [(former, new)] = rooms.rows(database, "SELECT old_hash, new_hash FROM snapshot_rewrite")
    assert (former, new in after.uri) == (old.sha256, True)
    assert replace_ids(database, store) == (0, [])


@pytest.mark.parametrize(("of", "last"), [(snapshot_upgrade, "_cite"), (FolderStore, "delete")])
def test_an_interrupted_upgrade_is_repeated(
    of: object, last: str, database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_key = taken(database, store)
    old = store_parquet(store, FOLDER, former_rows(database))
    before = cite(database, old.key, old.sha256)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(of, last, dies)
    with pytest.raises(KeyboardInterrupt):
        replace_ids(database, store)
    monkeypatch.undo()
    assert snapshot_problem(store, current(database)) is None
    assert replace_ids(database, store) == (last == "_cite", [])
    after = current(database)
    assert (after.snapshot_hash, snapshot_problem(store, after)) == (before.snapshot_hash, None)
    assert {name for name, _ in store.list("snapshots")} == {by_key.uri, after.uri}


def test_parts_and_files_over_several_months_are_written_again_and_a_lost_file_is_named(
    database: Database, store: FolderStore
) -> None:
    rows = former_rows(database)
    taken(database, store)
    even = pa.array([int(user[-1], 36) % 2 == 0 for user in rows["user_id"].to_pylist()])
    parts = []
    for table in (rows.filter(even), rows.filter(pc.invert(even))):
        key, digest, size = store_parquet(store, FOLDER, table)
        parts.append(Part(key=key, sha256=digest, rows=table.num_rows, bytes=size, sums=("1", "2")))
    before = cite(database, *store_manifest(store, FOLDER, Manifest.over(MONTH, parts, columns_of(rows.schema))))
    person = pc.binary_join_element_wise(MONTH, rows["user_id"], "/")
    pooled = store_parquet(store, f"recalibration/{rooms.SCALE}", rows.set_column(1, "user_id", person))
    uris = [pooled.key, f"snapshots/{FOLDER}/{'0' * 64}.parquet"]
    for n, uri in enumerate(uris):
        rooms.run_sql(
            database,
            """INSERT INTO fit_staging (fit_id, month, scale_id, engine, snapshot_hash, spec, code_version, fitted_at)
               VALUES (%s, %s, 's', 'em', 'x', jsonb_build_object('snapshot', %s::text), '1', now())""",
            (f"f{n}", MONTH, uri),
        )
    assert replace_ids(database, store) == (2, [uris[1]])
    after = current(database)
    assert (after.snapshot_hash, snapshot_problem(store, after)) == (before.snapshot_hash, None)
    found = read_snapshot(store, after)
    assert (found.num_rows, "user_id" in found.column_names) == (rows.num_rows, False)
    ((cited,),) = rooms.rows(database, "SELECT spec->>'snapshot' FROM fit_staging WHERE fit_id = 'f0'")
    persons = read_snapshot(store, Snapshot("", "", cited, "", 0, {}, {}))["learner_key"].unique().to_pylist()
    keys = rooms.rows(database, "SELECT learner_key FROM learner JOIN response_log USING (user_id)")
    assert set(persons) <= {f"{MONTH}/{key}" for (key,) in keys}
    assert len(persons) == len(rows["user_id"].unique())


def test_a_learner_without_a_row_gets_one_and_an_erased_one_a_key_alone(database: Database, store: FolderStore) -> None:
    taken(database, store)
    rows = former_rows(database)
    old = store_parquet(store, FOLDER, rows)
    cite(database, old.key, old.sha256)
    gone, forgotten = rows["user_id"][0].as_py(), rows["user_id"][-1].as_py()
    rooms.run_sql(database, "DELETE FROM learner WHERE user_id = ANY(%s)", ([gone, forgotten],))
    with database.connect() as connection:
        begin(connection, gone, "Kim", "asked to")
    replace_ids(database, store)
    known = rooms.rows(database, "SELECT user_id FROM learner WHERE user_id = ANY(%s)", ([gone, forgotten],))
    assert known == [(forgotten,)]
    assert read_snapshot(store, current(database))["learner_key"].null_count == 0
