"""Sums over shards that lie on executors of Apache Spark, one row of a cached DataFrame each.

Each sum is one `mapInArrow`: only tables of the items go out, and executors import this package, so that no kernel has
a copy. Shards, their bundles and the order of additions are those of `psychometrics.estimation.sums`.

What does not belong here: how shards are made (see `answers`), and how a fit proceeds (see `psychometrics`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from irt_psychometrics.core import kernels
from irt_psychometrics.estimation import Answers, ResponseLayout, sums, thinned_shard
from resources.cluster.spark import lost_executors
from resources.cluster.spark_executors import with_same_packages
from resources.cluster.spark_rows import options

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_log = logging.getLogger("irt_assets.calibration")

Batches = Iterable[pa.RecordBatch]

WAVE_BYTES = 512 * 2**20
"""Results that the driver fetches at once, within Spark's own limit of a gigabyte."""
FETCHED_BYTES = 32 * 2**20
"""Shards that the driver fetches at once: a default driver of a gigabyte loses a task's result of some 40 MB."""
ONE_SHARD_A_BATCH = {"spark.sql.execution.arrow.maxRecordsPerBatch": "1"}
"""A task is given one row at a time, so that it holds a shard and not its partition."""
PEOPLE = {
    "set_of": np.int64,
    "set_group": np.int64,
    "set_start": np.int64,
    "set_items": None,
    "right_start": np.int64,
    "right_items": None,
    "weight": np.float64,
}
"""The columns of a shard, `kernels.People`, and their types; of None, that of an index of items."""


@dataclass(frozen=True)
class ShardedAnswers(Answers):
    """The persons of a fit on the executors. `lost`: executors that were lost before the fit, or that the log names."""

    shards: DataFrame = None  # type: ignore[assignment]
    n_shards: int = 1
    n_bytes: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    steps: Iterator[int] = field(default_factory=lambda: itertools.count(1))

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

    def evaluated(self, loglik: float) -> None:
        for executor, why in lost_executors(self.shards.sparkSession).items():
            if executor not in self.lost:
                _log.warning("executor %s was lost, and others laid out its shards again: %s", executor, why)
                self.lost[executor] = why
        _log.info("E-step %d on the executors: log-likelihood %.4f", next(self.steps), loglik)


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
        """The bundles' sums, in order, fetched a few at a time."""
        bundles = sums.bundles(self.n_shards)
        first_of = [bundle.start for bundle in bundles for _ in bundle]
        edges = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

        def add_up(batches: Batches) -> Batches:
            return summed(what, first_of, batches)

        at_once = max(1, WAVE_BYTES // n_bytes)
        for first in range(0, len(bundles), at_once):
            wave = bundles[first : first + at_once]
            rows = self.shards
            if len(wave) < len(bundles):
                rows = rows.where(f"shard >= {wave[0].start} AND shard < {wave[-1].stop}")
            with options(self.shards.sparkSession, ONE_SHARD_A_BATCH):
                found = (
                    rows.select("shard", *PEOPLE)
                    .mapInArrow(with_same_packages(add_up), "shard int, sums binary")
                    .collect()
                )
            of_bundle = {row["shard"]: row["sums"] for row in found}
            for bundle in wave:
                values = of_bundle.pop(bundle.start, None)
                flat = np.frombuffer(values, dtype=np.float64) if values is not None else np.zeros(n_bytes // 8)
                yield np.split(flat, edges)


def summed(what: sums.PersonSum, first_of: Sequence[int], batches: Batches) -> Batches:
    """On an executor: the sums of each bundle of shards, under the number of its first shard, which `first_of`
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


def _row_of_sums(bundle: int, into: sums.Sums) -> pa.RecordBatch:
    flat = np.concatenate([array.ravel() for array in into])
    return pa.RecordBatch.from_arrays([pa.array([bundle], pa.int32()), as_binary(flat)], names=["shard", "sums"])


def _mapped(shards: DataFrame, change: Callable[[kernels.People], kernels.People]) -> DataFrame:
    """The shards with their persons changed."""

    def work(batches: Batches) -> Batches:
        for shard, people in _people(batches):
            changed = change(people)
            columns = [pa.array([shard], pa.int32()), *(as_binary(array) for array in changed)]
            yield pa.RecordBatch.from_arrays(columns, names=["shard", *PEOPLE])

    schema = ", ".join(["shard int", *(f"{name} binary" for name in PEOPLE)])
    return shards.select("shard", *PEOPLE).mapInArrow(work, schema)


def _fetched(shards: DataFrame, n_shards: int, at_once: int) -> Iterator[tuple[int, kernels.People]]:
    """The shards, fetched so many at once."""
    for first in range(0, n_shards, at_once):
        wave = shards.where(f"shard >= {first} AND shard < {first + at_once}") if at_once < n_shards else shards
        with options(shards.sparkSession, ONE_SHARD_A_BATCH):
            found = wave.select("shard", *PEOPLE).toArrow()
        yield from _people(found.to_batches())


def _filled(found: Iterator[tuple[int, kernels.People]], n_shards: int) -> list[kernels.People]:
    """All shards in order; those without a learner are not stored."""
    known = dict(found)
    index = next(iter(known.values())).set_items.dtype
    nobody = _people_of(dict.fromkeys(PEOPLE, b""), index)
    start = np.zeros(1, dtype=np.int64)
    nobody = nobody._replace(set_start=start, right_start=start.copy())
    return [known.get(shard, nobody) for shard in range(n_shards)]


def _people(batches: Batches) -> Iterator[tuple[int, kernels.People]]:
    for batch in batches:
        for k in range(batch.num_rows):
            values = {name: batch.column(name)[k].as_buffer() for name in PEOPLE}
            yield batch.column("shard")[k].as_py(), _people_of(values)


def _people_of(values: Mapping[str, Any], index: npt.DTypeLike | None = None) -> kernels.People:
    """Writable arrays, since kernels would be compiled once more for others."""
    set_start = np.frombuffer(values["set_start"], dtype=np.int64)
    if index is None:
        wide = len(memoryview(values["set_items"])) == 4 * set_start[-1]
        index = np.int32 if wide and set_start[-1] else np.uint16
    arrays = {name: np.frombuffer(values[name], dtype=dtype or index) for name, dtype in PEOPLE.items()}
    return kernels.People(**{name: np.require(array, requirements=["C", "W", "A"]) for name, array in arrays.items()})


def as_binary(array: npt.NDArray[Any]) -> pa.Array:
    return pa.array([np.ascontiguousarray(array).tobytes()], pa.binary())
