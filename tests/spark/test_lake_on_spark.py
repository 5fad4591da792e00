"""Spark reads the relation `attempt` from a lake with the same rows as PostgreSQL, and names unreadable files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irt_assets.spark.lake import export_days, rows_by_day
from irt_assets.spark.lake_upkeep import faults
from resources.cluster.lake import SCHEMA, Lake
from resources.cluster.relational import on_postgres, on_spark
from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.postgres.relations import VERDICT_COLUMNS
from tests.helpers.rooms import add_attempts, attempt

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

START = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2026, 5, 1, tzinfo=UTC)
FIRST, LAST = "2026-03-01", "2026-04-30"
TEXTS = ["u|1", "u\\p", "ü", "", " ", 'say "hi"', "a,b\nc"]


@pytest.fixture
def logged(database: Database) -> Database:
    """Answers on two days of March. April has no answers."""
    log = []
    for n, text in enumerate(TEXTS):
        for day in (0, 30):
            at = START + timedelta(days=day, hours=3 * n, microseconds=n)
            log.append(
                attempt(
                    text,
                    f"q{n}",
                    at,
                    attempt_id=f"{day}{text}",
                    response=text if n % 3 else None,
                    position=n or None,
                    response_time_ms=2**40 + n,
                    correct=(True, False, None)[n % 3],
                )
            )
    add_attempts(database, log)
    return database


@pytest.fixture
def lake(logged: Database, tmp_path: Path) -> Lake:
    made = Lake(FolderStore(tmp_path), "lake")
    export_days(logged, made, FIRST, LAST)
    return made


def count(session: SparkSession) -> int:
    return session.table("attempt").count()


def test_spark_reads_the_same_rows_as_postgresql_for_the_requested_days(
    logged: Database, lake: Lake, spark: SparkSession
) -> None:
    lake.register(spark, START, END)
    assert spark.table("attempt").columns == SCHEMA.names
    with logged.connect() as connection:
        postgres_rows = rows_by_day(on_postgres(connection), START, END)
    assert rows_by_day(on_spark(spark), START, END) == postgres_rows
    assert [one.rows for one in postgres_rows.values()] == [7, 7]
    lake.register(spark, START, START + timedelta(days=1))
    assert count(spark) == 7
    lake.register(spark)
    assert count(spark) == 14


def test_an_empty_month_has_no_rows_and_missing_days_are_named(lake: Lake, spark: SparkSession) -> None:
    lake.register(spark, datetime(2026, 4, 1, tzinfo=UTC), END)
    assert count(spark) == 0
    assert spark.table("attempt").columns == SCHEMA.names
    with pytest.raises(PermanentFailure, match=r"no manifest of 2026-05-01.* and 26 days more: irt attempts export"):
        lake.register(spark, END, datetime(2026, 6, 1, tzinfo=UTC))


def test_files_without_an_entry_in_a_manifest_are_not_read(lake: Lake, spark: SparkSession) -> None:
    path = Path(lake.name, lake.manifests()[FIRST].files[0].path)
    path.with_name("left.parquet").write_bytes(path.read_bytes())
    lake.register(spark, START, END)
    assert count(spark) == 14


def test_missing_truncated_corrupt_and_mistyped_files_are_named(
    lake: Lake, spark: SparkSession, tmp_path: Path
) -> None:
    path = Path(lake.name, lake.manifests()[FIRST].files[0].path)
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(PermanentFailure, match=f"{path.name} is missing"):
        lake.register(spark, START, END)
    path.write_bytes(content[:-9])
    with pytest.raises(PermanentFailure, match=f"{path.name} has .* bytes instead of"):
        lake.register(spark, START, END)
    path.write_bytes(b"x" * len(content))
    with pytest.raises(PermanentFailure, match=f"{path.name} is not a Parquet file"):
        lake.register(spark, START, END)
    path.write_bytes(content)
    rows = pq.ParquetFile(path).read()
    index = rows.schema.get_field_index("correct")
    pq.write_table(rows.set_column(index, "correct", rows["correct"].cast(pa.int32())), tmp_path / "other.parquet")
    lake.commit(FIRST, [lake.store_file(FIRST, tmp_path / "other.parquet")], "made by hand", 0)
    with pytest.raises(PermanentFailure, match="has a column correct of type int32 instead of bool"):
        lake.register(spark, START, END)


def test_a_location_without_manifests_is_refused(tmp_path: Path, spark: SparkSession) -> None:
    with pytest.raises(PermanentFailure, match=r"nowhere.*which is not a lake.*irt attempts export"):
        Lake(FolderStore(tmp_path), "nowhere").register(spark, START, END)


def test_day_of_an_earlier_release_has_no_verdicts(
    logged: Database, lake: Lake, spark: SparkSession, tmp_path: Path
) -> None:
    before = lake.manifests()[FIRST]
    with lake.local(before.files[0]) as path:
        rows = pq.ParquetFile(path).read().drop_columns([*VERDICT_COLUMNS, "score"])
    pq.write_table(rows, tmp_path / "earlier.parquet")
    lake.commit(FIRST, [lake.store_file(FIRST, tmp_path / "earlier.parquet")], before.data_hash, 0)
    lake.register(spark, START, START + timedelta(days=1))
    with logged.connect() as connection:
        postgres_rows = rows_by_day(on_postgres(connection), START, START + timedelta(days=1))
    assert rows_by_day(on_spark(spark), START, END) == postgres_rows
    assert list(faults(lake)) == []
    with pytest.raises(PermanentFailure, match="without verdicts on 2026-03-01, 2026-03-31: run the job"):
        lake.require_judged(START, END)
