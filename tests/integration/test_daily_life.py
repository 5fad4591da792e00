"""Features, KPIs and inactivity as Dagster runs them: by their jobs, one partition or a range, with their checks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from irt_assets.common.job_names import KPI_JOB
from irt_assets.common.partitions import week_of, weekly
from irt_assets.definitions import build_defs
from irt_assets.kpis.assets import build_kpi_checks
from resources.dagster_compat import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.kpi_worlds import load, random_world
from tests.helpers.rooms import check_context, copied, folder_store, rows, run_sql
from tests.integration.graph import checks, metadata
from tests.testbed.patience import patient

pytestmark = pytest.mark.ci

DAYS = 365
SECONDS = 90.0
"""Wanted of a year in one run; as a run for each day, Dagster alone would take twice that."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Graph:
    def __init__(self, settings: Settings, instance: dg.DagsterInstance, now: datetime) -> None:
        self.now, self.yesterday, self.week = now, day(now - timedelta(days=1)), week_of(now)
        self.instance, self.database = instance, Database(settings)
        self.defs = build_defs(settings, resources={"database": self.database, "store": folder_store(settings)})

    def run(self, job: str, partition: str | None = None, **tags: str) -> dg.ExecuteInProcessResult:
        return self.defs.resolve_job_def(job).execute_in_process(
            partition_key=partition, instance=self.instance, tags=tags, run_config=QUIET
        )


@pytest.fixture
def graph(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path, now: datetime) -> Iterator[Graph]:
    """The real graph over answers up to now, first month a year ago."""
    first = (now - timedelta(days=DAYS)).strftime("%Y-%m")
    with (
        copied(postgres.start(), migrated_template, "daily_life", tmp_path) as settings,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        load(Database(settings), random_world(21, end=now))
        yield Graph(settings.model_copy(update={"irt_first_month": first}), instance, now)


def day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def test_a_day_is_aggregated_and_checked_by_the_job_of_the_documents(graph: Graph) -> None:
    result = graph.run("aggregate_features_daily", graph.yesterday)
    (n,) = rows(graph.database, "SELECT count(*) FROM features_topic_daily WHERE date = %s", (graph.yesterday,))[0]
    assert metadata(result, "features_topic_daily")["dagster/row_count"] == n > 0
    assert checks(result)["answers_are_conserved"].passed


def test_a_year_of_days_is_one_run_and_every_day_says_what_it_holds(graph: Graph) -> None:
    days = [day(graph.now - timedelta(days=n)) for n in range(DAYS, 0, -1)]
    tags = {ASSET_PARTITION_RANGE_START_TAG: days[0], ASSET_PARTITION_RANGE_END_TAG: days[-1]}
    started = time.monotonic()
    result = graph.run("aggregate_features_daily", **tags)
    assert time.monotonic() - started < patient(SECONDS)
    assert checks(result)["answers_are_conserved"].passed
    assert graph.instance.get_materialized_partitions(dg.AssetKey("features_topic_daily")) == set(days)
    query = "SELECT date::text, count(*), sum(attempts)::int FROM features_topic_daily GROUP BY 1"
    stored = {day: (n, answers) for day, n, answers in rows(graph.database, query)}
    said = {
        event.partition: {name: value.value for name, value in event.metadata.items()}
        for event in result.asset_materializations_for_node("features_topic_daily")
    }
    assert list(said) == days
    assert 10 < len(stored) < DAYS
    for each in days:
        n, answers = stored.get(each, (0, 0))
        assert said[each] == {"dagster/row_count": n, "answers": answers}, each


def test_the_running_week_is_computed_and_the_quiet_are_found_after_it(graph: Graph) -> None:
    result = graph.run(KPI_JOB, graph.week)
    assert all(evaluation.passed for evaluation in checks(result).values())
    assert set(checks(result)) == {"kpis_are_present_and_in_range", "every_null_has_a_reason"}
    said = metadata(result, "weekly_kpi")
    (n,) = rows(graph.database, "SELECT count(*) FROM weekly_kpi WHERE week_start = %s", (graph.week,))[0]
    assert said["dagster/row_count"] == n > 10
    assert said["plot: distributions"].startswith("![how the KPIs are distributed](data:image/svg+xml")
    assert "| I_t | fewer than 5 eligible answers" in said["without a value"]

    found = metadata(graph.run("detect_inactivity", graph.yesterday), "inactivity")
    assert found["week"] == graph.week
    assert 0 < found["idle learners"] < n
    assert rows(graph.database, "SELECT count(*) FROM weekly_kpi WHERE week_start = %s", (graph.week,)) == [(n,)]


def test_a_record_that_was_spoilt_is_named_by_the_checks(graph: Graph) -> None:
    graph.run(KPI_JOB, graph.week)
    run_sql(graph.database, """UPDATE weekly_kpi SET kpis = kpis - 'A_t' || '{"S": 2}' WHERE user_id = 'u07'""")
    present, _ = build_kpi_checks(weekly("2026-01", running=True))
    context = check_context(graph.week, graph.instance)
    evaluation = present.op.compute_fn.decorated_fn(context, graph.database, graph.defs.resources["store"])
    assert not evaluation.passed
    assert "u07: A_t is missing; S = 2, expected 0 to 1" in (evaluation.description or "")


def test_the_running_week_can_be_backfilled_though_its_days_and_months_are_still_to_come(graph: Graph) -> None:
    assets = graph.defs.resolve_asset_graph()
    week = assets.get(dg.AssetKey("weekly_kpi"))
    weeks = week.partitions_def
    assert weeks.get_partition_keys()[-1] == graph.week
    for upstream in (dg.AssetKey("attempts"), dg.AssetKey("published_item_parameters")):
        found = assets.get_partition_mapping(week.key, upstream).get_upstream_mapped_partitions_result_for_partitions(
            weeks.subset_with_partition_keys([graph.week]), weeks, assets.get(upstream).partitions_def, graph.now
        )
        assert found.required_but_nonexistent_subset.is_empty, upstream
