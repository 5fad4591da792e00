"""Snapshots: a month's attempts, each with its reason, as one Parquet file stored under its own hash.

A fit names the snapshot it was made from, so what it saw can be read again whatever happens to the log.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from psycopg.rows import class_row

from irt_assets.partitions import month_bounds
from irt_assets.responses.data_versions import data_version, states_of, store_version
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.window import ENCODING, JudgedWindow, encoding_of, judged_window
from resources.database import Database, advisory_lock
from resources.failures import PermanentFailure
from resources.object_store import ObjectStore


@dataclass(frozen=True)
class Snapshot:
    """One row of `scored_snapshot`: where the file is and what is in it."""

    month: str
    snapshot_hash: str
    uri: str
    data_hash: str
    n_attempts: int
    counts: dict[str, dict[str, int]]
    rules: dict[str, dict[str, Any]]


def take_snapshot(
    database: Database, store: ObjectStore, month: str, run_id: str | None
) -> tuple[Snapshot, JudgedWindow]:
    """Judge the month's attempts and store them; the file is in place before the row that names it.

    Raises PermanentFailure where the month has no attempt at all.
    """
    start, end = month_bounds(month)
    with database.connect() as connection:
        advisory_lock(connection, "scored_responses", month)
        scales = read_scales(connection)
        states = states_of(connection, month, scales)
        window = judged_window(connection, start, end, scales)
        if window.table.num_rows == 0:
            raise PermanentFailure(
                f"month {month} has no attempts: import its log with `irt import attempts FILE`, "
                "or materialise another month"
            )
        key, digest = store_attempts(store, f"scored_responses/{month}", window.table)
        snapshot = Snapshot(
            month,
            digest,
            key,
            _hash_as_known(connection, month, scales, window, digest),
            window.table.num_rows,
            {scale: _counts(window, scale) for scale in window.judgements},
            rules_of(scales),
        )
        connection.execute(
            "UPDATE scored_snapshot SET superseded_at = now() WHERE month = %s AND superseded_at IS NULL", (month,)
        )
        connection.execute(
            """
            INSERT INTO scored_snapshot (month, snapshot_hash, uri, data_hash, n_attempts, counts, rules, run_id)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (month, snapshot_hash) DO UPDATE
            SET data_hash = excluded.data_hash, counts = excluded.counts, rules = excluded.rules,
                run_id = excluded.run_id, created_at = now(), superseded_at = NULL
            """,
            (month, digest, key, snapshot.data_hash, snapshot.n_attempts)
            + (json.dumps(snapshot.counts), json.dumps(snapshot.rules), run_id),
        )
        store_version(connection, month, scales, window.data_hash, states)
    return snapshot, window


def _hash_as_known(
    connection: psycopg.Connection, month: str, scales: dict[str, Scale], window: JudgedWindow, digest: str
) -> str:
    """The window's hash in the encoding that the month's snapshot `digest` has already, as fits of it name that."""
    known = snapshot_of(connection, month, digest)
    if known is None or encoding_of(known.data_hash) == ENCODING:
        return window.data_hash
    return data_version(connection, month, scales, encoding_of(known.data_hash))


def current_snapshot(connection: psycopg.Connection, month: str) -> Snapshot | None:
    """The month's snapshot that no later one has replaced."""
    return _snapshot(connection, month, "superseded_at IS NULL")


def snapshot_of(connection: psycopg.Connection, month: str, snapshot_hash: str) -> Snapshot | None:
    """The month's snapshot with this hash, replaced or not."""
    return _snapshot(connection, month, "snapshot_hash = %s", snapshot_hash)


def _snapshot(connection: psycopg.Connection, month: str, which: LiteralString, *values: str) -> Snapshot | None:
    with connection.cursor(row_factory=class_row(Snapshot)) as cursor:
        return cursor.execute(
            f"""SELECT month, snapshot_hash, uri, data_hash, n_attempts, counts, rules
                FROM scored_snapshot WHERE month = %s AND {which}""",
            (month, *values),
        ).fetchone()


def read_snapshot(store: ObjectStore, snapshot: Snapshot, explain: Callable[[str], str] | None = None) -> pa.Table:
    """The attempts of a snapshot. Raises PermanentFailure where the file is gone or is not what was stored.

    `explain` makes the sentence of that failure from what is wrong; without it, it says to score the month again.
    """
    return pq.read_table(_checked(store, snapshot, explain))


def read_learners_of(store: ObjectStore, snapshot: Snapshot, scale_id: str, item_id: str) -> pa.Table:
    """The scored answers to items of a scale by those learners whose answer to `item_id` was scored.

    Raises as `read_snapshot` does. It reads only six columns of the file, and decodes only the texts that it returns.
    """
    texts = ["user_id", "item_id", "scale_id", "form_id", "reason"]
    table = pq.read_table(_checked(store, snapshot), columns=[*texts, "score"], read_dictionary=texts)
    scored = table.filter(pc.is_null(table["reason"])).combine_chunks()
    of_scale = _are(scored["scale_id"], scale_id)
    learners = _numbers_of(scored["user_id"])
    wanted = np.unique(learners[of_scale & _are(scored["item_id"], item_id)])
    found = scored.filter(pa.array(of_scale & np.isin(learners, wanted)))
    return pa.table(
        {
            name: column.cast(pa.string()) if name in texts else column
            for name, column in zip(found.column_names, found.columns, strict=True)
        }
    )


def _are(column: pa.ChunkedArray, text: str) -> npt.NDArray[np.bool_]:
    """Which entries of a column without nulls, encoded as a dictionary, are `text`."""
    encoded = column.combine_chunks()
    code = encoded.dictionary.index(text).as_py()
    return _numbers_of(column) == code


def _numbers_of(column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    return column.combine_chunks().indices.to_numpy()


def _checked(store: ObjectStore, snapshot: Snapshot, explain: Callable[[str], str] | None = None) -> io.BytesIO:
    content = store.get(snapshot.uri) if store.exists(snapshot.uri) else None
    problem = _missing(snapshot) if content is None else _wrong_content(snapshot, hashlib.sha256(content).hexdigest())
    if content is None or problem:
        again = f"{problem}; materialise scored_responses of {snapshot.month} again"
        raise PermanentFailure(explain(str(problem)) if explain else again)
    return io.BytesIO(content)


def snapshot_problem(store: ObjectStore, snapshot: Snapshot) -> str | None:
    """Why the stored file is not the snapshot that was taken; None where it is."""
    if not store.exists(snapshot.uri):
        return _missing(snapshot)
    return _wrong_content(snapshot, store.sha256(snapshot.uri))


def _missing(snapshot: Snapshot) -> str:
    return f"the snapshot {snapshot.uri} is missing from the object store"


def _wrong_content(snapshot: Snapshot, digest: str) -> str | None:
    if digest == snapshot.snapshot_hash:
        return None
    return f"the snapshot {snapshot.uri} has sha256 {digest[:12]}…, not {snapshot.snapshot_hash[:12]}…"


def rules_of(scales: dict[str, Scale]) -> dict[str, dict[str, Any]]:
    """Each scale's settings that differ from the defaults, as they are stored with a snapshot."""
    return {scale_id: scale.rules.changed_for_a_fit() for scale_id, scale in scales.items()}


def months_of_other_rules(connection: psycopg.Connection, scale: Scale) -> list[str]:
    """The months whose answers were judged by other rules than the scale's: they are stale."""
    rules = rules_of({scale.scale_id: scale})[scale.scale_id]
    rows = connection.execute(
        "SELECT month, coalesce(rules->%s, '{}') FROM scored_snapshot WHERE superseded_at IS NULL ORDER BY month",
        (scale.scale_id,),
    )
    return [month for month, used in rows if used != rules]


def _counts(window: JudgedWindow, scale: str) -> dict[str, int]:
    return {str(reason): int(n) for reason, n in window.judgements[scale].counts.items()}


def store_attempts(store: ObjectStore, folder: str, table: pa.Table) -> tuple[str, str]:
    """Put a window's attempts into the store as Parquet, under their hash; the key and the sha256."""
    with TemporaryDirectory() as folder_here:
        file = Path(folder_here, "attempts.parquet")
        pq.write_table(table, file, compression="zstd")
        with file.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        key = f"snapshots/{folder}/{digest}.parquet"
        store.put(key, file)
    return key, digest
