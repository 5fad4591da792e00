"""Work on shards of answers on Apache Spark's executors, where each shard is a row of a cached DataFrame.

Each piece of work is one `mapInArrow`. Only tables of the items are sent to the executors, which import the library, so
the kernels exist once. The library defines shards, bundles and the order of additions (`RemoteAnswers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from irt_psychometrics.estimation import RemoteAnswers, ShardWork
from resources.cluster.spark_executors import require_same_packages
from resources.cluster.spark_rows import options

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Batches = Iterable[pa.RecordBatch]
Rows = Iterator[tuple[int, dict[str, Any]]]

WAVE_BYTES = 512 * 2**20
"""Bytes of results that the driver fetches at once, within Spark's own limit of a gigabyte."""
FETCHED_BYTES = 32 * 2**20
"""Bytes of shards that the driver fetches at once: Spark's default driver of 1 GB loses task results of some 40 MB."""
ONE_SHARD_A_BATCH = {"spark.sql.execution.arrow.maxRecordsPerBatch": "1"}
"""Makes a task read one row at a time, so that it holds one shard in memory and not its whole partition."""


def sums_of_bundles(shards: DataFrame, work: ShardWork, bundles: Sequence[range], n_bytes: int) -> Rows:
    """Yield the results of the work for each bundle of shards, in order, fetched a few at a time.

    `n_bytes`: size of one result.
    """
    at_once = max(1, WAVE_BYTES // n_bytes)
    for first in range(0, len(bundles), at_once):
        wave = bundles[first : first + at_once]
        rows = shards
        if len(wave) < len(bundles):
            rows = rows.where(f"shard >= {wave[0].start} AND shard < {wave[-1].stop}")
        with options(shards.sparkSession, ONE_SHARD_A_BATCH):
            found = map_shards(rows, work).collect()
        yield from sorted(((row["shard"], row.asDict()) for row in found), key=lambda row: row[0])


def map_shards(shards: DataFrame, work: ShardWork) -> DataFrame:
    """Apply the work to the shards, which may return one row for several of them."""

    def apply_work(batches: Batches) -> Batches:
        for shard, row in work(_rows(batches)):
            columns = [pa.array([shard], pa.int32()), *(as_binary(row[name]) for name in work.columns)]
            yield pa.RecordBatch.from_arrays(columns, names=["shard", *work.columns])

    schema = ", ".join(["shard int", *(f"{name} binary" for name in work.columns)])
    return shards.select("shard", *RemoteAnswers.COLUMNS).mapInArrow(require_same_packages(apply_work), schema)


def fetch_shards(shards: DataFrame, n_shards: int, n_bytes: int) -> Rows:
    """Yield the shards, fetched a few at a time. `n_bytes`: size of all shards."""
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
