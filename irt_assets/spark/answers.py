"""Answers in a DataFrame of Apache Spark, laid out by executors as `psychometrics.estimation` reads them.

What does not belong here: which answers count (see `responses`), and sums over the shards (see `sums`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.arrays import Floats, Ints, Mask
from irt_assets.spark.sums import PEOPLE, Batches, ShardedAnswers, as_binary, fetched
from irt_psychometrics import PsychometricsError, Responses
from irt_psychometrics.estimation import (
    EVERYONE,
    Answers,
    Counts,
    Facts,
    LaidOut,
    Links,
    Listing,
    Persons,
    ResponseLayout,
    listed_answers,
    sums,
)
from resources.cluster.spark import lost_executors
from resources.cluster.spark_executors import with_same_packages
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_log = logging.getLogger("irt_assets.calibration")

MOST_IN_A_PARTITION = 50_000_000
"""Answers of a partition that is laid out and recomputed as one, where there are bundles enough for more partitions."""
MOST_SHUFFLED = 20_000_000
"""Answers that the driver reads to compare them with shuffled ones, where a fit hardly gains on chance."""
DRIVER_BYTES = 4_000_000_000
"""The size of answers, about 1.5 bytes each, up to which the driver computes a fit."""
_FACTS = {"parent": np.int64, "persons": np.int64, "code": np.uint64, "informative": np.float64}


class SparkAnswers:
    """A `Source` of the answers in a DataFrame. `there`: as they were laid out last. `max_scores`: of the items that
    are scored above 1."""

    def __init__(
        self,
        session: SparkSession,
        frame: DataFrame,
        settings: Settings,
        reference: str | None,
        report: Callable[[str], None] = _log.info,
        max_scores: Mapping[str, int] | None = None,
    ) -> None:
        from pyspark.sql import functions as f  # an extra, here and below

        self.session, self.frame, self.settings, self._report = session, frame, settings, report
        self._cached: list[DataFrame] = []
        self.there: Answers | None = None
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
            raise PsychometricsError("answers to be fitted need a learner_key, an item_id and a score; some have none")
        found.sort(key=lambda row: row.item_id)
        self.item_ids = tuple(row.item_id for row in found)
        self._n = np.array([row.n for row in found], dtype=float)
        most = [(max_scores or {}).get(item, 1) for item in self.item_ids]
        self.n_categories = np.array(most, dtype=np.int64) + 1
        for row, m in zip(found, most, strict=True):
            other = [x for x in (row.least, row.most) if x not in range(m + 1)]
            if other:
                allowed = "0 or 1" if m == 1 else f"0 … {m}"
                raise PsychometricsError(f"scores must be {allowed}, found {other[0]:g} of item {row.item_id}")
        self._table = self._counted(np.array([row.right for row in found], dtype=float))
        self.n_shards = sums.number_of_shards(int(self._n.sum()))
        self.names = self._groups(reference)

    def _counted(self, right: Floats) -> Floats:
        """Shape (J, C): how many answers have each score; `right` (J,): the sum of an item's scores."""
        table = np.zeros((self.n_items, int(self.n_categories.max(initial=2))))
        table[:, 0], table[:, 1] = self._n - right, right
        place = {self.item_ids[j]: j for j in np.flatnonzero(self.n_categories > 2)}
        table[[*place.values()]] = 0
        if place:
            scored = self.frame.where(self.frame["item_id"].isin([*place])).select("item_id", "score")
            for row in scored.groupBy("item_id", "score").count().collect():
                table[place[row.item_id], int(row.score)] = row["count"]
        return table

    def _groups(self, reference: str | None) -> tuple[str, ...]:
        if "group" not in self.frame.columns:
            if reference is not None:
                raise PsychometricsError(f"reference group {reference!r} was named without groups")
            return (EVERYONE,)
        labels = sorted(str(row.group) for row in self.frame.select("group").distinct().collect())
        if reference is not None and reference not in labels:
            raise PsychometricsError(f"no person is in the reference group {reference!r}; groups: {', '.join(labels)}")
        return tuple(sorted(labels, key=lambda label: reference is not None and label != reference))

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    def counts(self) -> Counts:
        correct = self._table[np.arange(self.n_items), self.n_categories - 1]
        return Counts(self._n, correct, self._table, self.n_categories)

    @property
    def _categories(self) -> Ints | None:
        """As `Responses` have them."""
        return self.n_categories if (self.n_categories > 2).any() else None

    def laid_out(self, keep: Mask, *, rarer: bool, by_category: bool) -> LaidOut:
        counts, ids = self.counts(), tuple(np.array(self.item_ids, dtype=object)[keep])
        of_kept = counts.select(keep)
        answers, listing = listed_answers(of_kept, ids, len(self.names), rarer, by_category)
        build = _Builder(self.item_ids, keep, self.names, listing, self.n_shards, self._categories)
        shards = self._shards(build)
        known = shards.select("shard", "trouble", "size", "bytes", *_FACTS).collect()
        trouble = sorted(row.trouble for row in known if row.trouble)
        if trouble:
            raise PsychometricsError(trouble[0])
        known.sort(key=lambda row: row.shard)
        size = sum(row.size for row in known)
        held = {field.name: getattr(answers, field.name) for field in fields(Answers)}
        n_bytes = sum(row.bytes for row in known)
        sharded = ShardedAnswers(
            **{**held, "size": size, "weight": float(size)},
            shards=shards,
            n_shards=self.n_shards,
            n_bytes=n_bytes,
            lost=lost_executors(self.session),
        )
        self.there = sharded
        if n_bytes <= DRIVER_BYTES:
            self.there = fetched(sharded)
            self.close()
        by = "the driver" if isinstance(self.there, ResponseLayout) else "the executors"
        self._report(
            f"{int(of_kept.n.sum()):,} answers of {size:,} learners in {self.n_shards} shards of {n_bytes >> 20} MB in "
            f"all; sums by {by}"
        )
        return LaidOut.of(self.there, map(_facts, known))

    def _shards(self, build: _Builder) -> DataFrame:
        """One row a shard, those of consecutive bundles in one partition: a Python task costs more than most sums, so
        that there are no more partitions than cores, save where they were too large."""
        from pyspark import StorageLevel
        from pyspark.sql import functions as f

        n_bundles = len(sums.bundles(self.n_shards))
        n_parts = min(n_bundles, max(_cores(self.session), -(-int(self._n.sum()) // MOST_IN_A_PARTITION)))
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
        placed = rows.repartition(n_parts, self._places(n_parts, part))
        ordered = placed.sortWithinPartitions("shard", "learner_key", "item_id")
        shards = ordered.mapInArrow(with_same_packages(build), _Builder.SCHEMA).persist(StorageLevel.MEMORY_AND_DISK)
        self._cached.append(shards)
        return shards

    def _places(self, n_parts: int, part: Column) -> Column:
        """A number for each part that Spark's hash partitioning sends to a partition of its own."""
        from pyspark.sql import functions as f

        if n_parts == 1:
            return part
        number = self.session.range(40 * n_parts).select("id", f.pmod(f.hash("id"), f.lit(n_parts)).alias("at"))
        place = {row["at"]: row["id"] for row in number.collect()}
        return f.array(*(f.lit(place[k]).cast("long") for k in range(n_parts)))[part]

    def gathered(self, keep: Mask) -> tuple[Responses, Persons] | None:
        if self._n.sum() > MOST_SHUFFLED:
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
        responses = Responses(person, item, score, len(group), self.item_ids, self._categories)
        kept = responses if keep.all() else responses.of_items(keep)
        return kept, Persons(self.names, group, np.ones(len(group)))

    def close(self) -> None:
        """Gives the executors' memory back."""
        while self._cached:
            self._cached.pop().unpersist()


def _cores(session: SparkSession) -> int:
    """How many tasks run at once: Spark cuts a range into as many partitions, under Spark Connect too."""
    last = session.range(1_000_000).selectExpr("spark_partition_id() AS part").agg({"part": "max"}).collect()[0][0]
    return int(last) + 1


@dataclass(frozen=True)
class _Builder:
    """On an executor: makes shards of sorted answers."""

    item_ids: tuple[str, ...]
    keep: Mask
    names: tuple[str, ...]
    listing: Listing
    n_shards: int
    categories: Ints | None = None

    SCHEMA = ", ".join(
        [
            "shard int",
            "trouble string",
            "size long",
            "bytes long",
            *(f"{name} binary" for name in (*PEOPLE, *_FACTS)),
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
                    yield self._built(parts)
                    parts = []
                parts.append(self._part(batch.slice(first, last - first), int(shard[first]), parts))
        if parts:
            yield self._built(parts)

    def _part(self, rows: pa.RecordBatch, shard: int, before: Sequence[_Part]) -> _Part:
        learners, item = rows.column("learner_key"), _codes(rows.column("item_id"), self.item_ids)
        starts = _starts(learners)
        starts[0] = not before or before[-1].last_learner != learners[0].as_py()
        group = np.zeros(len(item), dtype=np.int32)
        if len(self.names) > 1:
            group = _codes(rows.column("group"), self.names)
        score = rows.column("score").to_numpy().astype(np.int8)
        return _Part(shard, learners[len(learners) - 1].as_py(), starts, item, score, group)

    def _built(self, parts: Sequence[_Part]) -> pa.RecordBatch:
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
            trouble = "a learner stands in more than one group"
        responses = Responses(person, item, score, int(starts.sum()), self.item_ids, self.categories)
        kept = responses if self.keep.all() else responses.of_items(self.keep)
        weights = np.ones(kept.n_persons)
        (made,) = self.listing.shards(kept, group[starts].astype(np.int64), weights, self.n_shards, only=shard)
        links, code, informative = made.facts
        arrays = [*made.people, links.parent, links.persons, code, informative]
        size, n_bytes = len(made.people.weight), sum(array.nbytes for array in made.people)
        columns = [
            pa.array([shard], pa.int32()),
            pa.array([trouble], pa.string()),
            pa.array([size], pa.int64()),
            pa.array([n_bytes], pa.int64()),
            *(as_binary(array) for array in arrays),
        ]
        return pa.RecordBatch.from_arrays(columns, names=["shard", "trouble", "size", "bytes", *PEOPLE, *_FACTS])


@dataclass(frozen=True)
class _Part:
    """Some answers of a shard: whether each is the first of its learner, the codes of item and group, the score."""

    shard: int
    last_learner: int | str
    starts: npt.NDArray[np.bool_]
    item: npt.NDArray[np.int32]
    score: npt.NDArray[np.int8]
    group: npt.NDArray[np.int32]


def _facts(row: Any) -> Facts:
    found: dict[str, Any] = {name: np.frombuffer(row[name], dtype=dtype).copy() for name, dtype in _FACTS.items()}
    return Facts(Links(found["parent"], found["persons"]), found["code"], found["informative"])


def _codes(values: Any, among: Sequence[str]) -> npt.NDArray[np.int32]:
    return pc.index_in(values, value_set=pa.array(among, pa.string())).to_numpy(zero_copy_only=False).astype(np.int32)


def _starts(learners: pa.Array) -> npt.NDArray[np.bool_]:
    """Whether each of the sorted learners differs from the one before."""
    starts = np.ones(len(learners), dtype=bool)
    if len(learners) > 1:
        starts[1:] = pc.not_equal(learners[1:], learners[:-1]).to_numpy(zero_copy_only=False)
    return starts
