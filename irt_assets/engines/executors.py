"""The em engine on Apache Spark: learners' answers stay on the executors in shards, and sums over learners come back.

A shard is a row of a cached DataFrame, in the layout that kernels read. Each sum is one `mapInArrow` over it: only
tables of the items go out, and executors import this package, so that no kernel has a copy. Shards, their groups and
the order of additions are those of `psychometrics.estimation.sums`: a fit is the same bit for bit as in memory, on one
CPU type. Where the shards fit the driver they are fetched, and its threads add up.

What does not belong here: which answers count (see `responses`), and how a fit proceeds (see `psychometrics`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.engines.em import EmEngine
from irt_assets.psychometrics.core import kernels
from irt_assets.psychometrics.core.design import Links
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.item_models import item_model
from irt_assets.psychometrics.core.models import Calibration, Responses
from irt_assets.psychometrics.core.options import DEFAULT_MODEL, Latent, Model
from irt_assets.psychometrics.estimation import sums
from irt_assets.psychometrics.estimation.em import fit_source
from irt_assets.psychometrics.estimation.em_request import EVERYONE, Persons
from irt_assets.psychometrics.estimation.response_layout import (
    Answers,
    Counts,
    Listing,
    Mask,
    ResponseLayout,
    listed_answers,
    thinned_shard,
)
from irt_assets.psychometrics.estimation.source import Facts, LaidOut, facts
from irt_assets.psychometrics.fit.item_sums import ItemSums
from resources.settings import Settings
from resources.spark import lost_executors, spark_jobs
from resources.spark_executors import with_same_packages
from resources.spark_rows import options

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from irt_assets.psychometrics.core.anchors import AnchorSet
    from irt_assets.psychometrics.core.priors import Priors

_log = logging.getLogger("irt_assets.calibration")

Batches = Iterable[pa.RecordBatch]

WAVE_BYTES = 512 * 2**20
"""Results that the driver fetches at once, within Spark's own limit of a gigabyte."""
FETCHED_BYTES = 32 * 2**20
"""Shards that the driver fetches at once: a default driver of a gigabyte loses a task's result of some 40 MB."""
MOST_IN_A_PARTITION = 50_000_000
"""Answers of a partition that is laid out and recomputed as one, where there are groups enough for more partitions."""
ONE_SHARD_A_BATCH = {"spark.sql.execution.arrow.maxRecordsPerBatch": "1"}
"""A task is given one row at a time, so that it holds a shard and not its partition."""
MOST_SHUFFLED = 20_000_000
"""Answers that the driver reads to compare them with shuffled ones, where a fit hardly gains on chance."""
_PEOPLE = {
    "set_of": np.int64,
    "set_group": np.int64,
    "set_start": np.int64,
    "set_items": None,
    "right_start": np.int64,
    "right_items": None,
    "weight": np.float64,
}
"""The columns of a shard, `kernels.People`, and their types; of None, that of an index of items."""
_FACTS = {"parent": np.int64, "persons": np.int64, "code": np.uint64, "informative": np.float64}


def fit_on_spark(
    session: SparkSession,
    frame: DataFrame,
    settings: Settings,
    *,
    model: Model = DEFAULT_MODEL,
    priors: Priors | None = None,
    anchors: AnchorSet | None = None,
    reference: str | None = None,
    latent: Latent = "normal",
    testlets: Mapping[str, str] | None = None,
    data_hash: str = "",
    start: Calibration | None = None,
    likelihood_only: bool = False,
    report: Callable[[str], None] = _log.info,
    then: Callable[[Answers, Calibration], None] | None = None,
) -> Calibration:
    """`fit_em` of the scored answers in `frame`: user_id, item_id and score, and with groups the column `group`, the
    same for all answers of a learner.

    The answers are laid out on the executors. IRT_SPARK_FIT says where sums are computed; `report` is called with a
    sentence on where they are. `then` is called with the answers and their fit, before executors give them up.

    Raises PsychometricsError as `fit_em` does, and for what is fitted on one machine only: weights of learners and
    items of several categories.
    """
    if "weight" in frame.columns:
        raise PsychometricsError("weights of learners are not carried over to Spark: fit on one machine")
    if not item_model(model).two_categories:
        raise PsychometricsError(f"a {item_model(model).spoken} is not fitted on Spark yet: fit it on one machine")
    answers = SparkAnswers(session, frame, settings, reference, report)
    try:
        found = fit_source(
            lambda: answers,
            answers,
            model=model,
            priors=priors,
            anchors=anchors,
            latent=latent,
            testlets=testlets,
            threads=settings.irt_threads,
            data_hash=data_hash,
            start=start,
            likelihood_only=likelihood_only,
        )
        if then is not None:
            assert answers.there is not None
            then(answers.there, found)
        return found
    finally:
        answers.close()


@dataclass
class EmOnSpark(EmEngine):
    """The em engine where the answers of `responses`, or those that these are a sample of, are in a DataFrame: fits of
    `responses` are made of all of them on Spark, and fits of any others in this process.

    `sampled`: `responses` are a sample, so that sums over everybody are kept for the statistics."""

    session: SparkSession = field(kw_only=True)
    frame: DataFrame = field(kw_only=True)
    settings: Settings = field(kw_only=True)
    responses: Responses = field(kw_only=True)
    sampled: bool = field(kw_only=True)
    _sums: list[tuple[Calibration, ItemSums]] = field(default_factory=list, init=False)

    def calibrate(self, responses: Responses, *, data_hash: str, **how: Any) -> Calibration:
        """See `fit_em`. Raises PsychometricsError where the scale has groups of learners."""
        if responses is not self.responses:
            return super().calibrate(responses, data_hash=data_hash, **how)
        if how.pop("groups", None) is not None:
            raise PsychometricsError(
                "a scale whose items are assigned by level is fitted in groups of learners, which months do not do on "
                "executors yet: set IRT_SPARK_FIT=driver"
            )
        then = self._keep_sums if self.sampled else None
        how |= {"data_hash": data_hash, "report": self._report, "then": then}
        with spark_jobs(self.session, "fit of item parameters"):
            return fit_on_spark(self.session, self.frame, self.settings, **how)

    def item_sums(self, calibration: Calibration) -> ItemSums | None:
        return next((sums for known, sums in self._sums if known is calibration), None)

    def _keep_sums(self, answers: Answers, calibration: Calibration) -> None:
        if calibration.convergence.converged:
            self._sums.append((calibration, ItemSums.of(answers, calibration, threads=self.settings.irt_threads)))

    def _report(self, sentence: str) -> None:
        _log.info(sentence)
        self.summed = sentence


class SparkAnswers:
    """A `Source` of the answers in a DataFrame. `there`: as they were laid out last."""

    def __init__(
        self,
        session: SparkSession,
        frame: DataFrame,
        settings: Settings,
        reference: str | None,
        report: Callable[[str], None] = _log.info,
    ) -> None:
        from pyspark.sql import functions as f

        self.session, self.frame, self.settings, self._report = session, frame, settings, report
        self._cached: list[DataFrame] = []
        self.there: Answers | None = None
        score, given = f.col("score"), f.col("score").isNotNull() & f.col("user_id").isNotNull()
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
            raise PsychometricsError("answers to be fitted need a user_id, an item_id and a score; some have none")
        wrong = [row for row in found if row.least not in (0, 1) or row.most not in (0, 1)]
        if wrong:
            other = next(x for x in (wrong[0].least, wrong[0].most) if x not in (0, 1))
            raise PsychometricsError(f"scores must be 0 or 1, found {other:g} of item {wrong[0].item_id}")
        found.sort(key=lambda row: row.item_id)
        self.item_ids = tuple(row.item_id for row in found)
        self._right = np.array([row.right for row in found], dtype=float)
        self._n = np.array([row.n for row in found], dtype=float)
        self.n_shards = sums.number_of_shards(int(self._n.sum()))
        self.names = self._groups(reference)

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

    @property
    def n_categories(self) -> npt.NDArray[np.int64]:
        return np.full(self.n_items, 2)

    def counts(self) -> Counts:
        table = np.stack([self._n - self._right, self._right], axis=1)
        return Counts(self._n, self._right, table, self.n_categories)

    def laid_out(self, keep: Mask, *, rarer: bool, by_category: bool) -> LaidOut:
        counts, ids = self.counts(), tuple(np.array(self.item_ids, dtype=object)[keep])
        of_kept = Counts(counts.n[keep], counts.correct[keep], counts.table[keep], counts.categories[keep])
        answers, listing = listed_answers(of_kept, ids, len(self.names), rarer, by_category)
        shards = self._shards(_Builder(self.item_ids, keep, self.names, listing, self.n_shards))
        known = shards.select("shard", "trouble", "size", "bytes", *_FACTS).collect()
        trouble = sorted(row.trouble for row in known if row.trouble)
        if trouble:
            raise PsychometricsError(trouble[0])
        known.sort(key=lambda row: row.shard)
        size = sum(row.size for row in known)
        held = {field.name: getattr(answers, field.name) for field in fields(Answers)}
        n_bytes = sum(row.bytes for row in known)
        sharded = ShardedAnswers(
            **{**held, "size": size, "weight": float(size)}, shards=shards, n_shards=self.n_shards, n_bytes=n_bytes
        )
        self.there = sharded
        where = self.settings.irt_spark_fit
        if where == "driver" or (where == "auto" and n_bytes <= self.settings.irt_spark_fit_bytes):
            self.there = fetched(sharded)
            self.close()
        by = "the driver" if isinstance(self.there, ResponseLayout) else "the executors"
        self._report(
            f"{int(of_kept.n.sum()):,} answers of {size:,} learners in {self.n_shards} shards of {n_bytes >> 20} MB in "
            f"all; sums by {by}"
        )
        return LaidOut.of(self.there, map(_facts, known))

    def _shards(self, build: _Builder) -> DataFrame:
        """One row a shard, those of consecutive groups in one partition: a Python task costs more than most sums, so
        that there are no more partitions than cores, save where they were too large."""
        from pyspark import StorageLevel
        from pyspark.sql import functions as f

        n_groups = len(sums.groups(self.n_shards))
        n_parts = min(n_groups, max(_cores(self.session), -(-int(self._n.sum()) // MOST_IN_A_PARTITION)))
        shard = (f.crc32(f.col("user_id").cast("binary")) % self.n_shards).cast("int")
        group_number = f"(((shard + 1) * {n_groups} - 1) div {self.n_shards})"
        part = f.expr(f"({group_number} * {n_parts}) div {n_groups}").cast("int")
        rows = self.frame.select(
            shard.alias("shard"),
            "user_id",
            "item_id",
            f.col("score").cast("byte").alias("score"),
            *([f.col("group").cast("string").alias("group")] if len(self.names) > 1 else []),
        )
        placed = rows.repartition(n_parts, self._places(n_parts, part))
        ordered = placed.sortWithinPartitions("shard", "user_id", "item_id")
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
        columns = ["user_id", "item_id", "score", *(["group"] if len(self.names) > 1 else [])]
        found = self.frame.select(*columns).orderBy("user_id", "item_id").toArrow()
        users, item = found["user_id"].combine_chunks(), _codes(found["item_id"], self.item_ids)
        starts = _starts(users)
        person = (np.cumsum(starts) - 1).astype(np.int32)
        score = found["score"].to_numpy().astype(np.int8)
        group = np.zeros(int(starts.sum()), dtype=np.int64)
        if len(self.names) > 1:
            group = _codes(found["group"], self.names)[starts].astype(np.int64)
        responses = Responses(person, item, score, len(group), self.item_ids)
        kept = responses if keep.all() else responses.of_items(keep)
        return kept, Persons(self.names, group, np.ones(len(group)))

    def close(self) -> None:
        """Gives the executors' memory back."""
        while self._cached:
            self._cached.pop().unpersist()


@dataclass(frozen=True)
class ShardedAnswers(Answers):
    """The persons of a fit on the executors."""

    shards: DataFrame = None  # type: ignore[assignment]
    n_shards: int = 1
    n_bytes: int = 0

    def sums(self, run: kernels.Run) -> sums.SumOverPersons:  # noqa: ARG002
        return ExecutorSums(self.shards, self.n_shards)

    def thinned(self, step: int) -> ResponseLayout:
        rare = self.rare(step)
        thin = _mapped(self.shards, lambda people: thinned_shard(people, rare, step))
        return self.sample_of(self.fetched(thin))

    def fetched(self, shards: DataFrame) -> list[kernels.People]:
        """These shards, or what was made of each, in the driver's memory and in order."""
        at_once = max(1, FETCHED_BYTES * self.n_shards // max(self.n_bytes, 1))
        return _filled(_fetched(shards, self.n_shards, at_once), self.n_shards)

    @cached_property
    def _steps(self) -> Iterator[int]:
        return itertools.count(1)

    @cached_property
    def _lost(self) -> dict[str, str]:
        """Executors that were lost before the fit, or that the log has named."""
        return lost_executors(self.shards.sparkSession)

    def evaluated(self, loglik: float) -> None:
        known = self._lost
        for executor, why in lost_executors(self.shards.sparkSession).items():
            if executor not in known:
                _log.warning("executor %s was lost, and others laid out its shards again: %s", executor, why)
                known[executor] = why
        _log.info("E-step %d on the executors: log-likelihood %.4f", next(self._steps), loglik)


def fetched(answers: ShardedAnswers) -> ResponseLayout:
    """The same persons in the driver's memory."""
    return ResponseLayout.holding(answers.fetched(answers.shards), answers)


@dataclass(frozen=True)
class ExecutorSums:
    """A `SumOverPersons` of shards on executors."""

    shards: DataFrame
    n_shards: int

    def __call__(self, what: sums.PersonSum) -> sums.Sums:
        zeros = what.zeros()
        shapes, n_bytes = [array.shape for array in zeros], sum(array.nbytes for array in zeros)
        del zeros
        return sums.added(
            tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
            for parts in self._parts(what, shapes, n_bytes)
        )

    def _parts(
        self, what: sums.PersonSum, shapes: Sequence[tuple[int, ...]], n_bytes: int
    ) -> Iterator[list[sums.Array]]:
        """The groups' sums, in order, fetched a few at a time."""
        groups = sums.groups(self.n_shards)
        first_of = [group.start for group in groups for _ in group]
        edges = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

        def add_up(batches: Batches) -> Batches:
            return summed(what, first_of, batches)

        at_once = max(1, WAVE_BYTES // n_bytes)
        for first in range(0, len(groups), at_once):
            wave = groups[first : first + at_once]
            rows = self.shards
            if len(wave) < len(groups):
                rows = rows.where(f"shard >= {wave[0].start} AND shard < {wave[-1].stop}")
            with options(self.shards.sparkSession, ONE_SHARD_A_BATCH):
                found = (
                    rows.select("shard", *_PEOPLE)
                    .mapInArrow(with_same_packages(add_up), "shard int, sums binary")
                    .collect()
                )
            of_group = {row["shard"]: row["sums"] for row in found}
            for group in wave:
                values = of_group.pop(group.start, None)
                flat = np.frombuffer(values, dtype=np.float64) if values is not None else np.zeros(n_bytes // 8)
                yield np.split(flat, edges)


def _cores(session: SparkSession) -> int:
    """How many tasks run at once: Spark cuts a range into as many partitions, under Spark Connect too."""
    last = session.range(1_000_000).selectExpr("spark_partition_id() AS part").agg({"part": "max"}).collect()[0][0]
    return int(last) + 1


def summed(what: sums.PersonSum, first_of: Sequence[int], batches: Batches) -> Batches:
    """On an executor: the sums of each group of shards, under the number of the group's first shard, which `first_of`
    (S,) has for each."""
    into: sums.Sums = ()
    current = -1
    for shard, people in _people(batches):
        if len(first_of) == 1:
            into = sums.added(sums.over(what, piece) for piece in sums.pieces([people]))
            current = 0
            continue
        if first_of[shard] != current:
            if current >= 0:
                yield _row_of_sums(current, into)
            current, into = first_of[shard], what.zeros()
        what.add(0, len(people.set_of), people, into)
    if current >= 0:
        yield _row_of_sums(current, into)


def _row_of_sums(group: int, into: sums.Sums) -> pa.RecordBatch:
    flat = np.concatenate([array.ravel() for array in into])
    return pa.RecordBatch.from_arrays([pa.array([group], pa.int32()), _binary(flat)], names=["shard", "sums"])


def _mapped(shards: DataFrame, change: Callable[[kernels.People], kernels.People]) -> DataFrame:
    """The shards with their persons changed."""

    def work(batches: Batches) -> Batches:
        for shard, people in _people(batches):
            changed = change(people)
            columns = [pa.array([shard], pa.int32()), *(_binary(array) for array in changed)]
            yield pa.RecordBatch.from_arrays(columns, names=["shard", *_PEOPLE])

    schema = ", ".join(["shard int", *(f"{name} binary" for name in _PEOPLE)])
    return shards.select("shard", *_PEOPLE).mapInArrow(work, schema)


def _fetched(shards: DataFrame, n_shards: int, at_once: int) -> Iterator[tuple[int, kernels.People]]:
    """The shards, fetched so many at once."""
    for first in range(0, n_shards, at_once):
        wave = shards.where(f"shard >= {first} AND shard < {first + at_once}") if at_once < n_shards else shards
        with options(shards.sparkSession, ONE_SHARD_A_BATCH):
            found = wave.select("shard", *_PEOPLE).toArrow()
        yield from _people(found.to_batches())


def _filled(found: Iterator[tuple[int, kernels.People]], n_shards: int) -> list[kernels.People]:
    """All shards in order; those without a learner are not stored."""
    known = dict(found)
    index = next(iter(known.values())).set_items.dtype
    nobody = _people_of(dict.fromkeys(_PEOPLE, b""), index)
    start = np.zeros(1, dtype=np.int64)
    nobody = nobody._replace(set_start=start, right_start=start.copy())
    return [known.get(shard, nobody) for shard in range(n_shards)]


def _people(batches: Batches) -> Iterator[tuple[int, kernels.People]]:
    for batch in batches:
        for k in range(batch.num_rows):
            values = {name: batch.column(name)[k].as_buffer() for name in _PEOPLE}
            yield batch.column("shard")[k].as_py(), _people_of(values)


def _people_of(values: Mapping[str, Any], index: npt.DTypeLike | None = None) -> kernels.People:
    """Writable arrays, since kernels would be compiled once more for others."""
    set_start = np.frombuffer(values["set_start"], dtype=np.int64)
    if index is None:
        wide = len(memoryview(values["set_items"])) == 4 * set_start[-1]
        index = np.int32 if wide and set_start[-1] else np.uint16
    arrays = {name: np.frombuffer(values[name], dtype=dtype or index) for name, dtype in _PEOPLE.items()}
    return kernels.People(**{name: np.require(array, requirements=["C", "W", "A"]) for name, array in arrays.items()})


@dataclass(frozen=True)
class _Builder:
    """On an executor: makes shards of sorted answers."""

    item_ids: tuple[str, ...]
    keep: Mask
    names: tuple[str, ...]
    listing: Listing
    n_shards: int

    SCHEMA = ", ".join(
        [
            "shard int",
            "trouble string",
            "size long",
            "bytes long",
            *(f"{name} binary" for name in (*_PEOPLE, *_FACTS)),
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
        users, item = rows.column("user_id"), _codes(rows.column("item_id"), self.item_ids)
        starts = _starts(users)
        starts[0] = not before or before[-1].last_user != users[0].as_py()
        group = np.zeros(len(item), dtype=np.int32)
        if len(self.names) > 1:
            group = _codes(rows.column("group"), self.names)
        score = rows.column("score").to_numpy().astype(np.int8)
        return _Part(shard, users[len(users) - 1].as_py(), starts, item, score, group)

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
        responses = Responses(person, item, score, int(starts.sum()), self.item_ids)
        kept = responses if self.keep.all() else responses.of_items(self.keep)
        weights = np.ones(kept.n_persons)
        (made,) = self.listing.shards(kept, group[starts].astype(np.int64), weights, self.n_shards, only=shard)
        links, code, informative = facts(made)
        arrays = [*made.people, links.parent, links.persons, code, informative]
        size, n_bytes = len(made.people.weight), sum(array.nbytes for array in made.people)
        columns = [
            pa.array([shard], pa.int32()),
            pa.array([trouble], pa.string()),
            pa.array([size], pa.int64()),
            pa.array([n_bytes], pa.int64()),
            *(_binary(array) for array in arrays),
        ]
        return pa.RecordBatch.from_arrays(columns, names=["shard", "trouble", "size", "bytes", *_PEOPLE, *_FACTS])


@dataclass(frozen=True)
class _Part:
    """Some answers of a shard: whether each is the first of its learner, the codes of item and group, the score."""

    shard: int
    last_user: str
    starts: npt.NDArray[np.bool_]
    item: npt.NDArray[np.int32]
    score: npt.NDArray[np.int8]
    group: npt.NDArray[np.int32]


def _facts(row: Any) -> Facts:
    found: dict[str, Any] = {name: np.frombuffer(row[name], dtype=dtype).copy() for name, dtype in _FACTS.items()}
    return Links(found["parent"], found["persons"]), found["code"], found["informative"]


def _codes(values: Any, among: Sequence[str]) -> npt.NDArray[np.int32]:
    return pc.index_in(values, value_set=pa.array(among, pa.string())).to_numpy(zero_copy_only=False).astype(np.int32)


def _starts(users: pa.Array) -> npt.NDArray[np.bool_]:
    """Whether each of the sorted users is another than the one before."""
    starts = np.ones(len(users), dtype=bool)
    if len(users) > 1:
        starts[1:] = pc.not_equal(users[1:], users[:-1]).to_numpy(zero_copy_only=False)
    return starts


def _binary(array: npt.NDArray[Any]) -> pa.Array:
    return pa.array([np.ascontiguousarray(array).tobytes()], pa.binary())
