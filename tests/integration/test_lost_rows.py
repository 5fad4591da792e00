"""Lost rows: each table that declares assets loses its rows, and the assets recompute the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from irt_assets.adaptive.policy import Policy
from irt_assets.common.run_progress import RANGE_TAGS
from irt_assets.ledger.publications import in_force
from irt_assets.scales.scale import change_rules
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.tables import METADATA, RecomputedBy
from tests.helpers import rooms
from tests.helpers.decided import set_policy
from tests.integration.graph import Graph, graph_after_first_month

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("lost rows")]

MONTH = rooms.MONTHS[0]
DAY, WEEK, NIGHT = "2026-06-10", "2026-06-15", "2026-06-30"
BEGAN = datetime(2026, 6, 10, 9, tzinfo=UTC)
PARTITION = {
    "features_topic_daily": DAY,
    "weekly_kpi": WEEK,
    "item_analysis_daily": DAY,
    "item_exposure": DAY,
    "nightly_calibration": NIGHT,
    "item_pipeline": NIGHT,
}
"""Partition of each asset that is not made for months."""
DIFFERS = {"computed_at", "judged_at", "fitted_at", "made_at", "updated_at", "inactivity_at", "update_id", "run_id"} | {
    "data_hash"
}
"""Columns with times of computation, names of runs, and the hash of times in `partition_source`."""
RECOMPUTED: dict[str, RecomputedBy] = {
    table.name: table.info["recomputed_by"] for table in METADATA.sorted_tables if table.info["recomputed_by"].assets
}


@pytest.fixture(scope="module")
def lost_and_recomputed(
    postgres: EmbeddedPostgres, small_truth: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, list[str]], dict[str, list[str]]]]:
    """Rows of each table in RECOMPUTED, before the rows were deleted, and after the assets were run again.

    The home has a month, an adaptive test with a session, a night, a week and a day.
    """
    with graph_after_first_month(postgres, tmp_path_factory.mktemp("lost")) as graph:
        policy = f"test: placement\nscale: {rooms.SCALE}\nlength: {{max: 4}}\nexposure: {{max: 0.6}}\n"
        before = BEGAN - timedelta(days=1)
        set_policy(graph.database, Policy.from_yaml(policy), by="Ann", reason="June", effective_from=before)
        change_rules(graph.database, rooms.SCALE, {"dif_attributes": "lang"})
        add_session(graph.database)
        make_assets(graph)
        first = {table: read_rows(graph.database, table) for table in RECOMPUTED}
        for table, made in RECOMPUTED.items():
            rooms.run_sql(graph.database, f"DELETE FROM {table} WHERE {made.rows or 'true'}")
        make_assets(graph)
        yield first, {table: read_rows(graph.database, table) for table in RECOMPUTED}


def add_session(database: Database) -> None:
    """Add a session of the adaptive test with answers to four items, and an answer to an unpublished item."""
    published = rooms.call(database, in_force, rooms.SCALE, BEGAN)
    rooms.run_sql(
        database,
        """INSERT INTO adaptive_session (session_id, user_id, test_id, version, scale_id, scale_version, set_hash, seed,
             eligible, unscored, seen, started_at)
           VALUES ('s', 'new', 'placement', 1, %s, 1, %s, 5, '{}', '[]', '[]', %s)""",
        (rooms.SCALE, published.set_hash, BEGAN),
    )
    answers = [
        rooms.attempt(*("new", item, BEGAN + timedelta(minutes=at)), session_id="s", form_id="placement", position=at)
        for at, item in enumerate(sorted(published.items)[:4], 1)
    ]
    rooms.run_sql(
        database, "INSERT INTO question (item_id, scale_id, topic_id) VALUES ('new', %s, 'topic')", (rooms.SCALE,)
    )
    rooms.add_attempts(database, [*answers, rooms.attempt("new", "new", BEGAN + timedelta(minutes=5))])


def make_assets(graph: Graph) -> None:
    """Materialise all assets that tables declare: verdicts of all days, a month, or the partition in PARTITION."""
    assets = {asset for made in RECOMPUTED.values() for asset in made.assets}
    [span] = rooms.rows(
        graph.database, "SELECT min(completed_at::date)::text, max(completed_at::date)::text FROM attempt"
    )
    known = graph.defs.resolve_asset_graph()
    assert {key.to_user_string() for key in known.get_all_asset_keys()} >= assets
    for key in known.toposorted_asset_keys:
        if (name := key.to_user_string()) in assets:
            job = graph.defs.resolve_implicit_job_def_def_for_assets([key])
            assert job is not None
            all_days = name == "judged_attempts"
            result = job.execute_in_process(
                partition_key=None if all_days else PARTITION.get(name, MONTH),
                tags=dict(zip(RANGE_TAGS, span, strict=True)) if all_days else None,
                instance=graph.instance,
                asset_selection=[key],
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
            assert result.success, name


def read_rows(database: Database, table: str) -> list[str]:
    columns = ", ".join(f'"{column.name}"' for column in METADATA.tables[table].columns if column.name not in DIFFERS)
    condition = RECOMPUTED[table].rows or "true"
    query = f"SELECT r::text FROM (SELECT {columns} FROM {table} WHERE {condition}) r ORDER BY 1"
    return [row for (row,) in rooms.rows(database, query)]


@pytest.mark.parametrize("table", RECOMPUTED)
def test_lost_rows_are_recomputed_by_the_declared_assets(
    lost_and_recomputed: tuple[dict[str, list[str]], dict[str, list[str]]], table: str
) -> None:
    before, after = lost_and_recomputed
    assert before[table], "the home must have such rows"
    assert after[table] == before[table]
