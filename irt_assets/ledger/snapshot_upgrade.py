"""Snapshots that earlier releases wrote with the ids of learners, written again with their keys.

Rows go on citing a snapshot by the hash under which it was taken, and find the new file through its address, whose name
is the new hash. What does not belong here: the columns of a file (see `responses.window`).
"""

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from irt_assets.ledger.citations import cited_names
from irt_assets.responses.erased import names_of_erased
from irt_assets.responses.facts import KEY
from irt_assets.responses.snapshot import CALIBRATION_COLUMNS, FORMER_KEY, with_scores_of
from irt_assets.responses.snapshot_files import (
    Manifest,
    Part,
    SpoiltSnapshotError,
    columns_of,
    hash_in,
    is_manifest,
    read_manifest,
    store_manifest,
    store_parquet,
)
from irt_assets.responses.window import without_ids
from resources.files.object_store import ObjectStore
from resources.files.s3_failures import NothingThere
from resources.files.stored_copies import open_hashed
from resources.postgres.database import Database, first_column, one_value

POOLED = "recalibration"
"""The folder of files over several months, in which a learner of each month is a person: `2026-09/u1`."""
MONTH_AND_SLASH = 8


def replace_ids(database: Database, store: ObjectStore) -> tuple[int, list[str]]:
    """Write every snapshot that names learners by id again with their keys, and delete the former files. Returns the
    number of new files, and the files that are cited but missing or spoilt, which stay as they are.

    Interrupted at any point, it is repeated: a row cites the former file or the new one, and both are there. The caller
    makes sure that nobody else does this meanwhile.
    """
    with database.connect() as connection:
        seen = {*first_column(connection, "SELECT new_hash FROM snapshot_rewrite")}
        cited = [uri for uri in cited_names(connection, "snapshots") if hash_in(uri) not in seen]
    written, left = 0, []
    for uri in cited:
        try:
            former = _names_ids(store, uri)
        except (NothingThere, SpoiltSnapshotError, pa.ArrowException):
            left.append(uri)
            continue
        with database.connect() as connection:
            new = _write_again(connection, store, uri) if former else uri
            _cite(connection, uri, new)
        written += former
    with database.connect() as connection:
        kept = {*cited_names(connection, "snapshots")}
    for uri in [uri for uri in kept if is_manifest(uri) and uri not in left]:
        kept |= {part.key for part in read_manifest(uri, store.get(uri)).parts}
    for key in sorted({key for key, _ in store.list("snapshots")} - kept):
        if _names_ids(store, key):
            store.delete(key)
    return written, left


def _names_ids(store: ObjectStore, key: str) -> bool:
    """Whether a file has a column of learners' ids."""
    if is_manifest(key):
        return FORMER_KEY in dict(read_manifest(key, store.get(key)).columns)
    with open_hashed(store, key, keep=False)[0] as file:
        return FORMER_KEY in pq.read_schema(file).names


def _write_again(connection: psycopg.Connection, store: ObjectStore, uri: str) -> str:
    """Store a snapshot with keys. Returns its address."""
    folder = uri.removeprefix("snapshots/").rpartition("/")[0]
    if not is_manifest(uri):
        return store_parquet(store, folder, _with_keys(connection, store, uri)).key
    former = read_manifest(uri, store.get(uri))
    parts: list[Part] = []
    columns = former.columns
    for part in former.parts:
        table = _with_keys(connection, store, part.key)
        key, digest, size = store_parquet(store, folder, table)
        columns = columns_of(table.schema)
        parts.append(part.model_copy(update={"key": key, "sha256": digest, "bytes": size}))
    return store_manifest(store, folder, Manifest.over(former.month, parts, columns, former.mark))[0]


def _with_keys(connection: psycopg.Connection, store: ObjectStore, key: str) -> pa.Table:
    with open_hashed(store, key, keep=False)[0] as file:
        table = pq.read_table(file)
    users = table[FORMER_KEY].cast(pa.string())
    if key.split("/")[1] == POOLED:
        keys = _keys_of(connection, pc.utf8_slice_codeunits(users, MONTH_AND_SLASH)).cast(pa.string())
        month = pc.utf8_slice_codeunits(users, 0, MONTH_AND_SLASH)
        named = table.append_column(KEY, pc.binary_join_element_wise(month, keys, ""))
        return named.select(with_scores_of(named.column_names, CALIBRATION_COLUMNS))
    named = table.append_column(KEY, _keys_of(connection, users))
    return without_ids(named.sort_by([(name, "ascending") for name in (KEY, "completed_at", "attempt_id")]))


def _keys_of(connection: psycopg.Connection, users: pa.ChunkedArray) -> pa.ChunkedArray:
    """The key of each answer's learner. A learner without a row gets one, or a key alone if erased."""
    ids = users.unique()
    erased = names_of_erased(connection)
    missing = [
        user
        for (user,) in connection.execute(
            "SELECT u FROM unnest(%s::text[]) u WHERE NOT EXISTS (SELECT FROM learner WHERE user_id = u) ORDER BY 1",
            (ids.to_pylist(),),
        )
    ]
    known = [user for user in missing if not erased(user)]
    connection.execute("INSERT INTO learner (user_id) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", (known,))
    found: dict[str, int] = dict(
        connection.execute(
            "SELECT user_id, learner_key FROM learner WHERE user_id = ANY(%s)", (ids.to_pylist(),)
        ).fetchall()
    )
    for user in set(missing) - set(known):
        found[user] = one_value(connection, "SELECT hashtextextended(gen_random_uuid()::text, 0) & 9223372036854775807")
    keys = pa.array([found[user] for user in ids.to_pylist()], pa.int64())
    return keys.take(pc.index_in(users, ids).combine_chunks())


def _cite(connection: psycopg.Connection, former: str, new: str) -> None:
    """Let every row that cites the former file cite the new one, and record both hashes, which are equal if the former
    file names nobody."""
    connection.execute("UPDATE scored_snapshot SET uri = %s WHERE uri = %s", (new, former))
    for table, column in (("mirt_fit_meta", "model_spec"), ("fit_staging", "spec")):
        connection.execute(
            f"""UPDATE {table} SET {column} = jsonb_set({column}, '{{snapshot}}', to_jsonb(%s::text))
                WHERE {column}->>'snapshot' = %s""".encode(),
            (new, former),
        )
    connection.execute(
        "INSERT INTO snapshot_rewrite (old_hash, new_hash) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (hash_in(former), hash_in(new)),
    )
