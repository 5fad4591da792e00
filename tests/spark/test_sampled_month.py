"""Months with more attempts than a run may read are fitted to all learners and judged on a named sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pyarrow.compute as pc
import pytest

from irt_assets.calibration.month import fit_month_for_comparison
from irt_assets.calibration.nightly import calibrate_night, window_of
from irt_assets.calibration.nightly_assets import check_night, night_metadata
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin_sources import OriginWindow, fit_window
from irt_assets.decisions.recalibration import recalibrate
from irt_assets.drift.dif_month import answers_of
from irt_assets.engines import Calibrator
from irt_assets.engines.em import EmEngine
from irt_assets.ledger.fits import latest_staged
from irt_assets.responses.snapshot import FIT_COLUMNS, Snapshot, current_snapshot, read_for_run, read_snapshot
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import read_scales
from irt_assets.simulation.truth import Truth
from irt_assets.spark import window as window_on_spark
from resources import settings as settings_of_runs
from resources.failures import PermanentFailure
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers import rooms
from tests.helpers.sentences import missing_sentences
from tests.helpers.trial_engine import TrialEngine
from tests.integration.graph import Graph, graph_of_small_world

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.long

MOST = 4_000
"""Maximum attempts of a run, about half of a month of the small world."""
OF_EVERYBODY = (
    """SELECT m.window_start, p.item_id, p.params #- '{fit}', p.flags
       FROM mirt_item_params p JOIN mirt_fit_meta m USING (fit_id) ORDER BY 1, 2""",
    "SELECT window_start, n_persons, loglik, data_hash, anchor_hash FROM mirt_fit_meta ORDER BY 1",
    "SELECT month, spec->'provisional', spec->'left_out', spec->'shape'->'latent' FROM fit_staging ORDER BY 1",
    "SELECT item_id, a, b, c, a_se, b_se, month FROM item_parameter_publication ORDER BY month, item_id",
    "SELECT window_end, user_id, theta, se FROM mirt_ability ORDER BY 1, 2",
)
"""Queries for the rows of a fit to all learners, which must be equal bit for bit."""
SUMS_OVER_EVERYBODY = """
    SELECT p.infit, p.outfit, p.rmsd, p.point_biserial FROM mirt_item_params p JOIN mirt_fit_meta m USING (fit_id)
    ORDER BY m.window_start, p.item_id"""

Made = tuple[Graph, list[dg.ExecuteInProcessResult], list[Any], np.ndarray]


@pytest.fixture(scope="module")
def months(
    postgres: EmbeddedPostgres, small_truth: Truth, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """Both months of the small world on Spark with a sample.

    Yields their graph, their runs, the rows of a fit to all learners on one machine, and its fit statistics.
    """
    server = postgres.start()
    with pytest.MonkeyPatch.context() as patch, graph_of_small_world(server, "whole", tmp_path_factory) as graph:
        assert all(graph.run(month).success for month in rooms.MONTHS)
        of_everybody, statistics = _left(graph), _statistics(graph)
        folder = str(tmp_path_factory.mktemp("lake"))
        settings = {"IRT_SPARK": "local[2]", "IRT_ATTEMPTS": folder}
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(window_on_spark, "ROWS_OF_A_PART", 500)
        patch.setattr(settings_of_runs, "MAX_ATTEMPTS_OF_A_RUN", MOST)
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


def test_parameters_equal_a_fit_to_all_learners(months: Made) -> None:
    graph, runs, of_everybody, _ = months
    for run in runs:
        assert run.success, [event.step_failure_data.error for event in run.all_events if event.is_step_failure]
    for found, expected in zip(_left(graph), of_everybody, strict=True):
        assert found == expected


def test_fit_statistics_that_are_sums_equal_a_fit_to_all_learners(months: Made) -> None:
    graph, *_, of_everybody = months
    found = _statistics(graph)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, of_everybody, rtol=1e-8)  # the same answers, added in another order


def test_a_sample_has_all_answers_of_its_learners(months: Made) -> None:
    graph, *_ = months
    snapshot = _snapshot(graph, rooms.MONTHS[0])
    sample = read_for_run(graph.store, snapshot, MOST, FIT_COLUMNS)
    everybody = read_snapshot(graph.store, snapshot, columns=FIT_COLUMNS)
    assert 0.7 * MOST < sample.num_rows <= MOST < everybody.num_rows
    assert everybody.filter(pc.is_in(everybody["learner_key"], sample["learner_key"])).num_rows == sample.num_rows


def test_the_fit_and_its_gates_name_the_sample(months: Made) -> None:
    graph, runs, *_ = months
    for month, run in zip(rooms.MONTHS, runs, strict=True):
        with graph.database.connect() as connection:
            staged = latest_staged(connection, month, rooms.SCALE, "em")
        sample, snapshot = staged.spec.sample, _snapshot(graph, month)
        assert sample.of_answers == snapshot.counts[rooms.SCALE]["scored"]
        assert sample.answers < MOST < sample.of_answers
        assert sample.learners < sample.of_learners == staged.decode().n_persons
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


def test_computations_that_need_all_answers_in_a_process_are_refused(months: Made) -> None:
    graph, *_ = months

    def build(name: str) -> Calibrator:
        return TrialEngine(1)

    (fit,) = fit_month_for_comparison(
        graph.database, graph.store, rooms.MONTHS[0], None, engine="trial", scales=None, build=build
    )
    assert not missing_sentences(fit.error, "scored answers: unset IRT_SPARK on a machine")
    with pytest.raises(PermanentFailure, match=f"{rooms.MONTHS[1]} has more attempts than a run reads"):
        recalibrate(graph.database, graph.store, rooms.SCALE, rooms.MONTHS[1], rooms.MONTHS[1])
    window = OriginWindow(*Month(rooms.MONTHS[0]).bounds, EmEngine(1), graph.store)
    with pytest.raises(PermanentFailure, match=f"than a run reads, {MOST:,}: name fewer days"):
        fit_window(graph.database, rooms.SCALE, window, Rules(), "2pl")


def test_a_night_is_fitted_to_a_sample_and_measures_all_learners(months: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, *_ = months
    start, end = window_of("2026-07-31")
    with graph.database.connect() as connection:
        n, of_month = connection.execute(
            """SELECT (SELECT count(*) FROM attempt WHERE completed_at >= %(start)s AND completed_at < %(end)s),
                      (SELECT count(*) FROM mirt_ability WHERE kind = 'monthly' AND window_end = %(end)s)""",
            {"start": start, "end": end},
        ).fetchall()[0]
    most = int(0.85 * n)  # so that items have the 120 answers that the scale requires
    monkeypatch.setattr(settings_of_runs, "MAX_ATTEMPTS_OF_A_RUN", most)
    night = calibrate_night(graph.database, "2026-07-31", "night", lambda _: EmEngine(1))
    (outcome,) = night.outcomes
    assert night.share == most / n
    assert abs(outcome.loaded / most - 1) < 0.1  # four standard errors of a share of 600 learners are 6 %
    assert outcome.loaded < n
    assert outcome.warning is not None
    assert len(night.measured[0].theta) == of_month
    sample = f"a random sample of {night.share:.2%} of the learners"
    assert check_night(night).description.endswith(f"judged on {sample}")
    assert night_metadata(night)["fitted to"].value == sample
