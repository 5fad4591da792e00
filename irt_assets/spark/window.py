"""Collection of a month of a lake on a cluster: executors store its attempts with their verdicts as parts.

All attempts of a learner are in one partition, where all minima are applied except the minimum of responses per item.
For this minimum, responses are counted over all partitions, and items with too few are dropped everywhere. This is
repeated until no item has too few, in the same number of rounds as on one machine.

Executors import this package. They get access to the object store, but no credentials of the database. A task that runs
twice stores a part with the same name, or a part that no manifest names.

Learners are scored on a cluster in the same way: a partition has all of their answers.

What does not belong here: the manifest (see `responses.snapshot_files`), verdicts (see `responses.verdicts`), and
collection on one machine (see `responses.stored_window`).
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa

from irt_assets.common.partitions import Month, day_of
from irt_assets.responses.eligibility.attempts import counts_by_reason, items_with_few
from irt_assets.responses.facts import KEY, SCORES
from irt_assets.responses.row_hash import digest_of, row_hash, sums_of
from irt_assets.responses.scored_answers import responses_of, scored_answers
from irt_assets.responses.snapshot_files import Part, SnapshotManifest, columns_of, store_parquet
from irt_assets.responses.stored_window import (
    HASHED,
    ScaleVerdicts,
    WindowTotals,
    n_attempts,
    verdict_rows,
    verdicts_by_scale,
)
from irt_assets.responses.window import FILE, with_outcome, without_ids
from irt_assets.scales.item_status import Withdrawals
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from irt_assets.spark.lake import export_days
from irt_psychometrics import Responses
from resources.cluster import spark_rows
from resources.cluster.lake import Lake
from resources.cluster.relational import Run, holds_log, on_log
from resources.cluster.spark import spark_jobs
from resources.cluster.spark_executors import require_same_packages
from resources.failures import PermanentFailure, TransientFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, one_value

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

ROWS_OF_A_PART = 1_500_000
"""Approximate number of attempts in a part: a task holds them in memory, some 250 bytes each."""
MAX_REPEATS_SHOWN = 3
_KINDS = (
    dict.fromkeys(("row", KEY, "session", "position", "response_time_ms", "hints_used"), pa.int64())
    | dict.fromkeys(("started_at", "completed_at"), pa.timestamp("us", "UTC"))
    | {"correct": pa.bool_(), "score": pa.int8()}
    | dict.fromkeys(SCORES, pa.int16())
)


def columns_of_parts(*, scored: bool) -> pa.Schema:
    """The columns of a part, as in a snapshot from PostgreSQL. `scored`: whether they include `SCORES`."""
    return pa.schema([(name, _KINDS.get(name, pa.string())) for name in FILE if scored or name not in SCORES])


Batches = Iterable[pa.RecordBatch]
FewItems = Mapping[str, Mapping[str, int]]
"""The items that a round drops, by scale, with their numbers of responses."""


@dataclass(frozen=True)
class _Minima:
    """The minima that a task applies. `rounds`: the items to drop, in the order in which they were found."""

    rules: Mapping[str, Rules]
    rounds: tuple[FewItems, ...] = ()

    def apply(self, table: pa.Table) -> Iterator[ScaleVerdicts]:
        """The table's verdicts by scale, without the items that the rounds drop."""
        for part in verdicts_by_scale(table, self.rules):
            for few in self.rounds:
                dropped = few.get(part.scale_id, {})
                part.judged.drop_items([item for item, name in enumerate(part.items) if name in dropped])
            yield part


def collect_on_spark(
    database: Database,
    connection: psycopg.Connection,
    store: ObjectStore,
    folder: str,
    month: str,
    scales: Mapping[str, Scale],
) -> tuple[WindowTotals, SnapshotManifest]:
    """Collect a month on Spark, as a `snapshot.CollectMonth`. Days that differ between the lake and PostgreSQL are
    first written to the lake.

    Raises PermanentFailure if a day has attempts without verdicts or cannot be written to the lake, an attempt_id
    occurs twice, or a part is missing. Raises TransientFailure if the lake changed meanwhile.
    """
    lake = Lake.at(database.settings)
    start, end = Month(month).bounds
    _write_days(database, connection, lake, start, end)
    lake.require_judged(start, end)
    n = sum(manifest.rows for manifest in lake.manifests(start, end).values())
    if n == 0:
        return WindowTotals(0, {}, {}, digest_of((0, 0, 0))), SnapshotManifest.from_parts(month, [], [])
    run = on_log(connection, start, end)
    with spark_jobs(run.connection, f"scored_responses of {month}"):
        return _parts(run, store, folder, month, n, scales)


def _write_days(database: Database, connection: psycopg.Connection, lake: Lake, start: datetime, end: datetime) -> None:
    """Write the days of [start, end) to the lake, from the first one with an attempt to today."""
    query = "SELECT min(completed_at) FROM attempt WHERE completed_at >= %s AND completed_at < %s"
    first = one_value(connection, query, (start, end))
    if first is None or not holds_log(connection, start, end):
        return
    last = min(end - timedelta(microseconds=1), datetime.now(UTC))
    if refused := export_days(database, lake, day_of(first), day_of(last)).refused:
        raise PermanentFailure("; ".join(refused))


def _parts(
    run: Run, store: ObjectStore, folder: str, month: str, n: int, scales: Mapping[str, Scale]
) -> tuple[WindowTotals, SnapshotManifest]:
    rows = verdict_rows(*Month(month).bounds, in_lake=True)
    hashed = run.backend.sql(rows.mutate(h=row_hash(rows, HASHED)))
    dealt = _partition_by_learner(run.connection.sql(hashed), math.ceil(n / ROWS_OF_A_PART))
    attempts = dealt.sortWithinPartitions(KEY, "completed_at", "attempt_id").persist()
    try:
        added = attempts.select("h", "max_score").mapInArrow(
            _sums, "rows bigint, first string, second string, scored bigint"
        )
        total, *sums, scored = (sum(map(int, column.to_pylist())) for column in added.toArrow().columns)
        _require_distinct_ids(attempts)
        minima = _Minima({scale_id: scale.rules for scale_id, scale in scales.items()})
        minima = _Minima(minima.rules, _rounds(attempts, minima))
        columns = columns_of_parts(scored=scored > 0)
        work = partial(_write, minima, store, folder, columns)
        written = attempts.mapInArrow(require_same_packages(work), "part string").toArrow()
    finally:
        attempts.unpersist()
    found = [json.loads(x) for x in written["part"].to_pylist()]
    parts = [Part.model_validate(x["part"]) for x in found]
    if (total, *sums) != tuple(map(sum, zip(*((p.rows, *map(int, p.sums)) for p in parts), strict=True))):
        raise TransientFailure("attempts changed while they were collected on the cluster: collect the month again")
    _require_stored(store, parts)
    totals = _totals(found, minima.rounds, scales, digest_of((total, *sums)))
    return totals, SnapshotManifest.from_parts(month, parts, columns_of(columns))


def map_learners(
    run: Run,
    start: datetime,
    end: datetime,
    items: Sequence[str],
    withdrawn: Withdrawals,
    make: Callable[[Responses, npt.NDArray[np.object_]], pa.Table],
    schema: str,
) -> Iterator[pa.Table]:
    """Call `make` on the executors with the responses and ids of some learners at a time. Yields its rows in parts.

    The responses are to `items` in [start, end), as in `scored_answers.scoring_groups`. `schema`: Spark's schema of the
    rows.
    """
    if (n := n_attempts(run, start, end)) == 0:
        return
    rows = run.connection.sql(run.backend.sql(scored_answers(start, end, in_lake=True)))
    wanted = run.connection.createDataFrame(pa.table({"item_id": pa.array(items, pa.string())}))
    rows = rows.join(wanted.hint("broadcast"), "item_id", "left_semi")
    by_learner = _partition_by_learner(rows, math.ceil(n / ROWS_OF_A_PART))
    work = partial(_apply_to_partition, lambda table: make(*responses_of(table, withdrawn)))
    yield from spark_rows.parts_of(by_learner.mapInArrow(require_same_packages(work), schema))


def _partition_by_learner(rows: DataFrame, parts: int) -> DataFrame:
    """The rows in `parts` partitions, with all rows of a learner in the same partition."""
    from pyspark.sql import functions  # optional dependency; the graph imports this module

    return rows.repartition(parts, functions.crc32(functions.col(KEY).cast("string")))


def _require_distinct_ids(attempts: DataFrame) -> None:
    counted = attempts.groupBy("attempt_id").count()
    twice = counted.where("count > 1").orderBy("attempt_id").limit(MAX_REPEATS_SHOWN).toArrow()
    if twice.num_rows:
        names = ", ".join(twice["attempt_id"].to_pylist())
        raise PermanentFailure(
            f"the attempts on the cluster contain an attempt_id more than once in the month, such as {names}: remove "
            "the second copies from the data that IRT_ATTEMPTS names, and score the month again"
        )


def _rounds(attempts: DataFrame, minima: _Minima) -> tuple[FewItems, ...]:
    """The items with too few responses in each round, counted over all partitions."""
    dropped: dict[str, dict[str, int]] = defaultdict(dict)
    while True:
        counted = attempts.select("scale_id", KEY, "item_id", "reason", "score").mapInArrow(
            partial(_responses, minima), "scale_id string, item_id string, n bigint"
        )
        found = counted.groupBy("scale_id", "item_id").sum("n").toArrow()
        by_item: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for scale_id, item_id, n in zip(*(column.to_pylist() for column in found.columns), strict=True):
            by_item[scale_id].append((item_id, n))
        few = {}
        for scale_id, responses in by_item.items():
            least = minima.rules.get(scale_id, Rules()).eligibility.min_fitted_responses
            few[scale_id] = items_with_few(sorted(responses), least, dropped[scale_id])
            dropped[scale_id] |= few[scale_id]
        if not any(few.values()):
            return minima.rounds
        minima = _Minima(minima.rules, (*minima.rounds, few))


def _totals(
    found: Sequence[Mapping[str, Any]], rounds: Sequence[FewItems], scales: Iterable[str], data_hash: str
) -> WindowTotals:
    """Totals over all parts, including the scales that have no attempt."""
    of_parts = [x["counts"] for x in found]
    nothing = counts_by_reason(np.empty(0, np.int8))
    counts, left_out = {}, {}
    for scale_id in sorted({*scales, *(scale_id for counts in of_parts for scale_id in counts)}):
        of_scale = [x.get(scale_id, nothing) for x in of_parts]
        reasons = dict.fromkeys(chain(nothing, *of_scale))
        counts[scale_id] = {reason: sum(x.get(reason, 0) for x in of_scale) for reason in reasons}
        left_out[scale_id] = {item: n for few in rounds for item, n in few.get(scale_id, {}).items()}
    return WindowTotals(sum(sum(x.values()) for x in counts.values()), counts, left_out, data_hash)


def _require_stored(store: ObjectStore, parts: Sequence[Part]) -> None:
    for part in parts:
        if not store.exists(part.key) or store.size(part.key) != part.bytes:
            raise PermanentFailure(
                f"an executor wrote {part.key}, but it is not at {store.uri(part.key)}: executors on other machines "
                "need a bucket (S3_BUCKET), or a folder that all machines share under the same path"
            )


# -- on the executors --------------------------------------------------------------------------------


def _table(batches: Batches) -> pa.Table | None:
    """The rows of a partition. Returns None if it has no rows."""
    found = [batch for batch in batches if batch.num_rows]
    return pa.Table.from_batches(found) if found else None


def _sums(batches: Batches) -> Batches:
    """Yield, for each batch, its number of rows, the sums of their hashes, and the number of rows of scored items."""
    for batch in batches:
        if batch.num_rows:
            sums = [pa.array([str(total)]) for total in sums_of(pa.chunked_array([batch.column("h")]))]
            max_score = batch.column("max_score")
            counts = (pa.array([n], pa.int64()) for n in (batch.num_rows, batch.num_rows - max_score.null_count))
            rows, scored = counts
            yield pa.record_batch([rows, *sums, scored], ["rows", "first", "second", "scored"])


def _responses(minima: _Minima, batches: Batches) -> Batches:
    """Number of responses that remain for each item in a partition, including 0."""
    table = _table(batches)
    if table is None:
        return
    for part in minima.apply(table):
        scale = pa.array([part.scale_id] * part.items.size, pa.string())
        items, n = pa.array(part.items, pa.string()), pa.array(part.judged.responses(), pa.int64())
        yield pa.record_batch([scale, items, n], ["scale_id", "item_id", "n"])


def _apply_to_partition(make: Callable[[pa.Table], pa.Table], batches: Batches) -> Batches:
    """Apply `make` to a partition that has rows."""
    table = _table(batches)
    if table is not None:
        yield from make(table).to_batches()


def _write(minima: _Minima, store: ObjectStore, folder: str, columns: pa.Schema, batches: Batches) -> Batches:
    """Store a partition as a part. Yields the part and its counts by scale and reason, as JSON."""
    table = _table(batches)
    if table is None:
        return
    sums = sums_of(table["h"])
    code, score = (np.full(table.num_rows, -1, dtype=np.int8) for _ in range(2))
    counts = {}
    for part in minima.apply(table):
        code[part.rows], score[part.rows] = part.judged.outcome()
        counts[part.scale_id] = counts_by_reason(code[part.rows])
    file = without_ids(with_outcome(table.drop_columns(["reason", "score", "h"]), code, score))
    stored = store_parquet(store, folder, file.select(columns.names).cast(columns).combine_chunks())
    made = Part(**stored._asdict(), rows=table.num_rows, sums=(str(sums[0]), str(sums[1])))
    yield pa.record_batch([pa.array([json.dumps({"part": made.model_dump(), "counts": counts})])], ["part"])
