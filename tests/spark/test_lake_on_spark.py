"""The relation `attempt` as Spark reads it: a lake holds PostgreSQL's rows, and what cannot be read is named."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irt_assets.spark.lake import export_days, rows_by_day
from resources.cluster.lake import SCHEMA, CatalogTable, Lake
from resources.cluster.relational import on_postgres, on_spark
from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from tests.helpers.rooms import add_attempts, attempt

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

START = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2026, 5, 1, tzinfo=UTC)
FIRST, LAST = "2026-03-01", "2026-04-30"
TEXTS = ["u|1", "u\\p", "ü", "", " ", 'say "hi"', "a,b\nc"]


@pytest.fixture
def logged(database: Database) -> Database:
    """Answers on two days of March; April has none."""
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


def test_spark_reads_the_rows_of_postgresql_of_the_days_asked_for(
    logged: Database, lake: Lake, spark: SparkSession
) -> None:
    lake.register(spark, START, END)
    assert spark.table("attempt").columns == SCHEMA.names
    with logged.connect() as connection:
        there = rows_by_day(on_postgres(connection), START, END)
    assert rows_by_day(on_spark(spark), START, END) == there
    assert [one.rows for one in there.values()] == [7, 7]
    lake.register(spark, START, START + timedelta(days=1))
    assert count(spark) == 7
    lake.register(spark)
    assert count(spark) == 14


def test_an_empty_month_has_no_rows_and_a_missing_one_is_named(lake: Lake, spark: SparkSession) -> None:
    lake.register(spark, datetime(2026, 4, 1, tzinfo=UTC), END)
    assert count(spark) == 0
    assert spark.table("attempt").columns == SCHEMA.names
    with pytest.raises(PermanentFailure, match=r"no manifest of 2026-05-01.* and 26 days more: irt attempts export"):
        lake.register(spark, END, datetime(2026, 6, 1, tzinfo=UTC))


def test_files_that_no_manifest_names_are_not_read(lake: Lake, spark: SparkSession) -> None:
    path = Path(lake.name, lake.manifests()[FIRST].files[0].path)
    path.with_name("left.parquet").write_bytes(path.read_bytes())
    lake.register(spark, START, END)
    assert count(spark) == 14


def test_files_that_are_missing_cut_corrupt_or_of_another_type_are_named(
    lake: Lake, spark: SparkSession, tmp_path: Path
) -> None:
    path = Path(lake.name, lake.manifests()[FIRST].files[0].path)
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(PermanentFailure, match=f"{path.name} is missing"):
        lake.register(spark, START, END)
    path.write_bytes(content[:-9])
    with pytest.raises(PermanentFailure, match=f"{path.name} has .* bytes and not"):
        lake.register(spark, START, END)
    path.write_bytes(b"x" * len(content))
    with pytest.raises(PermanentFailure, match=f"{path.name} is not a Parquet file"):
        lake.register(spark, START, END)
    path.write_bytes(content)
    rows = pq.ParquetFile(path).read()
    place = rows.schema.get_field_index("correct")
    pq.write_table(rows.set_column(place, "correct", rows["correct"].cast(pa.int32())), tmp_path / "other.parquet")
    lake.commit(FIRST, [lake.store_file(FIRST, tmp_path / "other.parquet")], "made by hand")
    with pytest.raises(PermanentFailure, match="has a column correct of type int32 and not bool"):
        lake.register(spark, START, END)


def test_a_place_without_manifests_is_named(tmp_path: Path, spark: SparkSession) -> None:
    with pytest.raises(PermanentFailure, match=r"nowhere.*where there is no lake.*irt attempts export"):
        Lake(FolderStore(tmp_path), "nowhere").register(spark, START, END)


@pytest.fixture
def catalogue(lake: Lake, spark: SparkSession) -> Iterator[SparkSession]:
    """A session with the lake's rows as the view `answers`, whose columns are in another order."""
    lake.register(spark)
    spark.table("attempt").selectExpr("1 AS more", *reversed(SCHEMA.names)).createOrReplaceTempView("answers")
    spark.createDataFrame([], "item_id string, max_score int").createOrReplaceTempView("question")
    yield spark
    for view in ("answers", "question"):
        spark.catalog.dropTempView(view)


def test_a_table_is_read_by_the_names_of_its_columns(logged: Database, catalogue: SparkSession) -> None:
    CatalogTable("answers").register(catalogue, START, START + timedelta(days=2))
    assert catalogue.table("attempt").columns == SCHEMA.names
    with logged.connect() as connection:
        there = rows_by_day(on_postgres(connection), START, START + timedelta(days=2))
    assert rows_by_day(on_spark(catalogue), START, END) == there
    assert CatalogTable("answers").days() is None


def test_an_answer_with_a_score_alone_is_correct_where_it_has_full_credit(catalogue: SparkSession) -> None:
    scored = ["*", "cast(NULL AS boolean) AS correct", "cast(2 AS smallint) AS score"]
    rows = catalogue.table("answers").drop("correct", "score").selectExpr(*scored)
    rows.createOrReplaceTempView("others")
    first, *rest = sorted({row.item_id for row in rows.select("item_id").collect()})
    maxima = [(first, 2), *((item, 4) for item in rest)]
    catalogue.createDataFrame(maxima, "item_id string, max_score int").createOrReplaceTempView("question")
    CatalogTable("others").register(catalogue)
    found = {(row.item_id, row.correct) for row in catalogue.table("attempt").select("item_id", "correct").collect()}
    assert found == {(first, True), *((item, False) for item in rest)}
    catalogue.catalog.dropTempView("others")


def test_a_table_that_is_not_there_or_is_another_is_named(catalogue: SparkSession) -> None:
    with pytest.raises(PermanentFailure, match=r"table spark_catalog[.]default[.]nothing, which Spark does not"):
        CatalogTable("spark_catalog.default.nothing").register(catalogue)
    with pytest.raises(PermanentFailure, match="which Spark does not find"):
        CatalogTable("not a name").register(catalogue)
    rows = catalogue.table("answers").drop("mode").selectExpr("*", "cast(correct AS int) AS c").drop("correct")
    rows.withColumnRenamed("c", "correct").createOrReplaceTempView("others")
    with pytest.raises(PermanentFailure, match="column correct is int, expected boolean; column mode is missing"):
        CatalogTable("others").register(catalogue)
    catalogue.catalog.dropTempView("others")
