"""Months calibrated on Spark from a lake equal months calibrated on one machine from PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import psycopg
import pytest

from irt_assets.abilities.batch import judge_until, measure_at
from irt_assets.common.partitions import Month
from irt_assets.gates.month_classification import State
from irt_assets.responses.snapshot import current_snapshot
from irt_assets.responses.snapshot_files import is_manifest
from irt_assets.scales.scale_decisions import Subject, record_decisions
from irt_assets.simulation.truth import Truth
from irt_assets.spark import answers as spark_answers
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers import rooms
from tests.integration.graph import Graph, graph_of_small_world

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

QUERIES = (
    "SELECT month, data_hash, n_attempts, counts FROM scored_snapshot WHERE superseded_at IS NULL ORDER BY 1",
    """SELECT window_start, scale_id, engine, kind, anchor_hash, data_hash, n_persons, loglik, iterations
       FROM mirt_fit_meta ORDER BY 1, 2, 3, 4""",
    """SELECT m.window_start, m.kind, p.item_id, p.params, p.infit, p.rmsd, p.flags
       FROM mirt_item_params p JOIN mirt_fit_meta m USING (fit_id) ORDER BY 1, 2, 3""",
    """SELECT item_id, a, b, c, a_se, b_se, cov_ab, month, rule, data_hash, anchor_hash
       FROM item_parameter_publication ORDER BY month, item_id""",
    "SELECT month, scale_id, state, n_published, n_proposed, held, why FROM publication_step ORDER BY 1, 2",
    "SELECT month, item_id, engine, delta_a, delta_b, q_value, wabc, severity FROM item_drift ORDER BY 1, 2, 3",
    "SELECT window_end, user_id, theta, se, set_hash FROM mirt_ability ORDER BY 1, 2",
)
"""Queries for the rows of months in the ledger, which must be equal bit for bit."""


def run_months(graph: Graph, *, fits_on_spark: bool) -> tuple[list[list[tuple[Any, ...]]], dict[tuple[str, ...], bool]]:
    """Run both months. Returns their rows in the ledger and the verdict of each of their checks."""
    verdicts = {}
    for month in rooms.MONTHS:
        result = graph.run(month)
        assert result.success, [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
        assert graph.state(month).state is State.GREEN
        (fit,) = result.asset_materializations_for_node("item_calibration")
        assert ("Spark application" in fit.metadata) == fits_on_spark
        for event in result.all_events:
            if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                one = event.asset_check_evaluation_data
                verdicts[month, one.asset_key.to_user_string(), one.check_name] = one.passed
    with graph.database.connect() as connection:
        return [connection.execute(query.encode()).fetchall() for query in QUERIES], verdicts


def _assert_abilities_are_of_the_whole_log(graph: Graph) -> None:
    """Check that abilities of the month and its last night do not change after PostgreSQL has dropped answers."""
    start, end = Month(rooms.MONTHS[1]).bounds

    def abilities(connection: psycopg.Connection, kind: str) -> list[tuple[Any, ...]]:
        return connection.execute(
            """SELECT user_id, theta, se, n_items, set_hash FROM mirt_ability
               WHERE (kind, window_end) = (%s, %s) ORDER BY 1""",
            (kind, end),
        ).fetchall()

    judge_until(graph.database, end)
    walk: dict[Subject, str] = {"ability_variance": "0.01", "ability_growth": "0.01"}
    drop = "DELETE FROM response_log WHERE completed_at < %s"
    with graph.database.connect() as connection:
        before = abilities(connection, "monthly")
        with connection.transaction(force_rollback=True):
            first = Month(rooms.MONTHS[0]).start
            record_decisions(connection, rooms.SCALE, walk, first, by="nobody", reason="abilities that move")
            measure_at(connection, end, "nightly", "in PostgreSQL, where abilities move")
            moving = abilities(connection, "nightly")
            assert moving != before
            connection.execute(drop, (start,))
            measure_at(connection, end, "nightly", "abilities move, with a month dropped")
            assert abilities(connection, "nightly") == moving
        connection.execute(drop, (start,))
        for kind in ("monthly", "nightly"):
            connection.execute("DELETE FROM mirt_ability WHERE (kind, window_end) = (%s, %s)", (kind, end))
            measure_at(connection, end, kind, f"{kind}, with a month dropped")  # type: ignore[arg-type]
            assert abilities(connection, kind) == before
        connection.rollback()
    assert len(before) > 400


@pytest.mark.long
@pytest.mark.parametrize("location", ["executors", "auto"])
def test_months_on_spark_equal_months_on_one_machine(
    postgres: EmbeddedPostgres,
    small_truth: Truth,
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    location: str,
) -> None:
    server = postgres.start()
    with graph_of_small_world(server, f"here_{location}", tmp_path_factory) as graph:
        ledger, verdicts = run_months(graph, fits_on_spark=False)
    monkeypatch.setenv("IRT_SPARK", "local[2]")
    if location == "executors":
        monkeypatch.setattr(spark_answers, "DRIVER_BYTES", 0)
    monkeypatch.setenv("IRT_ATTEMPTS", str(tmp_path / "lake"))
    with graph_of_small_world(server, f"there_{location}", tmp_path_factory) as graph:
        ledger_there, verdicts_there = run_months(graph, fits_on_spark=location == "executors")
        _assert_abilities_are_of_the_whole_log(graph)
        with graph.database.connect() as connection:
            snapshot = current_snapshot(connection, rooms.MONTHS[0])
    assert is_manifest(snapshot.uri)
    assert len(verdicts) > 20
    assert verdicts_there == verdicts
    for table_there, table in zip(ledger_there, ledger, strict=True):
        assert table_there == table
