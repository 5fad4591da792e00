"""A month judged on a cluster: the same facts, the same rules, and the outcome stored by the executors as parts.

All attempts of a learner are in one partition, so that it judges all of `eligibility` but the minimum of items. For
that, responses are counted over all partitions, the items with too few are dropped in each, and so on until there are
none: as many rounds as on one machine. Executors import this package. They are given the object store, and no
credentials of the database. A task that runs twice leaves a part of the same name, or one that no manifest names.

Learners are scored on a cluster in the same way: a partition has all of their answers.

What does not belong here: the manifest (see `responses.snapshot_files`), and the judgement on one machine (see
`responses.window`).
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from irt_assets.common.partitions import month_of
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.eligibility.attempts import JudgedLearners, counts_by_reason, items_with_few
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.responses.facts import FACTS, JUDGED, KEY, SCORES, lookback_start
from irt_assets.responses.item_status import Withdrawals
from irt_assets.responses.item_times import DatedTimes, ItemTimes, compute_item_times
from irt_assets.responses.row_hash import sums_of
from irt_assets.responses.scales import Scale
from irt_assets.responses.snapshot_files import Manifest, Part, columns_of, store_parquet
from irt_assets.responses.window import (
    IDS,
    ScaleAttempts,
    WindowTotals,
    by_scale,
    digest_of,
    file_columns,
    hashed_columns,
    hashed_rows,
    judged_for_scoring,
    n_attempts,
    scoring_facts,
    window_rows,
    with_outcome,
    without_ids,
)
from resources.cluster import spark_rows
from resources.cluster.relational import Run
from resources.cluster.spark import spark_jobs
from resources.cluster.spark_executors import with_same_packages
from resources.failures import PermanentFailure, TransientFailure
from resources.files.object_store import ObjectStore

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

ROWS_OF_A_PART = 1_500_000
"""Attempts of a part, about: a task holds them in memory, some 250 bytes each."""
TWICE_SHOWN = 3
_KINDS = (
    dict.fromkeys(("position", "response_time_ms", "hints_used", *IDS.values()), pa.int64())
    | dict.fromkeys(("started_at", "completed_at"), pa.timestamp("us", "UTC"))
    | dict.fromkeys(("correct", *FACTS), pa.bool_())
    | dict.fromkeys(SCORES, pa.int16())
    | {"score": pa.int8()}
)


def columns_of_parts(hashed: Sequence[str]) -> pa.Schema:
    """The columns of a part, as a snapshot from PostgreSQL has them, if the hash is made of the columns `hashed`."""
    return pa.schema([(name, _KINDS.get(name, pa.string())) for name in file_columns(hashed)])


Batches = Iterable[pa.RecordBatch]
FewItems = Mapping[str, Mapping[str, int]]
"""By scale, the items that a round drops, and how many responses each has."""


@dataclass(frozen=True)
class _Judging:
    """What a task judges by. `rounds`: the items to drop, in the order in which they were found."""

    rules: Mapping[str, Rules]
    times: ItemTimes
    rounds: tuple[FewItems, ...] = ()

    def learners(self, table: pa.Table) -> Iterator[tuple[ScaleAttempts, JudgedLearners]]:
        """The table's attempts by scale, judged as far as the rounds go."""
        for part in by_scale(table, sorted(table["scale_id"].unique().to_pylist()), self.times):
            judged = JudgedLearners.from_attempts(part.attempts, self.rules.get(part.scale_id, Rules()))
            for few in self.rounds:
                dropped = few.get(part.scale_id, {})
                judged.drop_items([item for item, name in enumerate(part.items) if name in dropped])
            yield part, judged


def judge_on_spark(
    run: Run, store: ObjectStore, folder: str, start: datetime, end: datetime, scales: Mapping[str, Scale]
) -> tuple[WindowTotals, Manifest]:
    """A `snapshot.Judge` of the month [start, end).

    Raises PermanentFailure where an attempt is there twice, or a part is not where executors wrote it, and
    TransientFailure where the attempts changed meanwhile.
    """
    month = month_of(start)
    rows = window_rows(start, end, scales)
    with spark_jobs(run.connection, f"scored_responses of {month}"):
        totals, parts = _judged_parts(run, store, folder, start, end, scales)
    return totals, Manifest.over(month, parts, columns_of(columns_of_parts(hashed_columns(rows.columns))))


def _judged_parts(
    run: Run, store: ObjectStore, folder: str, start: datetime, end: datetime, scales: Mapping[str, Scale]
) -> tuple[WindowTotals, list[Part]]:
    n = n_attempts(run, start, end)
    if n == 0:
        return WindowTotals(0, {}, {}, digest_of((0, 0, 0))), []
    hashed = ibis.to_sql(hashed_rows(start, end, scales), dialect=run.backend.dialect)
    dealt = _dealt(run.connection.sql(hashed), math.ceil(n / ROWS_OF_A_PART))
    facts = dealt.sortWithinPartitions(KEY, "completed_at", "attempt_id").persist()
    try:
        added = facts.select("h").mapInArrow(_sums, "rows bigint, first string, second string").toArrow()
        total, *sums = (sum(map(int, column.to_pylist())) for column in added.columns)
        _refuse_twice(facts)
        # After the answers, so that the times are of no fewer than these.
        times = compute_item_times(run, end, lookback_start(start, scales))
        judging = _Judging({scale_id: scale.rules for scale_id, scale in scales.items()}, times)
        judging = _Judging(judging.rules, times, _rounds(facts, judging))
        written = facts.mapInArrow(with_same_packages(partial(_write, judging, store, folder)), "part string").toArrow()
    finally:
        facts.unpersist()
    found = [json.loads(one) for one in written["part"].to_pylist()]
    parts = [Part.model_validate(one["part"]) for one in found]
    if (total, *sums) != tuple(map(sum, zip(*((p.rows, *map(int, p.sums)) for p in parts), strict=True))):
        raise TransientFailure("attempts changed while they were judged on the cluster: judge the month again")
    _require_stored(store, parts)
    return _totals(found, judging.rounds, scales, digest_of((total, *sums))), parts


def map_learners(
    run: Run,
    start: datetime,
    end: datetime,
    scale: Scale,
    items: Sequence[str],
    withdrawn: Withdrawals,
    times: ItemTimes | DatedTimes,
    make: Callable[[Responses, npt.NDArray[np.object_]], pa.Table],
    schema: str,
) -> Iterator[pa.Table]:
    """What executors make of the learners' eligible responses in [start, end), those of `window.scoring_groups`: rows
    of Spark's `schema`, in parts."""
    n = n_attempts(run, start, end)
    if n == 0:
        return
    rows = run.connection.sql(run.backend.sql(scoring_facts(start, end, scale)))
    wanted = run.connection.createDataFrame(pa.table({"item_id": pa.array(items, pa.string())}))
    rows = rows.join(wanted.hint("broadcast"), "item_id", "left_semi")
    by_learner = _dealt(rows, math.ceil(n / ROWS_OF_A_PART))
    work = partial(_made, lambda table: make(*judged_for_scoring(table, times, scale, withdrawn)))
    yield from spark_rows.parts_of(by_learner.mapInArrow(with_same_packages(work), schema))


def _dealt(rows: DataFrame, parts: int) -> DataFrame:
    """The rows in so many partitions, those of a learner in one."""
    from pyspark.sql import functions  # an extra, and the graph imports this module

    return rows.repartition(parts, functions.crc32("user_id"))


def _refuse_twice(facts: DataFrame) -> None:
    counted = facts.groupBy("attempt_id").count()
    twice = counted.where("count > 1").orderBy("attempt_id").limit(TWICE_SHOWN).toArrow()
    if twice.num_rows:
        names = ", ".join(twice["attempt_id"].to_pylist())
        raise PermanentFailure(
            f"the attempts on the cluster have an attempt_id more than once in the month, such as {names}: remove the "
            "second copies from what IRT_ATTEMPTS names, and judge the month again"
        )


def _rounds(facts: DataFrame, judging: _Judging) -> tuple[FewItems, ...]:
    """The items with too few responses, round after round, counted over all partitions."""
    columns = ["scale_id", "user_id", "item_id", *JUDGED, *(name for name in SCORES if name in facts.columns)]
    dropped: dict[str, dict[str, int]] = defaultdict(dict)
    while True:
        counted = facts.select(columns).mapInArrow(
            partial(_responses, judging), "scale_id string, item_id string, n bigint"
        )
        found = counted.groupBy("scale_id", "item_id").sum("n").toArrow()
        by_item: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for scale_id, item_id, n in zip(*(column.to_pylist() for column in found.columns), strict=True):
            by_item[scale_id].append((item_id, n))
        few = {}
        for scale_id, responses in by_item.items():
            least = judging.rules.get(scale_id, Rules()).eligibility.min_fitted_responses
            few[scale_id] = items_with_few(sorted(responses), least, dropped[scale_id])
            dropped[scale_id] |= few[scale_id]
        if not any(few.values()):
            return judging.rounds
        judging = _Judging(judging.rules, judging.times, (*judging.rounds, few))


def _totals(
    found: Sequence[Mapping[str, Any]], rounds: Sequence[FewItems], scales: Iterable[str], data_hash: str
) -> WindowTotals:
    """What all parts come to, with the scales that have no attempt."""
    of_parts = [one["counts"] for one in found]
    nothing = counts_by_reason(np.empty(0, np.int8))
    counts, left_out = {}, {}
    for scale_id in sorted({*scales, *(scale_id for counts in of_parts for scale_id in counts)}):
        of_scale = [one.get(scale_id, nothing) for one in of_parts]
        reasons = dict.fromkeys(chain(nothing, *of_scale))
        counts[scale_id] = {reason: sum(one.get(reason, 0) for one in of_scale) for reason in reasons}
        left_out[scale_id] = {item: n for few in rounds for item, n in few.get(scale_id, {}).items()}
    return WindowTotals(sum(sum(one.values()) for one in counts.values()), counts, left_out, data_hash)


def _require_stored(store: ObjectStore, parts: Sequence[Part]) -> None:
    for part in parts:
        if not store.exists(part.key) or store.size(part.key) != part.bytes:
            raise PermanentFailure(
                f"an executor wrote {part.key}, and it is not at {store.uri(part.key)}: executors on other machines "
                "need a bucket (S3_BUCKET), or a folder that all machines share under the same path"
            )


# -- on the executors --------------------------------------------------------------------------------


def _table(batches: Batches) -> pa.Table | None:
    """What is in a partition; None for one without rows."""
    found = [batch for batch in batches if batch.num_rows]
    return pa.Table.from_batches(found) if found else None


def _sums(batches: Batches) -> Batches:
    for batch in batches:
        if batch.num_rows:
            sums = [pa.array([str(one)]) for one in sums_of(pa.chunked_array([batch.column("h")]))]
            yield pa.record_batch([pa.array([batch.num_rows], pa.int64()), *sums], ["rows", "first", "second"])


def _responses(judging: _Judging, batches: Batches) -> Batches:
    """How many responses of a partition each item has left, those that have none among them."""
    table = _table(batches)
    if table is None:
        return
    for part, judged in judging.learners(table):
        scale = pa.array([part.scale_id] * part.items.size, pa.string())
        items, n = pa.array(part.items, pa.string()), pa.array(judged.responses(), pa.int64())
        yield pa.record_batch([scale, items, n], ["scale_id", "item_id", "n"])


def _made(make: Callable[[pa.Table], pa.Table], batches: Batches) -> Batches:
    """What is made of a partition."""
    table = _table(batches)
    if table is not None:
        yield from make(table).to_batches()


def _write(judging: _Judging, store: ObjectStore, folder: str, batches: Batches) -> Batches:
    """Store a partition as a part: what the part is, and its counts by scale and reason, as JSON."""
    table = _table(batches)
    if table is None:
        return
    sums = sums_of(table["h"])
    schema = columns_of_parts(hashed_columns(table.column_names))
    code, score = (np.full(table.num_rows, -1, dtype=np.int8) for _ in range(2))
    counts = {}
    for part, judged in judging.learners(table):
        code[part.rows], score[part.rows] = judged.outcome()
        counts[part.scale_id] = counts_by_reason(code[part.rows])
    stored = store_parquet(store, folder, without_ids(with_outcome(table, code, score)).cast(schema).combine_chunks())
    made = Part(**stored._asdict(), rows=table.num_rows, sums=(str(sums[0]), str(sums[1])))
    yield pa.record_batch([pa.array([json.dumps({"part": made.model_dump(), "counts": counts})])], ["part"])
