"""Answers in a DataFrame of Apache Spark, laid out by executors for `irt_psychometrics.estimation`."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.arrays import Floats, Ints, Mask
from irt_assets.spark.sums import Batches, Rows, as_binary, fetch_shards, map_shards, sums_of_bundles
from irt_psychometrics import PsychometricsError, Responses
from irt_psychometrics.estimation import RemoteAnswers, ShardWork
from resources.cluster.spark import lost_executors
from resources.cluster.spark_executors import require_same_packages
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

Layout = Callable[[int, Responses, Ints], dict[str, npt.NDArray[Any]]]
"""The arrays of a shard, as `RemoteAnswers.lay_out` describes them."""

_log = logging.getLogger("irt_assets.calibration")

MAX_PER_PARTITION = 50_000_000
"""Maximum number of answers in a partition, unless there are too few bundles for more partitions. A partition is laid
out, and if it is lost computed again, as a whole."""
MAX_SHUFFLED = 20_000_000
"""Maximum number of answers that the driver reads to compare them with shuffled ones if a fit hardly beats chance."""
DRIVER_BYTES = 4_000_000_000
"""Size of the answers, about 1.5 bytes each, up to which the driver computes a fit."""


class SparkAnswers(RemoteAnswers):
    """The answers in a DataFrame.

    `max_scores`: maximum scores of the items that are scored above 1. `shards`: the latest layout. `lost`: executors
    that were lost before it, or whose loss has been logged since.
    """

    shards: DataFrame

    def __init__(
        self,
        session: SparkSession,
        frame: DataFrame,
        settings: Settings,
        reference: str | None,
        report: Callable[[str], None] = _log.info,
        max_scores: Mapping[str, int] | None = None,
    ) -> None:
        from pyspark.sql import functions as f  # optional dependency, here and below

        self.session, self.frame, self.settings, self._report = session, frame, settings, report
        self._cached: list[DataFrame] = []
        self.max_fetched_bytes = DRIVER_BYTES
        score, given = f.col("score"), f.col("score").isNotNull() & f.col("learner_key").isNotNull()
        found = (
            frame.groupBy("item_id")
            .agg(
                f.count("*").alias("n"),
                f.sum(score).cast("long").alias("right"),
                f.min(score).cast("double").alias("least"),
                f.max(score).cast("double").alias("most"),
                f.sum(f.when(given, 0).otherwise(1)).alias("missing"),
            )
            .collect()
        )
        if any(row.item_id is None or row.missing for row in found):
            raise PsychometricsError(
                "answers to be fitted need a learner_key, an item_id and a score, but some lack one of them"
            )
        found.sort(key=lambda row: row.item_id)
        item_ids = tuple(row.item_id for row in found)
        n = np.array([row.n for row in found], dtype=float)
        most = [(max_scores or {}).get(item, 1) for item in item_ids]
        for row, m in zip(found, most, strict=True):
            other = [x for x in (row.least, row.most) if x not in range(m + 1)]
            if other:
                allowed = "0 or 1" if m == 1 else f"0 … {m}"
                raise PsychometricsError(f"scores must be {allowed}, found {other[0]:g} of item {row.item_id}")
        n_categories = np.array(most, dtype=np.int64) + 1
        scores = self._score_counts(item_ids, n, np.array([row.right for row in found], dtype=float), n_categories)
        super().__init__(item_ids, scores, n_categories, self._groups(reference))

    def _score_counts(self, item_ids: tuple[str, ...], n: Floats, right: Floats, n_categories: Ints) -> Floats:
        """Number of answers with each score, shape (J, C). `n`, `right`: shape (J,), an item's number of answers and
        sum of scores."""
        table = np.zeros((len(item_ids), int(n_categories.max(initial=2))))
        table[:, 0], table[:, 1] = n - right, right
        row_of = {item_ids[j]: j for j in np.flatnonzero(n_categories > 2)}
        table[[*row_of.values()]] = 0
        if row_of:
            scored = self.frame.where(self.frame["item_id"].isin([*row_of])).select("item_id", "score")
            for row in scored.groupBy("item_id", "score").count().collect():
                table[row_of[row.item_id], int(row.score)] = row["count"]
        return table

    def _groups(self, reference: str | None) -> tuple[str, ...]:
        if "group" not in self.frame.columns:
            if reference is not None:
                raise PsychometricsError(f"reference group {reference!r} was named without groups")
            return ()
        persons = self.frame.select("group", "learner_key").distinct().groupBy("group").count().collect()
        sizes = {str(row["group"]): row["count"] for row in persons}
        labels = sorted(sizes)
        if reference is None:
            reference = max(labels, key=sizes.__getitem__)
        if reference not in labels:
            raise PsychometricsError(f"no person is in the reference group {reference!r}; groups: {', '.join(labels)}")
        return tuple(sorted(labels, key=lambda label: label != reference))

    def lay_out(self, layout: Layout) -> Rows:
        self.shards = self._shards(_Builder(layout, self.item_ids, self.categories, self.names))
        self.lost, self._steps = lost_executors(self.session), itertools.count(1)
        known = self.shards.select("shard", "trouble", "n_rows", "n_bytes", *self.FACTS).collect()
        trouble = sorted(row.trouble for row in known if row.trouble)
        if trouble:
            raise PsychometricsError(trouble[0])
        yield from ((row.shard, row.asDict()) for row in known)

    def lay_out_items(self, keep: Mask, **options: Any) -> Any:
        laid = super().lay_out_items(keep, **options)
        if self.in_memory:
            self.close()
        by = "the driver" if self.in_memory else "the executors"
        self._report(
            f"{int(laid.answers.n.sum()):,} answers of {laid.answers.n_persons:,} learners in {self.n_shards} shards "
            f"of {self.n_bytes >> 20} MB in all; sums by {by}"
        )
        return laid

    def add_up(self, work: ShardWork, n_bytes: int) -> Rows:
        return sums_of_bundles(self.shards, work, self.bundles, n_bytes)

    def fetch(self, work: ShardWork | None = None) -> Rows:
        return fetch_shards(self.shards if work is None else map_shards(self.shards, work), self.n_shards, self.n_bytes)

    def report_loglik(self, loglik: float) -> None:
        for executor, why in lost_executors(self.session).items():
            if executor not in self.lost:
                _log.warning("executor %s was lost, and others laid out its shards again: %s", executor, why)
                self.lost[executor] = why
        _log.info("E-step %d on the executors: log-likelihood %.4f", next(self._steps), loglik)

    def _shards(self, build: _Builder) -> DataFrame:
        """One row per shard; consecutive bundles share a partition. There is one partition per core, as a Python task
        costs more than most sums, and more only if partitions would be too large."""
        from pyspark import StorageLevel
        from pyspark.sql import functions as f

        n_bundles = len(self.bundles)
        n_parts = min(n_bundles, max(_cores(self.session), -(-self.n_answers // MAX_PER_PARTITION)))
        shard = (f.crc32(f.col("learner_key").cast("string").cast("binary")) % self.n_shards).cast("int")
        bundle = f"(((shard + 1) * {n_bundles} - 1) div {self.n_shards})"
        part = f.expr(f"({bundle} * {n_parts}) div {n_bundles}").cast("int")
        rows = self.frame.select(
            shard.alias("shard"),
            "learner_key",
            "item_id",
            f.col("score").cast("byte").alias("score"),
            *([f.col("group").cast("string").alias("group")] if len(self.names) > 1 else []),
        )
        placed = rows.repartition(n_parts, self._partition_numbers(n_parts, part))
        ordered = placed.sortWithinPartitions("shard", "learner_key", "item_id")
        shards = ordered.mapInArrow(require_same_packages(build), _Builder.SCHEMA).persist(StorageLevel.MEMORY_AND_DISK)
        self._cached.append(shards)
        return shards

    def _partition_numbers(self, n_parts: int, part: Column) -> Column:
        """A column that replaces each part by a number that Spark's hash partitioning puts in a partition of its
        own."""
        from pyspark.sql import functions as f

        if n_parts == 1:
            return part
        number = self.session.range(40 * n_parts).select("id", f.pmod(f.hash("id"), f.lit(n_parts)).alias("at"))
        number_of = {row["at"]: row["id"] for row in number.collect()}
        return f.array(*(f.lit(number_of[k]).cast("long") for k in range(n_parts)))[part]

    def gather(self) -> tuple[Responses, Ints] | None:
        if self.n_answers > MAX_SHUFFLED:
            return None
        columns = ["learner_key", "item_id", "score", *(["group"] if len(self.names) > 1 else [])]
        found = self.frame.select(*columns).orderBy("learner_key", "item_id").toArrow()
        learners, item = found["learner_key"].combine_chunks(), _codes(found["item_id"], self.item_ids)
        starts = _starts(learners)
        person = (np.cumsum(starts) - 1).astype(np.int32)
        score = found["score"].to_numpy().astype(np.int8)
        group = np.zeros(int(starts.sum()), dtype=np.int64)
        if len(self.names) > 1:
            group = _codes(found["group"], self.names)[starts].astype(np.int64)
        return Responses(person, item, score, len(group), self.item_ids, self.categories), group

    def close(self) -> None:
        """Release the executors' memory."""
        while self._cached:
            self._cached.pop().unpersist()


def _cores(session: SparkSession) -> int:
    """Number of tasks that run at once: Spark splits a range into this many partitions, also under Spark Connect."""
    last = session.range(1_000_000).selectExpr("spark_partition_id() AS part").agg({"part": "max"}).collect()[0][0]
    return int(last) + 1


@dataclass(frozen=True)
class _Builder:
    """Runs on an executor: makes shards from sorted answers."""

    layout: Layout
    item_ids: tuple[str, ...]
    categories: Ints | None
    names: tuple[str, ...]

    SCHEMA = ", ".join(
        [
            "shard int",
            "trouble string",
            "n_rows long",
            "n_bytes long",
            *(f"{name} binary" for name in (*RemoteAnswers.COLUMNS, *RemoteAnswers.FACTS)),
        ]
    )

    def __call__(self, batches: Batches) -> Batches:
        parts: list[_Part] = []
        for batch in batches:
            shard = batch.column("shard").to_numpy()
            edges = [0, *(np.flatnonzero(np.diff(shard)) + 1).tolist(), len(shard)]
            for first, last in itertools.pairwise(edges):
                if first == last:
                    continue
                if parts and parts[0].shard != shard[first]:
                    yield self._shard_row(parts)
                    parts = []
                parts.append(self._part(batch.slice(first, last - first), int(shard[first]), parts))
        if parts:
            yield self._shard_row(parts)

    def _part(self, rows: pa.RecordBatch, shard: int, before: Sequence[_Part]) -> _Part:
        learners, item = rows.column("learner_key"), _codes(rows.column("item_id"), self.item_ids)
        starts = _starts(learners)
        starts[0] = not before or before[-1].last_learner != learners[0].as_py()
        group = np.zeros(len(item), dtype=np.int32)
        if len(self.names) > 1:
            group = _codes(rows.column("group"), self.names)
        score = rows.column("score").to_numpy().astype(np.int8)
        return _Part(shard, learners[len(learners) - 1].as_py(), starts, item, score, group)

    def _shard_row(self, parts: Sequence[_Part]) -> pa.RecordBatch:
        shard = parts[0].shard
        starts, item, score, group = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("starts", "item", "score", "group")
        )
        person = (np.cumsum(starts) - 1).astype(np.int32)
        same = ~starts[1:]
        trouble = None
        if np.any(same & (item[1:] == item[:-1])):
            at = int(np.flatnonzero(same & (item[1:] == item[:-1]))[0])
            trouble = f"person-item pairs occur more than once, of item {self.item_ids[item[at]]} among others"
        elif np.any(same & (group[1:] != group[:-1])):
            trouble = "a learner is in more than one group"
        responses = Responses(person, item, score, int(starts.sum()), self.item_ids, self.categories)
        arrays = self.layout(shard, responses, group[starts].astype(np.int64))
        size, n_bytes = len(arrays["weight"]), sum(arrays[name].nbytes for name in RemoteAnswers.COLUMNS)
        columns = [
            pa.array([shard], pa.int32()),
            pa.array([trouble], pa.string()),
            pa.array([size], pa.int64()),
            pa.array([n_bytes], pa.int64()),
            *(as_binary(array) for array in arrays.values()),
        ]
        return pa.RecordBatch.from_arrays(columns, names=["shard", "trouble", "n_rows", "n_bytes", *arrays])


@dataclass(frozen=True)
class _Part:
    """R answers of a shard: whether each is its learner's first (`starts`), codes of item and group, and score."""

    shard: int
    last_learner: int | str
    starts: npt.NDArray[np.bool_]
    item: npt.NDArray[np.int32]
    score: npt.NDArray[np.int8]
    group: npt.NDArray[np.int32]


def _codes(values: Any, among: Sequence[str]) -> npt.NDArray[np.int32]:
    return pc.index_in(values, value_set=pa.array(among, pa.string())).to_numpy(zero_copy_only=False).astype(np.int32)


def _starts(learners: pa.Array) -> npt.NDArray[np.bool_]:
    """Whether each of the sorted learners differs from the one before."""
    starts = np.ones(len(learners), dtype=bool)
    if len(learners) > 1:
        starts[1:] = pc.not_equal(learners[1:], learners[:-1]).to_numpy(zero_copy_only=False)
    return starts
