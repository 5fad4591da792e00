"""Months from the lake to the ledger: what one machine makes of the same answers in PostgreSQL, and as green."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import psycopg
import pyarrow.compute as pc
import pytest
import yaml

import irt_assets
from irt_assets.abilities.batch import judge_until, measure_at
from irt_assets.calibration.month import fit_month_for_comparison
from irt_assets.calibration.nightly import calibrate_night, window_of
from irt_assets.calibration.nightly_assets import check_night, night_metadata
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin_sources import OriginWindow, fit_window
from irt_assets.decisions.recalibration import recalibrate
from irt_assets.drift.dif_month import answers_of
from irt_assets.engines import Calibrator
from irt_assets.engines.em import EmEngine
from irt_assets.gates.month_judged import State
from irt_assets.ledger.fits import latest_staged
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.simulation.truth import Truth
from irt_assets.responses.scale_decisions import Subject, record_decisions
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import FIT_COLUMNS, Snapshot, current_snapshot, read_for_run, read_snapshot
from irt_assets.responses.snapshot_files import is_manifest
from irt_assets.spark import window as window_on_spark
from irt_assets.spark.em import fit_on_spark
from resources.cluster.spark import spark_jobs, spark_session
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers import rooms
from tests.helpers.answers_on_spark import World, assert_same
from tests.helpers.sentences import unsaid
from tests.helpers.trial_engine import TrialEngine
from tests.integration.graph import Graph, graph_of_small_world
from tests.testbed.spark_cluster import Cluster

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
"""What months leave in the ledger, bit for bit."""


def made(graph: Graph, *, fits_on_spark: bool) -> tuple[list[list[tuple[Any, ...]]], dict[tuple[str, ...], bool]]:
    """What both months leave in the ledger, and the verdict of every check of theirs."""
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
    """They are the same once PostgreSQL has dropped answers of them, of the month and of its last night."""
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
@pytest.mark.parametrize("where", ["executors", "auto"])
def test_months_made_on_spark_are_those_of_one_machine(
    postgres: EmbeddedPostgres,
    small_truth: Truth,
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    server = postgres.start()
    with graph_of_small_world(server, f"here_{where}", tmp_path_factory) as graph:
        ledger, verdicts = made(graph, fits_on_spark=False)
    monkeypatch.setenv("IRT_SPARK", "local[2]")
    monkeypatch.setenv("IRT_SPARK_FIT", where)
    monkeypatch.setenv("IRT_ATTEMPTS", str(tmp_path / "lake"))
    with graph_of_small_world(server, f"there_{where}", tmp_path_factory) as graph:
        ledger_there, verdicts_there = made(graph, fits_on_spark=where == "executors")
        _assert_abilities_are_of_the_whole_log(graph)
        with graph.database.connect() as connection:
            snapshot = current_snapshot(connection, rooms.MONTHS[0])
    assert is_manifest(snapshot.uri)
    assert len(verdicts) > 20
    assert verdicts_there == verdicts
    for table_there, table in zip(ledger_there, ledger, strict=True):
        assert table_there == table


# -- sampled -----------------------------------------------------------------------------------------

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


MOST = 4_000
"""About half of a month of the small world."""
OF_EVERYBODY = (
    """SELECT m.window_start, p.item_id, p.params #- '{fit}', p.flags
       FROM mirt_item_params p JOIN mirt_fit_meta m USING (fit_id) ORDER BY 1, 2""",
    "SELECT window_start, n_persons, loglik, data_hash, anchor_hash FROM mirt_fit_meta ORDER BY 1",
    "SELECT month, spec->'provisional', spec->'left_out', spec->'shape'->'latent' FROM fit_staging ORDER BY 1",
    "SELECT item_id, a, b, c, a_se, b_se, month FROM item_parameter_publication ORDER BY month, item_id",
    "SELECT window_end, user_id, theta, se FROM mirt_ability ORDER BY 1, 2",
)
"""What a fit of everybody leaves, bit for bit."""
SUMS_OVER_EVERYBODY = """
    SELECT p.infit, p.outfit, p.rmsd, p.point_biserial FROM mirt_item_params p JOIN mirt_fit_meta m USING (fit_id)
    ORDER BY m.window_start, p.item_id"""

Made = tuple[Graph, list[dg.ExecuteInProcessResult], list[Any], np.ndarray]


@pytest.fixture(scope="module")
def months(
    postgres: EmbeddedPostgres, small_truth: Truth, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """Both months of the small world from a sample on Spark: their graph, their runs, what one machine makes of
    everybody, with the items' statistics."""
    server = postgres.start()
    with pytest.MonkeyPatch.context() as patch, graph_of_small_world(server, "whole", tmp_path_factory) as graph:
        assert all(graph.run(month).success for month in rooms.MONTHS)
        of_everybody, statistics = _left(graph), _statistics(graph)
        folder = str(tmp_path_factory.mktemp("lake"))
        settings = {"IRT_SPARK": "local[2]", "IRT_ATTEMPTS": folder, "IRT_SPARK_SAMPLE": str(MOST)}
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(window_on_spark, "ROWS_OF_A_PART", 500)
        with graph_of_small_world(server, "sampled", tmp_path_factory) as sampled:
            yield sampled, [sampled.run(month) for month in rooms.MONTHS], of_everybody, statistics


def _left(graph: Graph) -> list[Any]:
    with graph.database.connect() as connection:
        return [connection.execute(query.encode()).fetchall() for query in OF_EVERYBODY]


def _statistics(graph: Graph) -> np.ndarray:
    with graph.database.connect() as connection:
        return np.array(connection.execute(SUMS_OVER_EVERYBODY).fetchall(), dtype=float)


def _snapshot(graph: Graph, month: str) -> Snapshot:
    with graph.database.connect() as connection:
        return current_snapshot(connection, month)


@pytest.mark.long
def test_parameters_are_those_of_everybody(months: Made) -> None:
    graph, runs, of_everybody, _ = months
    for run in runs:
        assert run.success, [event.step_failure_data.error for event in run.all_events if event.is_step_failure]
    for found, expected in zip(_left(graph), of_everybody, strict=True):
        assert found == expected


@pytest.mark.long
def test_fit_statistics_that_are_sums_are_those_of_everybody(months: Made) -> None:
    graph, *_, of_everybody = months
    found = _statistics(graph)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, of_everybody, rtol=1e-8)  # of as many answers, added in another order


@pytest.mark.long
def test_a_sample_has_all_answers_of_its_learners(months: Made) -> None:
    graph, *_ = months
    snapshot = _snapshot(graph, rooms.MONTHS[0])
    sample = read_for_run(graph.store, snapshot, MOST, FIT_COLUMNS)
    everybody = read_snapshot(graph.store, snapshot, columns=FIT_COLUMNS)
    assert 0.7 * MOST < sample.num_rows <= MOST < everybody.num_rows
    assert everybody.filter(pc.is_in(everybody["learner_key"], sample["learner_key"])).num_rows == sample.num_rows


@pytest.mark.long
def test_the_fit_and_its_gates_name_the_sample(months: Made) -> None:
    graph, runs, *_ = months
    for month, run in zip(rooms.MONTHS, runs, strict=True):
        with graph.database.connect() as connection:
            staged = latest_staged(connection, month, rooms.SCALE, "em")
        sample, snapshot = staged.spec.sample, _snapshot(graph, month)
        assert sample.of_answers == snapshot.counts[rooms.SCALE]["scored"]
        assert sample.answers < MOST < sample.of_answers
        assert sample.learners < sample.of_learners == staged.decoded().n_persons
        assert staged.spec.statistics.learners.items == sample.of_learners
        assert staged.spec.statistics.learners.set == sample.learners
        (fit,) = run.asset_materializations_for_node("item_calibration")
        assert fit.metadata[f"fit statistics rest on ({rooms.SCALE}, em)"].value.endswith(f"all others on {sample}")
        assert "sums by" in fit.metadata[f"laid out on Spark ({rooms.SCALE}, em)"].value
        verdicts = {
            event.asset_check_evaluation_data.check_name: event.asset_check_evaluation_data.description
            for event in run.all_events
            if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
        }
        for gate in ("one_dimension", "guessing_is_in_the_model", "misfit_was_accepted", "misfit_has_not_grown"):
            assert f"judged on {sample}" in verdicts[gate]
        assert "sample" not in verdicts["converged"]


@pytest.mark.long
def test_drift_and_dif_name_the_sample(months: Made) -> None:
    graph, *_ = months
    words = f"a random sample of learners, with about {MOST:,} of"
    run = graph.run(rooms.MONTHS[1], "detect_drift")
    assert run.success
    (drift,) = run.asset_materializations_for_node("item_drift")
    assert words in drift.metadata[f"answers read ({rooms.SCALE})"].value
    with graph.database.connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        answers = answers_of(connection, graph.store, rooms.MONTHS[1], scale, {})
    assert words in answers.sample
    assert answers.responses.n_responses < MOST


@pytest.mark.long
def test_what_needs_everybody_in_one_process_is_refused(months: Made) -> None:
    graph, *_ = months

    def build(name: str) -> Calibrator:
        return TrialEngine(1)

    (fit,) = fit_month_for_comparison(
        graph.database, graph.store, rooms.MONTHS[0], None, engine="trial", scales=None, build=build
    )
    assert not unsaid(fit.error, "scored answers: set IRT_SPARK_SAMPLE higher")
    with pytest.raises(PermanentFailure, match=f"{rooms.MONTHS[1]} has more attempts than IRT_SPARK_SAMPLE allows"):
        recalibrate(graph.database, graph.store, rooms.SCALE, rooms.MONTHS[1], rooms.MONTHS[1])
    window = OriginWindow(*Month(rooms.MONTHS[0]).bounds, EmEngine(1), graph.store)
    with pytest.raises(PermanentFailure, match=f"allows a run to read, {MOST:,}: name fewer days"):
        fit_window(graph.database, rooms.SCALE, window, Rules(), "2pl")


@pytest.mark.long
def test_a_night_is_fitted_to_a_sample_and_measures_everyone(months: Made) -> None:
    graph, *_ = months
    start, end = window_of("2026-07-31")
    with graph.database.connect() as connection:
        n, of_month = connection.execute(
            """SELECT (SELECT count(*) FROM attempt WHERE completed_at >= %(start)s AND completed_at < %(end)s),
                      (SELECT count(*) FROM mirt_ability WHERE kind = 'monthly' AND window_end = %(end)s)""",
            {"start": start, "end": end},
        ).fetchall()[0]
    most = int(0.85 * n)  # so that items have the 120 answers that the scale asks for
    database = Database(graph.database.settings.model_copy(update={"irt_spark_sample": most}))
    night = calibrate_night(database, "2026-07-31", "night", lambda _: EmEngine(1))
    (outcome,) = night.outcomes
    assert night.share == most / n
    assert abs(outcome.loaded / most - 1) < 0.1  # four standard errors of the share of 600 learners are 6 %
    assert outcome.loaded < n
    assert outcome.warning is not None
    assert len(night.measured[0].theta) == of_month
    sample = f"a random sample of {night.share:.2%} of the learners (IRT_SPARK_SAMPLE)"
    assert check_night(night).description.endswith(f"judged on {sample}")
    assert night_metadata(night)["fitted to"].value == sample


# -- fitted on a cluster -----------------------------------------------------------------------------


class Killer(logging.Handler):
    """Kills an executor when the fit reports its third E-step."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster, self.has_killed = cluster, False

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("E-step 3 ") and not self.has_killed:
            self.has_killed = True
            Thread(target=self.cluster.kill_executor).start()


@pytest.mark.long
def test_a_fit_in_which_an_executor_is_killed_is_that_of_one_machine_and_the_runs_log_says_so(
    cluster: Cluster, tmp_path: Path
) -> None:
    world = World.of(10_000, 30)
    log, killer = logging.getLogger("irt_assets.calibration"), Killer(cluster)
    settings = cluster.settings.model_copy(update={"irt_spark_fit": "executors"})
    session = spark_session(settings)
    cluster.wait_for("two executors", lambda: len(cluster.executors()) == 2)
    frame = session.createDataFrame(world.table.drop_columns(["group"]))
    made: list[Calibration] = []

    @dg.op
    def fit() -> None:
        made.append(fit_on_spark(session, frame, settings))

    @dg.job
    def calibration() -> None:
        fit()

    configured = yaml.safe_load((Path(irt_assets.__file__).parent / "dagster.yaml").read_text("utf-8"))
    with dg.DagsterInstance.local_temp(str(tmp_path), {"python_logs": configured["python_logs"]}) as instance:

        def messages() -> list[str]:
            run = calibration.execute_in_process(instance=instance)
            return [entry.user_message for entry in instance.all_logs(run.run_id)]

        quiet = messages()
        log.addHandler(killer)
        try:
            with_a_loss = messages()
        finally:
            log.removeHandler(killer)
    on_one_machine = fit_em(world.responses)
    for found in made:
        assert_same(found, on_one_machine)
    assert killer.has_killed
    steps = [message for message in quiet if message.startswith("E-step ")]
    assert steps[0].startswith("E-step 1 on the executors: log-likelihood -")
    assert steps == [message for message in with_a_loss if message.startswith("E-step ")]
    assert not [message for message in quiet if "was lost" in message]
    (warning,) = [message for message in with_a_loss if "was lost" in message]
    assert warning.startswith("executor ")


@pytest.mark.long
def test_executors_whose_python_has_too_little_memory_for_a_fit_name_the_setting(cluster: Cluster) -> None:
    """400 MB suffice to say what is installed; with numba it takes 450 to 500 MB of addresses."""
    with (Path(os.environ["SPARK_CONF_DIR"]) / "spark-defaults.conf").open("a") as configuration:
        configuration.write("spark.executor.pyspark.memory 400m\n")
    settings = cluster.settings.model_copy(update={"irt_spark_fit": "executors"})
    session = spark_session(settings)
    frame = session.createDataFrame(World.of(200, 30).table.drop_columns(["group"]))
    with (
        pytest.raises(PermanentFailure, match=r"set that higher in spark-defaults\.conf") as raised,
        spark_jobs(session, "a fit"),
    ):
        fit_on_spark(session, frame, settings)
    assert "spark.executor.pyspark.memory" in str(raised.value)
