"""Rows in and out of Spark as Arrow, of the types that rows of PostgreSQL have. What does not belong here: queries.

Executors import this module, so it imports nothing but Arrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

PART = 2**25
"""Bytes of Arrow after which a part of the rows ends: with the copies that Spark, its sockets and the reader of a part
hold, and one part fetched ahead, the driver stays below 256 MB."""
SMALL_PARTITIONS = {
    "spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true",
    "spark.sql.adaptive.advisoryPartitionSizeInBytes": "16m",
}
"""Spark joins small partitions up to this size, which is that of compressed rows: about `PART` of Arrow."""
UTC_TIME = pa.timestamp("us", "UTC")


def read(session: SparkSession, query: str) -> pa.Table:
    """The rows of a query: integers are int64, decimals float64, times in UTC to the microsecond."""
    with _jobs(session):
        return typed(session.sql(query).toArrow())


def parts(session: SparkSession, query: str, together: Sequence[str] = ()) -> Iterator[pa.Table]:
    """The rows of a query in parts of at most about `PART` bytes, one in memory at a time and one fetched ahead; until
    they are, executors keep them all, on their disks where memory is short.

    together: columns; rows that are equal in these come in one part, which may then be as large as a partition of
    Spark's.
    """
    rows = session.sql(query)
    return parts_of(rows.repartition(*together) if together else rows, whole_partitions=bool(together))


def parts_of(rows: DataFrame, *, whole_partitions: bool = False) -> Iterator[pa.Table]:
    """Rows in such parts, or in those that their partitions are."""
    packed = rows.mapInArrow(_packed_whole if whole_partitions else _packed, "part binary")
    with _jobs(rows.sparkSession):
        try:
            with options(rows.sparkSession, SMALL_PARTITIONS):  # what is fetched one by one would be computed so, too
                packed.persist().count()
            for row in packed.toLocalIterator(prefetchPartitions=True):
                yield typed(pa.ipc.open_stream(row["part"]).read_all())
        finally:
            packed.unpersist()


@contextmanager
def options(session: SparkSession, wanted: Mapping[str, str]) -> Iterator[None]:
    """Queries that are planned inside have these of Spark's options."""
    before = {name: str(session.conf.get(name)) for name in wanted}
    try:
        for name, value in wanted.items():
            session.conf.set(name, value)
        yield
    finally:
        for name, value in before.items():
            session.conf.set(name, value)


def _jobs(session: SparkSession) -> AbstractContextManager[None]:
    from resources.cluster.spark import spark_jobs  # here, as executors import this module

    return spark_jobs(session, "rows of the log of answers")


def typed(rows: pa.Table) -> pa.Table:
    """Rows of Spark with the types that `warehouse.read_arrow` gives."""
    return rows.cast(pa.schema([(field.name, _type(field.type)) for field in rows.schema]))


def _type(found: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(found):
        return pa.int64()
    if pa.types.is_decimal(found) or pa.types.is_floating(found):
        return pa.float64()
    if pa.types.is_timestamp(found):
        return UTC_TIME
    return found


def _packed(batches: Iterable[pa.RecordBatch], most: int = PART) -> Iterator[pa.RecordBatch]:
    """On an executor: batches as messages of Arrow, one a row."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
            size += batch.nbytes
        if size >= most:
            yield _message(held)
            held, size = [], 0
    if held:
        yield _message(held)


def _packed_whole(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return _packed(batches, most=2**31)


def _message(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return pa.record_batch({"part": pa.array([sink.getvalue().to_pybytes()], pa.binary())})
