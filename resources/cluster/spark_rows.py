"""Rows in and out of Spark as Arrow, with the types of PostgreSQL's rows.

Executors import this module, so it imports only Arrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

PART_BYTES = 2**25
"""Bytes of Arrow after which a part of the rows ends. The driver stays below 256 MB, including the copies in Spark, its
sockets and the reader, and one part that is fetched ahead."""
SMALL_PARTITIONS = {
    "spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true",
    "spark.sql.adaptive.advisoryPartitionSizeInBytes": "16m",
}
"""Options with which Spark joins small partitions up to 16 MB of compressed rows, about `PART_BYTES` bytes of Arrow."""
UTC_TIME = pa.timestamp("us", "UTC")


def read(session: SparkSession, query: str) -> pa.Table:
    """The rows of a query: integers are int64, decimals float64, times in UTC to the microsecond."""
    with _jobs(session):
        return cast_rows(session.sql(query).toArrow())


def parts(session: SparkSession, query: str, together: Sequence[str] = ()) -> Iterator[pa.Table]:
    """Yield the rows of a query in parts of at most about `PART_BYTES` bytes.

    One part is in memory at a time and one is fetched ahead. Until then executors keep all parts, on their disks if
    memory is short.

    together: columns; rows that are equal in these columns are in one part, which may then be as large as a partition
    of Spark.
    """
    rows = session.sql(query)
    return parts_of(rows.repartition(*together) if together else rows, whole_partitions=bool(together))


def parts_of(rows: DataFrame, *, whole_partitions: bool = False) -> Iterator[pa.Table]:
    """Like `parts`, for the rows of a data frame. With `whole_partitions`, each partition is one part."""
    packed = rows.mapInArrow(_pack_partition if whole_partitions else _pack, "part binary")
    with _jobs(rows.sparkSession):
        try:
            with options(rows.sparkSession, SMALL_PARTITIONS):
                # All partitions are computed now; the iterator would compute one after the other.
                packed.persist().count()
            for row in packed.toLocalIterator(prefetchPartitions=True):
                yield cast_rows(pa.ipc.open_stream(row["part"]).read_all())
        finally:
            packed.unpersist()


@contextmanager
def options(session: SparkSession, values: Mapping[str, str]) -> Iterator[None]:
    """Set options of Spark for the queries that are planned in the block."""
    before = {name: str(session.conf.get(name)) for name in values}
    try:
        for name, value in values.items():
            session.conf.set(name, value)
        yield
    finally:
        for name, value in before.items():
            session.conf.set(name, value)


def _jobs(session: SparkSession) -> AbstractContextManager[None]:
    from resources.cluster.spark import spark_jobs  # here, because executors import this module

    return spark_jobs(session, "rows of the log of answers")


def cast_rows(rows: pa.Table) -> pa.Table:
    """Cast rows of Spark to the types that `warehouse.read_arrow` returns."""
    return rows.cast(pa.schema([(field.name, _type(field.type)) for field in rows.schema]))


def _type(stored: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(stored):
        return pa.int64()
    if pa.types.is_decimal(stored) or pa.types.is_floating(stored):
        return pa.float64()
    if pa.types.is_timestamp(stored):
        return UTC_TIME
    return stored


def _pack(batches: Iterable[pa.RecordBatch], max_bytes: int = PART_BYTES) -> Iterator[pa.RecordBatch]:
    """Pack batches, on an executor, into rows that each contain one Arrow stream of about `max_bytes` bytes."""
    batches_of_part: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if batch.num_rows:
            batches_of_part.append(batch)
            size += batch.nbytes
        if size >= max_bytes:
            yield _message(batches_of_part)
            batches_of_part, size = [], 0
    if batches_of_part:
        yield _message(batches_of_part)


def _pack_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return _pack(batches, max_bytes=2**31)


def _message(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return pa.record_batch({"part": pa.array([sink.getvalue().to_pybytes()], pa.binary())})
