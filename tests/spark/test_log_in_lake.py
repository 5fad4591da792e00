"""Assets that read the log on Spark store the same rows as from PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from irt_assets.common.job_names import KPI_JOB
from irt_assets.responses.snapshot import read_snapshot, take_snapshot
from irt_assets.responses.snapshot_files import is_manifest
from irt_assets.spark import lake as exports
from irt_assets.spark.window import collect_on_spark
from resources.cluster import relational
from resources.cluster.lake import Lake
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.kpi_worlds import END, WEEK, load, random_world
from tests.helpers.rooms import folder_store, rows, run_sql
from tests.helpers.same_rows import assert_same
from tests.helpers.what_changed import WHERE_SPARK_CHANGES
from tests.integration.graph import Graph

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MONTH = "2026-10"
START = END - timedelta(days=60)
EMPTY = "TRUNCATE response_log"
FEATURES = "aggregate_features_daily"


@pytest.fixture
def loaded(database: Database) -> Database:
    load(database, random_world(11))
    return database


@pytest.fixture
def move_to_lake(
    loaded: Database, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Lake]:
    """Returns a function that writes the log to a lake and empties the table. The log is then read on Spark.

    Reading 400 days back takes a minute.
    """

    def move() -> Lake:
        on_spark = {"irt_spark": "local[2]", "irt_attempts": str(tmp_path / "lake")}
        loaded.settings = loaded.settings.model_copy(update=on_spark)
        lake = Lake.at(loaded.settings)
        with loaded.connect() as connection:
            days = exports.rows_by_day(relational.on_postgres(connection), END - timedelta(days=1000), END)
        monkeypatch.setattr(exports, "rows_of_files", lambda _, day, __: days[day])
        exports.export_days(loaded, lake, until=str((END - timedelta(days=1)).date()))
        run_sql(loaded, EMPTY)
        return lake

    return move


def features_of(database: Database) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    found = rows(
        database,
        "SELECT user_id, topic_id, date::text, attempts, correct, rt_median, hints FROM features_topic_daily",
    )
    return {row[:3]: row[3:] for row in found}


def kpis_of(database: Database) -> dict[str, Any]:
    return dict(rows(database, "SELECT user_id, kpis FROM weekly_kpi ORDER BY 1"))


def made_by(graph: Graph) -> tuple[dict[tuple[str, str, str], tuple[Any, ...]], dict[str, Any], list[dict[str, Any]]]:
    """Run the feature job for 60 days and the KPI job for a week.

    Returns the stored features and KPIs and the metadata of each partition.
    """
    first, last = START.date(), END.date() - timedelta(days=1)
    tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
    runs = [
        graph.defs.resolve_job_def(FEATURES).execute_in_process(tags=tags, instance=graph.instance),
        graph.defs.resolve_job_def(KPI_JOB).execute_in_process(partition_key=WEEK, instance=graph.instance),
    ]
    metadata = [
        {name: value.value for name, value in event.materialization.metadata.items()}
        for run in runs
        for event in run.get_asset_materialization_events()
        if event.materialization.asset_key.path[-1] in ("features_topic_daily", "weekly_kpi")
    ]
    return features_of(graph.database), kpis_of(graph.database), metadata


def test_features_and_kpis_on_spark_equal_features_and_kpis_on_postgresql(
    loaded: Database, move_to_lake: Callable[[], Lake], instance: dg.DagsterInstance
) -> None:
    features, kpis, metadata = made_by(Graph(loaded.settings, instance))
    assert len(features) > 100
    assert len(kpis) > 10
    assert not any("Spark application" in one for one in metadata)
    run_sql(loaded, "TRUNCATE features_topic_daily, weekly_kpi")
    move_to_lake()
    features_there, kpis_there, metadata_there = made_by(Graph(loaded.settings, instance))
    assert features_there == features  # medians of whole milliseconds are exact, too
    assert_same(kpis_there, kpis)
    assert all(one["Spark application"].startswith("local-") for one in metadata_there)


@WHERE_SPARK_CHANGES
def test_a_month_read_on_spark_has_the_same_snapshot_and_hash_as_on_postgresql(
    loaded: Database, settings: Settings, move_to_lake: Callable[[], Lake]
) -> None:
    store = folder_store(settings)
    with loaded.connect() as connection:
        here, totals = take_snapshot(loaded, store, MONTH, "run", relational.on_postgres(connection))
    move_to_lake()
    spark_snapshot, totals_there = take_snapshot(loaded, store, MONTH, "run", collect_on_spark)
    assert totals.n_attempts > 100
    assert totals_there == totals
    assert is_manifest(spark_snapshot.uri)
    assert spark_snapshot == replace(here, uri=spark_snapshot.uri, snapshot_hash=spark_snapshot.snapshot_hash)
    order = ["learner_key", "completed_at", "item_id"]
    rows_here, rows_there = (
        read_snapshot(store, one).drop_columns(["row", "session"]).sort_by([(c, "ascending") for c in order])
        for one in (here, spark_snapshot)
    )
    assert rows_there.to_pylist() == rows_here.to_pylist()


@pytest.mark.parametrize(
    ("of_the_log", "reads_it_there"),
    [
        ("true", True),  # nothing has been dropped: the lake does not begin earlier
        ("completed_at >= %(since)s - interval '1 day'", True),
        ("completed_at >= %(since)s + interval '30 days'", False),
        ("false", False),
    ],
)
def test_log_is_read_from_postgresql_if_the_table_covers_the_whole_period(
    loaded: Database, move_to_lake: Callable[[], Lake], of_the_log: str, reads_it_there: bool
) -> None:
    since = END - timedelta(days=60)
    kept = rows(loaded, f"SELECT * FROM response_log WHERE {of_the_log}", {"since": since})
    move_to_lake()
    with loaded.connect() as connection:
        connection.cursor().executemany(
            f"INSERT INTO response_log VALUES ({', '.join(['%s'] * (len(kept[0]) if kept else 1))})".encode(), kept
        )
        assert (relational.on_nearest_log(connection, since, END).backend is relational.on_postgres) == reads_it_there
