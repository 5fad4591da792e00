"""Snapshots: a month's attempts with their scores and reasons, as Parquet files named after their hash.

A fit names the snapshot from which it was made, so its data can be read again even if the log changes. What does not
belong here: the files of a snapshot (see `snapshot_files`).
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO, LiteralString

import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from irt_assets.common.partitions import Month
from irt_assets.responses.closing_records import ClosedMonth, read_closed
from irt_assets.responses.facts import KEY, SCORES
from irt_assets.responses.snapshot_files import (
    SnapshotManifest,
    SpoiltSnapshotError,
    is_manifest,
    snapshot_files,
    store_manifest,
    store_parquet,
    without_dictionaries,
)
from irt_assets.responses.stored_window import (
    JudgedWindow,
    WindowTotals,
    stored_window,
    verdict_hash,
)
from irt_assets.responses.verdict_states import states_of_months
from irt_assets.responses.verdicts import JudgedDay, days_without_verdicts, judge_differing
from irt_assets.responses.window import without_ids
from irt_assets.scales.rules import Rules, settings_of_stage
from irt_assets.scales.scale import Scale, read_scales
from resources.cluster.relational import holds_log, on_postgres
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, advisory_lock, one_value, record, records

FIT_COLUMNS = (KEY, "item_id", "scale_id", "form_id", "reason", "score", *SCORES)
"""Columns of a snapshot that a fit reads; `SCORES` only if the snapshot has them."""
CALIBRATION_COLUMNS = (*FIT_COLUMNS, "completed_at")
"""Columns that a calibration reads: `FIT_COLUMNS`, and the time of each answer."""
CollectMonth = Callable[
    [Database, psycopg.Connection, ObjectStore, str, str, Mapping[str, Scale]], tuple[WindowTotals, SnapshotManifest]
]
"""Function that stores the attempts of a lake's month as parts, with their verdicts and the minima of their scales.

Its arguments are database, connection, store, folder of the parts, month and scales. It returns the counts, and the
manifest, which is not stored yet.
"""


@dataclass(frozen=True)
class Snapshot:
    """A row of `scored_snapshot`: key and content of the file, and the state of the verdicts from which it was made."""

    month: str
    snapshot_hash: str
    uri: str
    data_hash: str
    n_attempts: int
    counts: dict[str, dict[str, int]]
    rules: dict[str, dict[str, Any]]
    verdict_state: str = ""

    def has_attempts(self, scale_id: str) -> bool:
        """Whether the month has an attempt on the scale, also one that does not count."""
        return any(self.counts.get(scale_id, {}).values())


def take_snapshot(
    database: Database,
    store: ObjectStore,
    month: str,
    run_id: str | None,
    collect: CollectMonth | None = None,
    report: Callable[[JudgedDay], object] | None = None,
) -> tuple[Snapshot, WindowTotals]:
    """Store the month's attempts with their verdicts. The files are stored before the row that names them.

    First judges the days that have no verdicts or differ from them, unless PostgreSQL has dropped them, and passes each
    to `report`. With IRT_SPARK, `collect` reads the month in the lake, and the snapshot is a manifest. The snapshot
    gets the present state of the verdicts, even if the file is the same as before.

    For scales for which the month is closed, the answers come from the file with which it closed. If it is closed
    for all scales with answers, the snapshot does not change. Raises PermanentFailure if the month has no attempts, or
    if a lake contains an attempt twice.
    """
    start, end = Month(month).bounds
    folder = f"scored_responses/{month}"
    in_postgres = database.call(holds_log, start, end)
    if in_postgres:
        judge_differing(database, start.date(), end.date(), report)
    with database.connect() as connection:
        lock_month(connection, month)
        scales = read_scales(connection)
        state = states_of_months(connection, [month])[month]
        closed = {closing.scale_id: closing for closing in read_closed(connection, [month])}
        current = current_snapshot(connection, month)
        if collect is not None and database.settings.irt_spark:
            totals, manifest = collect(database, connection, store, folder, month, scales)
            store_it = partial(store_manifest, store, folder, manifest)
            others = _scales_with_attempts(totals.counts, current) - {*closed}
            if closed and others:
                raise PermanentFailure(
                    f"{month} is closed for scale {', '.join(closed)} and open for others, but Spark takes one "
                    f"snapshot of all scales: reopen the month (`irt month reopen {month}`)"
                )
        else:
            window = stored_window(connection, start, end, scales)
            others = _scales_with_attempts(window.totals.counts, current) - {*closed}
            totals, table = window.totals, without_ids(window.table)
            if closed and others:
                totals, table = _replace_closed_scales(connection, store, window, table, month, closed)
            store_it = partial(store_attempts, store, folder, table)
        if closed and current and not others:
            return current, WindowTotals(current.n_attempts, current.counts, {}, current.data_hash)
        if totals.n_attempts == 0:
            raise PermanentFailure(
                f"month {month} has no attempts: import its log with `irt import attempts FILE`, "
                "or materialise another month"
            )
        rules = rules_of(scales) | {scale_id: closing.rules for scale_id, closing in closed.items()}
        snapshot = record_snapshot(connection, month, store_it(), totals, rules, state, run_id)
    return snapshot, totals


def lock_month(connection: psycopg.Connection, month: str) -> None:
    """Keep the month's snapshot, and whether the month is closed, unchanged by others until the transaction ends."""
    advisory_lock(connection, "scored_responses", month)


def record_snapshot(
    connection: psycopg.Connection,
    month: str,
    stored: tuple[str, str],
    totals: WindowTotals,
    rules: dict[str, dict[str, Any]],
    state: str,
    run_id: str | None,
) -> Snapshot:
    """Make a stored file the month's snapshot. `stored`: its key and hash; `state`: the state of its verdicts."""
    key, digest = stored
    cited_as = "SELECT snapshot_hash FROM scored_snapshot WHERE (month, uri) = (%s, %s)"
    digest = one_value(connection, cited_as, (month, key)) or digest  # the hashes differ if the file was rewritten
    snapshot = Snapshot(month, digest, key, totals.data_hash, totals.n_attempts, totals.counts, rules, state)
    connection.execute(
        "UPDATE scored_snapshot SET superseded_at = now() WHERE month = %s AND superseded_at IS NULL", (month,)
    )
    connection.execute(
        """
        INSERT INTO scored_snapshot
          (month, snapshot_hash, uri, data_hash, n_attempts, counts, rules, verdict_state, run_id)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (month, snapshot_hash) DO UPDATE
        SET data_hash = excluded.data_hash, counts = excluded.counts, rules = excluded.rules,
            verdict_state = excluded.verdict_state, run_id = excluded.run_id, created_at = now(),
            superseded_at = NULL
        """,
        (month, digest, key, snapshot.data_hash, snapshot.n_attempts)
        + (json.dumps(snapshot.counts), json.dumps(snapshot.rules), state, run_id),
    )
    return snapshot


def _scales_with_attempts(counts: Mapping[str, Mapping[str, int]], current: Snapshot | None) -> set[str]:
    """The scales that have attempts in `counts` (by scale and reason), or had some in the current snapshot."""
    return {scale for of in (counts, current.counts if current else {}) for scale, n in of.items() if sum(n.values())}


def _replace_closed_scales(
    connection: psycopg.Connection,
    store: ObjectStore,
    window: JudgedWindow,
    table: pa.Table,
    month: str,
    closed: Mapping[str, ClosedMonth],
) -> tuple[WindowTotals, pa.Table]:
    """The window's totals and its `table`, with the answers of closed scales read from the files of their closing.

    Raises PermanentFailure if such a file has no row in `scored_snapshot` any more.
    """
    is_open = pc.invert(pc.is_in(table["scale_id"].cast(pa.string()), pa.array(sorted(closed), pa.string())))
    parts, counts = [table.filter(is_open).cast(without_dictionaries(table.schema))], {**window.totals.counts}
    for scale_id, closing in closed.items():
        snapshot = snapshot_of(connection, month, closing.snapshot_hash)
        if snapshot is None:
            raise PermanentFailure(
                f"{month} closed for scale {scale_id} with a snapshot that no longer exists: reopen it"
            )
        rows = read_snapshot(store, snapshot)
        parts.append(rows.filter(pc.equal(rows["scale_id"], scale_id)))
        counts[scale_id] = snapshot.counts.get(scale_id, {})
    table = pa.concat_tables(parts, promote_options="default")
    return replace(window.totals, n_attempts=table.num_rows, counts=counts), table


_SELECT = "SELECT month, snapshot_hash, uri, data_hash, n_attempts, counts, rules, verdict_state FROM scored_snapshot"


def settle_states(database: Database) -> None:
    """Give the snapshots of open months the present state of their verdicts if their content is unchanged.

    The state may differ although the verdicts are the same, e.g. after a change was reverted. A snapshot keeps its
    state if some days of the month are not judged.
    """
    with database.connect() as connection:
        snapshots = current_snapshots(connection)
        closed = {(closing.month, closing.scale_id) for closing in read_closed(connection, snapshots)}
    for month, snapshot in snapshots.items():
        if all((month, scale_id) in closed for scale_id in snapshot.counts):
            continue
        with database.connect() as connection:
            start, end = Month(month).bounds
            state = states_of_months(connection, [month])[month]
            if (
                state == snapshot.verdict_state
                or not holds_log(connection, start, end)
                or days_without_verdicts(connection, start, end)
            ):
                continue
            if verdict_hash(on_postgres(connection), start, end) == snapshot.data_hash:
                connection.execute(
                    """UPDATE scored_snapshot SET verdict_state = %s
                       WHERE (month, snapshot_hash, verdict_state) = (%s, %s, %s)""",
                    (state, month, snapshot.snapshot_hash, snapshot.verdict_state),
                )


def current_snapshots(connection: psycopg.Connection) -> dict[str, Snapshot]:
    """Month → its current snapshot, oldest month first."""
    found = records(connection, Snapshot, f"{_SELECT} WHERE superseded_at IS NULL ORDER BY month")
    return {snapshot.month: snapshot for snapshot in found}


def current_snapshot(connection: psycopg.Connection, month: str) -> Snapshot | None:
    """The month's snapshot that has not been replaced, or None."""
    return _snapshot(connection, month, "superseded_at IS NULL")


def snapshot_for_scale(connection: psycopg.Connection, month: str, scale_id: str) -> Snapshot | None:
    """The snapshot of a scale's month: the snapshot with which the month closed, or the current one if it is open."""
    for closing in read_closed(connection, [month]):
        if closing.scale_id == scale_id:
            return snapshot_of(connection, month, closing.snapshot_hash)
    return current_snapshot(connection, month)


def snapshot_of(connection: psycopg.Connection, month: str, snapshot_hash: str) -> Snapshot | None:
    """The month's snapshot with this hash, also if it has been replaced, or None."""
    return _snapshot(connection, month, "snapshot_hash = %s", snapshot_hash)


def snapshots_by_hash(connection: psycopg.Connection, hashes: Collection[str]) -> dict[tuple[str, str], Snapshot]:
    """The snapshots with these hashes, also if they have been replaced, by month and hash."""
    found = records(connection, Snapshot, f"{_SELECT} WHERE snapshot_hash = ANY(%s)", ([*hashes],))
    return {(snapshot.month, snapshot.snapshot_hash): snapshot for snapshot in found}


def _snapshot(connection: psycopg.Connection, month: str, condition: LiteralString, *values: str) -> Snapshot | None:
    return record(connection, Snapshot, f"{_SELECT} WHERE month = %s AND {condition}", (month, *values))


def read_snapshot(
    store: ObjectStore,
    snapshot: Snapshot,
    explain: Callable[[str], str] | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The attempts of a snapshot, with `columns` only (None: all).

    Raises PermanentFailure if a file is missing or differs from the stored one. `explain` turns the problem into the
    message of that failure; by default, the message says to score the month again.
    """
    with _with_remedy(snapshot, explain):
        found = list(_tables(store, snapshot, columns))
        table = pa.concat_tables(found)
        learners = [pc.count_distinct(part[KEY]).as_py() for part in found if KEY in part.column_names]
        if len(learners) > 1 and (shared := sum(learners) - pc.count_distinct(table[KEY]).as_py()):
            raise SpoiltSnapshotError(
                f"the parts of the snapshot {snapshot.uri} share {shared:,} learners, "
                "but each learner belongs in one part"
            )
    return table


def read_parts(
    store: ObjectStore, snapshot: Snapshot, columns: Sequence[str], *, keep: bool = True
) -> Iterator[pa.Table]:
    """Yield the attempts of a snapshot, a table for each file. Raises PermanentFailure like `read_snapshot`.

    `keep`: whether files are cached, which a server must not do.
    """
    with _with_remedy(snapshot):
        yield from _tables(store, snapshot, columns, keep=keep)


def read_for_run(
    store: ObjectStore,
    snapshot: Snapshot,
    most: int | None,
    columns: Sequence[str],
    scales: Collection[str] | None = None,
    explain: Callable[[str], str] | None = None,
) -> pa.Table:
    """The attempts of a snapshot on `scales` (None: all), as a run reads them into its process.

    If a scale has more than `most` attempts (`Settings.most_for_run`), a random sample of learners is read. A
    cluster distributes learners over the parts of a snapshot by a hash of their ids, and a part is named after its
    content. The first parts, up to `most` attempts, are therefore a random sample of learners with all their attempts.
    At least one part is read. Raises PermanentFailure like `read_snapshot`.
    """
    if most is None:
        return read_snapshot(store, snapshot, explain, columns)
    open_scales = {*(snapshot.counts if scales is None else scales)}
    held: Counter[str] = Counter()
    found: list[pa.Table] = []
    with _with_remedy(snapshot, explain):
        for part in _tables(store, snapshot, columns):
            rows = {row["values"]: row["counts"] for row in pc.value_counts(part["scale_id"]).to_pylist()}
            open_scales -= {scale for scale in open_scales if held[scale] and held[scale] + rows.get(scale, 0) > most}
            found.append(part.filter(pc.is_in(part["scale_id"], pa.array(sorted(open_scales), pa.string()))))
            held.update({scale: rows.get(scale, 0) for scale in open_scales})
            if not open_scales:
                break
    return pa.concat_tables(found)


def sample_for_run(snapshot: Snapshot, most: int | None, scale_id: str) -> str:
    """The sample of a scale that `read_for_run` reads, in words; empty if it reads all learners."""
    attempts = sum(snapshot.counts.get(scale_id, {}).values())
    if most is None or attempts <= most or not is_manifest(snapshot.uri):
        return ""
    return f"a random sample of learners, with about {most:,} of {attempts:,} attempts"


def read_learners_of(store: ObjectStore, snapshot: Snapshot, scale_id: str, item_id: str) -> pa.Table:
    """The scored answers on a scale by the learners whose answer to `item_id` was scored, with `FIT_COLUMNS`.

    Decodes only the texts that it returns. Servers may call it, because it caches no files. Raises PermanentFailure
    like `read_snapshot`.
    """
    texts = [name for name in FIT_COLUMNS if name not in (KEY, "score", *SCORES)]
    found = []
    with _with_remedy(snapshot):
        for file in _files(store, snapshot, keep=False):  # each learner is in one file only
            part = read_attempts(file, FIT_COLUMNS, read_dictionary=texts)
            found.append(_learners_of(part, scale_id, item_id))
    return pa.concat_tables(found)


def _learners_of(table: pa.Table, scale_id: str, item_id: str) -> pa.Table:
    scored = table.filter(pc.and_(pc.is_null(table["reason"]), pc.equal(table["scale_id"], scale_id)))
    wanted = scored.filter(pc.equal(scored["item_id"], item_id))[KEY].unique()
    return scored.filter(pc.is_in(scored[KEY], wanted)).cast(without_dictionaries(scored.schema))


@contextmanager
def _with_remedy(snapshot: Snapshot, explain: Callable[[str], str] | None = None) -> Iterator[None]:
    """Turn a SpoiltSnapshotError into a PermanentFailure with the remedy."""
    try:
        yield
    except SpoiltSnapshotError as error:
        again = f"{error}; materialise scored_responses of {snapshot.month} again"
        raise PermanentFailure(explain(str(error)) if explain else again) from error


def snapshot_problem(store: ObjectStore, snapshot: Snapshot) -> str | None:
    """Why the stored files are not the snapshot that was taken. Returns None if they are."""
    try:
        for _ in _files(store, snapshot):
            pass
    except SpoiltSnapshotError as error:
        return str(error)
    return None


def _tables(
    store: ObjectStore, snapshot: Snapshot, columns: Sequence[str] | None, *, keep: bool = True
) -> Iterator[pa.Table]:
    for file in _files(store, snapshot, keep=keep):
        yield read_attempts(file, columns)


def read_attempts(file: BinaryIO, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
    """The attempts of a snapshot's file with `columns` (None: all), and with `SCORES` only if the file has them.

    `options` are passed to `pyarrow.parquet.read_table`. Raises SpoiltSnapshotError if the file has no learner keys.
    """
    present = pq.read_schema(file).names
    if KEY not in present:
        raise SpoiltSnapshotError("a file of the snapshot has no column learner_key: it may name learners by id")
    file.seek(0)
    return pq.read_table(file, columns=columns and columns_with_scores(present, columns), **options)


def columns_with_scores(present: Collection[str], columns: Sequence[str] = FIT_COLUMNS) -> list[str]:
    """The `columns`, with `SCORES` only if they are among the names `present`."""
    return [name for name in columns if name in present or name not in SCORES]


def _files(store: ObjectStore, snapshot: Snapshot, *, keep: bool = True) -> Iterator[BinaryIO]:
    return snapshot_files(store, snapshot.uri, keep=keep)


def user_ids_of(connection: psycopg.Connection, learners: npt.NDArray[Any]) -> list[str]:
    """The learners' ids by their keys; for an erased learner, a text with the key.

    Texts are returned unchanged, e.g. the learners of several months, which are `2026-09/` and the key.
    """
    if learners.dtype == object:
        return learners.tolist()
    query = "SELECT learner_key, user_id FROM learner WHERE learner_key = ANY(%s)"
    known: dict[int, str] = dict(connection.execute(query, (learners.tolist(),)).fetchall())
    return [known.get(key, f"(erased: key {key})") for key in learners.tolist()]


def rules_of(scales: dict[str, Scale]) -> dict[str, dict[str, Any]]:
    """Scale → its settings as they are stored with a snapshot."""
    return {scale_id: stored_rules(scale.rules) for scale_id, scale in scales.items()}


def stored_rules(rules: Rules) -> dict[str, Any]:
    """The settings that are stored with a snapshot or a fit: all that differ from the defaults.

    The distribution of θ is left out, because a fit stores its own.
    """
    return {name: value for name, value in rules.non_defaults().items() if name != "latent"}


def settings_differ(used: Mapping[str, Any], rules: Rules, *stages: str) -> bool:
    """Whether the settings of any of `stages` differ between `used`, stored earlier (`stored_rules`), and `rules`."""
    now = stored_rules(rules)
    return any(settings_of_stage(stage, used) != settings_of_stage(stage, now) for stage in stages)


def months_with_changed_rules(connection: psycopg.Connection, scale: Scale) -> list[str]:
    """The open months that are stale because the scale's eligibility rules have changed since their snapshot."""
    closed = {(closing.month, closing.scale_id) for closing in read_closed(connection)}
    return [
        month
        for month, snapshot in current_snapshots(connection).items()
        if (month, scale.scale_id) not in closed
        and settings_differ(snapshot.rules.get(scale.scale_id, {}), scale.rules, "eligibility")
    ]


def store_attempts(store: ObjectStore, folder: str, table: pa.Table) -> tuple[str, str]:
    """Store a window's attempts as Parquet under their hash. Returns the key and the sha256."""
    stored = store_parquet(store, folder, table)
    return stored.key, stored.sha256
