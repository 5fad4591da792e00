"""Assets that read the log on Spark: what they store is what they store from PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from irt_assets.common.job_names import KPI_JOB
from irt_assets.common.partitions import Month
from irt_assets.decisions import movement_proposal
from irt_assets.kpis.weekly import kpi_parts
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.responses import window
from irt_assets.responses.eligible import judge_candidates
from irt_assets.responses.item_times import ItemTimes, current_item_times, item_times
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import read_snapshot, take_snapshot
from irt_assets.responses.snapshot_files import is_manifest
from irt_assets.responses.window import data_hash
from irt_assets.spark.window import judge_on_spark
from resources.cluster import relational
from resources.postgres.database import Database
from resources.postgres.relations import ATTEMPT
from resources.settings import Settings
from tests.helpers.kpi_worlds import END, WEEK, load, random_world
from tests.helpers.rooms import folder_store, rows, run_sql
from tests.helpers.same_rows import assert_same
from tests.helpers.what_changed import WHERE_SPARK_CHANGES
from tests.integration.graph import Graph
from tests.spark.test_relations import write_parquet

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MONTH = "2026-10"
START = END - timedelta(days=60)
EMPTY = "TRUNCATE response_log"


class ParquetLake:
    """A folder `attempt` of Parquet files, and a hash of each day of it; or, as of a table, none."""

    def __init__(self, folder: Path, *, has_manifests: bool = True) -> None:
        self.files, self.has_manifests = folder / "attempt" / "*.parquet", has_manifests

    def register(self, session: SparkSession, since: datetime, until: datetime) -> None:
        rows = session.read.parquet(str(self.files))
        rows.filter(rows.completed_at.between(since, until)).createOrReplaceTempView("attempt")

    def days(self, since: datetime, until: datetime) -> dict[str, str] | None:
        if not self.has_manifests:
            return None
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            found = connection.execute(
                f"""SELECT completed_at::date, string_agg(t::text ORDER BY id) FROM read_parquet('{self.files}') t
                    WHERE completed_at >= ? AND completed_at < ? GROUP BY 1""",
                (since, until),
            ).fetchall()
        return {str(day): hashlib.sha256(text.encode()).hexdigest() for day, text in found}


@pytest.fixture
def loaded(database: Database) -> Database:
    load(database, random_world(11))
    return database


@pytest.fixture
def move_to_lake(
    loaded: Database, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], ParquetLake]:
    """Writes the log out and empties it; from then on it is read on Spark."""

    def move() -> ParquetLake:
        folder = tmp_path / "lake"
        folder.mkdir()
        lake = ParquetLake(folder)
        with loaded.connect() as connection:
            write_parquet(relational.on_postgres(connection), ATTEMPT, folder)
        run_sql(loaded, EMPTY)
        monkeypatch.setattr(relational, "Lake", SimpleNamespace(at=lambda _: lake))
        on_spark = {"irt_spark": "local[2]", "irt_attempts": str(folder)}
        loaded.settings = loaded.settings.model_copy(update=on_spark)
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


def kpis_judged_here(database: Database) -> dict[str, Any]:
    """The week's records from attempts that are judged as they are read, as those of a lake are."""
    with database.connect() as connection:
        run, scales = relational.on_postgres(connection), read_scales(connection, END)
        published = {scale_id: set_with_errors(connection, scale_id, END) for scale_id in scales}
        frames = kpi_parts(run, END, scales, published, judge_candidates(run, END, scales))
        return {user: record for frame in frames for user, record in zip(frame["user_id"], frame["kpis"], strict=True)}


def made_by(graph: Graph) -> tuple[dict[tuple[str, str, str], tuple[Any, ...]], dict[str, Any], list[dict[str, Any]]]:
    """What the jobs of features and KPIs store of 60 days and a week, and the metadata of each partition."""
    first, last = START.date(), END.date() - timedelta(days=1)
    tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
    runs = [
        graph.defs.resolve_job_def("aggregate_features_daily").execute_in_process(tags=tags, instance=graph.instance),
        graph.defs.resolve_job_def(KPI_JOB).execute_in_process(partition_key=WEEK, instance=graph.instance),
    ]
    metadata = [
        {name: value.value for name, value in event.materialization.metadata.items()}
        for run in runs
        for event in run.get_asset_materialization_events()
    ]
    return features_of(graph.database), kpis_of(graph.database), metadata


def test_features_and_kpis_made_on_spark_are_those_made_on_postgresql(
    loaded: Database, move_to_lake: Callable[[], ParquetLake], instance: dg.DagsterInstance
) -> None:
    features, kpis, metadata = made_by(Graph(loaded.settings, instance))
    assert len(features) > 100
    assert len(kpis) > 10
    assert not any("Spark application" in one for one in metadata)
    run_sql(loaded, "TRUNCATE features_topic_daily, weekly_kpi")
    expected = kpis_judged_here(loaded)
    assert expected.keys() == kpis.keys()
    move_to_lake()
    features_there, kpis_there, metadata_there = made_by(Graph(loaded.settings, instance))
    assert features_there == features  # medians are of whole milliseconds, so they are exact too
    assert_same(kpis_there, expected)
    assert all(one["Spark application"].startswith("local-") for one in metadata_there)


@WHERE_SPARK_CHANGES
def test_a_month_read_on_spark_has_the_snapshot_and_the_hash_of_the_month_on_postgresql(
    loaded: Database, settings: Settings, move_to_lake: Callable[[], ParquetLake]
) -> None:
    store = folder_store(settings)
    with loaded.connect() as connection:
        here, totals = take_snapshot(loaded, store, MONTH, "run", relational.on_postgres(connection))
    move_to_lake()
    there, totals_there = take_snapshot(loaded, store, MONTH, "run", judge=judge_on_spark)
    assert totals.n_attempts > 100
    assert totals_there == totals
    assert is_manifest(there.uri)
    assert there == replace(here, uri=there.uri, snapshot_hash=there.snapshot_hash)
    order = ["learner_key", "completed_at", "item_id"]
    rows_here, rows_there = (
        read_snapshot(store, one).drop_columns(["row", "session"]).sort_by([(c, "ascending") for c in order])
        for one in (here, there)
    )
    assert rows_there.to_pylist() == rows_here.to_pylist()
    with loaded.connect() as connection:
        assert data_hash(connection, *Month(MONTH).bounds, read_scales(connection)) == here.data_hash


def test_item_times_are_of_the_whole_log_and_the_theta_api_reads_what_is_stored(
    loaded: Database, move_to_lake: Callable[[], ParquetLake]
) -> None:
    since = END - timedelta(days=400)
    with loaded.connect() as connection:
        on_server = current_item_times(connection, END, since)
        connection.execute("DELETE FROM item_response_time")
        connection.execute("DELETE FROM partition_source")
    move_to_lake()
    with loaded.connect() as connection:
        found = current_item_times(connection, END, since)
        stored = item_times(connection, END, since)
        assert as_dict(found) == as_dict(stored) == as_dict(on_server)
        assert not as_dict(current_item_times(connection, END, since, relational.on_postgres(connection)))


@pytest.mark.parametrize(
    ("of_the_log", "reads_it_there"),
    [
        ("true", True),  # nothing was dropped: the lake begins no earlier
        ("completed_at >= %(since)s - interval '1 day'", True),
        ("completed_at >= %(since)s + interval '30 days'", False),
        ("false", False),
    ],
)
def test_item_times_are_read_from_postgresql_where_it_has_all_that_count(
    loaded: Database, move_to_lake: Callable[[], ParquetLake], of_the_log: str, reads_it_there: bool
) -> None:
    since = END - timedelta(days=60)
    kept = rows(loaded, f"SELECT * FROM response_log WHERE {of_the_log}", {"since": since})
    move_to_lake()
    with loaded.connect() as connection:
        connection.cursor().executemany(
            f"INSERT INTO response_log VALUES ({', '.join(['%s'] * (len(kept[0]) if kept else 1))})".encode(), kept
        )
        assert (relational.on_nearest_log(connection, since, END).backend is relational.on_postgres) == reads_it_there


def test_movement_is_estimated_from_the_answers_of_the_lake(
    loaded: Database, move_to_lake: Callable[[], ParquetLake], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts of a lake have no verdicts, so both are judged as they are read."""
    monkeypatch.setattr(movement_proposal, "FEWEST_OCCASIONS", 4)
    monkeypatch.setattr(movement_proposal, "scoring_responses", window.scoring_responses)

    def answers() -> list[tuple[str, int, int]]:
        with loaded.connect() as connection:
            scale = next(iter(read_scales(connection, END).values()))
            published = set_with_errors(connection, scale.scale_id, END)
            found = movement_proposal._answers(connection, scale, published, END)
        assert found.at is not None
        items = [found.item_ids[j] for j in found.item]
        return sorted(zip(items, found.at.tolist(), found.score.tolist(), strict=True))

    here = answers()
    assert len(here) > 100
    move_to_lake()
    assert answers() == here


def as_dict(times: ItemTimes) -> dict[str, tuple[float, int]]:
    return dict(zip(times.item_ids.tolist(), zip(times.median_ms.tolist(), times.n.tolist(), strict=True), strict=True))


def on_duckdb_days(lake: ParquetLake, user: str | None = None) -> set[str]:
    """Days with live answers of a learner, or with any attempt."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(
            f"""SELECT DISTINCT completed_at::date FROM read_parquet('{lake.files}')
                WHERE completed_at >= $1 AND completed_at < $2
                  AND ($3::text IS NULL OR user_id = $3 AND mode = 'live' AND correct IS NOT NULL)""",
            (START, END, user),
        ).fetchall()
    return {str(day) for (day,) in found}
