"""Work over shards that lie on executors of Apache Spark, one row of a cached DataFrame each.

Each work is one `mapInArrow`: only tables of the items go out, and executors import the library, so that no kernel has
a copy. Shards, their bundles and the order of additions are the library's (`RemoteAnswers`).

What does not belong here: how shards are made (see `answers`), and how a fit proceeds (see `psychometrics`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from irt_psychometrics.estimation import RemoteAnswers, ShardWork
from resources.cluster.spark_executors import with_same_packages
from resources.cluster.spark_rows import options

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Batches = Iterable[pa.RecordBatch]
Rows = Iterator[tuple[int, dict[str, Any]]]

WAVE_BYTES = 512 * 2**20
"""Results that the driver fetches at once, within Spark's own limit of a gigabyte."""
FETCHED_BYTES = 32 * 2**20
"""Shards that the driver fetches at once: a default driver of a gigabyte loses a task's result of some 40 MB."""
ONE_SHARD_A_BATCH = {"spark.sql.execution.arrow.maxRecordsPerBatch": "1"}
"""A task is given one row at a time, so that it holds a shard and not its partition."""


def sums_of_bundles(shards: DataFrame, work: ShardWork, bundles: Sequence[range], n_bytes: int) -> Rows:
    """What the work makes of the shards of each bundle, in order, fetched a few at a time; `n_bytes`: of one."""
    at_once = max(1, WAVE_BYTES // n_bytes)
    for first in range(0, len(bundles), at_once):
        wave = bundles[first : first + at_once]
        rows = shards
        if len(wave) < len(bundles):
            rows = rows.where(f"shard >= {wave[0].start} AND shard < {wave[-1].stop}")
        with options(shards.sparkSession, ONE_SHARD_A_BATCH):
            found = mapped(rows, work).collect()
        yield from sorted(((row["shard"], row.asDict()) for row in found), key=lambda row: row[0])


def mapped(shards: DataFrame, work: ShardWork) -> DataFrame:
    """The shards with the work done on each, or on several together."""

    def done(batches: Batches) -> Batches:
        for shard, row in work(_rows(batches)):
            columns = [pa.array([shard], pa.int32()), *(as_binary(row[name]) for name in work.columns)]
            yield pa.RecordBatch.from_arrays(columns, names=["shard", *work.columns])

    schema = ", ".join(["shard int", *(f"{name} binary" for name in work.columns)])
    return shards.select("shard", *RemoteAnswers.COLUMNS).mapInArrow(with_same_packages(done), schema)


def fetched(shards: DataFrame, n_shards: int, n_bytes: int) -> Rows:
    """The shards, fetched a few at a time; `n_bytes`: of all."""
    at_once = max(1, FETCHED_BYTES * n_shards // max(n_bytes, 1))
    for first in range(0, n_shards, at_once):
        wave = shards.where(f"shard >= {first} AND shard < {first + at_once}") if at_once < n_shards else shards
        with options(shards.sparkSession, ONE_SHARD_A_BATCH):
            found = wave.select("shard", *RemoteAnswers.COLUMNS).toArrow()
        yield from _rows(found.to_batches())


def _rows(batches: Batches) -> Rows:
    for batch in batches:
        for k in range(batch.num_rows):
            values = {name: batch.column(name)[k].as_buffer() for name in RemoteAnswers.COLUMNS}
            yield batch.column("shard")[k].as_py(), values


def as_binary(array: npt.NDArray[Any]) -> pa.Array:
    return pa.array([np.ascontiguousarray(array).tobytes()], pa.binary())
