"""A night on real rows: its results, unchanged rows, its messages, and its run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import yaml

from irt_assets import definitions
from irt_assets.abilities.batch import measure
from irt_assets.blocks.markdown import escape
from irt_assets.calibration import nightly
from irt_assets.calibration.nightly_assets import check_night, night_metadata
from irt_assets.common.job_names import NEW_ITEMS_MOVE_ON, NIGHTLY_JOB
from irt_assets.decisions.origin import initialise
from irt_assets.engines.em import EmEngine
from irt_assets.engines.r_engines import REngine
from irt_assets.engines.r_service import Service
from irt_assets.engines.registry import build
from irt_assets.invariants.invariant import InvariantContext, NotTested, Violation
from irt_assets.invariants.learners import runs_agree_on_abilities
from irt_assets.invariants.months import the_nightly_calibration_is_fresh
from irt_assets.scales.scale import change_rules
from irt_assets.simulation.truth import Truth
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.responses import Responses
from resources.dagster_schema import HOW_TO_FIX, ITEMS, rows_of
from resources.failures import TransientFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import SCALE, add_attempts, add_items, answer_matrix, folder_store, model_scores, rows, run_sql
from tests.helpers.scripted_server import answering
from tests.helpers.sentences import missing_sentences
from tests.integration.graph import Graph, metadata

pytestmark = pytest.mark.ci

LAST_DAY = "2026-07-31"
END = datetime(2026, 8, 1, tzinfo=UTC)
EM = EmEngine(1)

COMPLETED = "IRT calibration completed successfully"


def night_of(database: Database, day: str = LAST_DAY, run_id: str | None = None) -> nightly.Night:
    settings = Settings(irt_threads=1, _env_file=None)
    return nightly.calibrate_night(database, day, run_id or f"run of {day}", partial(build, settings=settings))


def fit_rows(database: Database, day: str = LAST_DAY) -> list[tuple[Any, ...]]:
    """Every linked item of the night, with its fit."""
    return rows(
        database,
        """SELECT m.scale_id, m.fit_id, i.item_id, i.params FROM mirt_fit_meta m JOIN mirt_item_params i USING (fit_id)
           WHERE m.kind = 'nightly' AND m.window_end = %s ORDER BY 1, 2, 3""",
        (nightly.window_of(day)[1],),
    )


def abilities(database: Database, kind: str, end: datetime = END) -> pd.DataFrame:
    found = rows(
        database,
        """SELECT user_id, theta, se, n_items, set_hash FROM mirt_ability
           WHERE kind = %s AND window_end = %s AND scale_id = %s ORDER BY 1""",
        (kind, end, SCALE),
    )
    return pd.DataFrame(found, columns=["user_id", "theta", "se", "n_items", "set_hash"]).set_index("user_id")


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("irt_assets")]


# -- comparison with the truth -----------------------------------------------------------------------


def test_night_at_the_end_of_a_month_gives_every_learner_the_months_ability(calibrated: Settings) -> None:
    """The answers and the published set are the same, so the sums are equal to the last bit."""
    database = Database(calibrated)
    measure(database, "2026-07", "monthly run")
    night_of(database)
    monthly, of_night = abilities(database, "monthly"), abilities(database, "nightly")
    assert len(monthly) > 500
    pd.testing.assert_frame_equal(of_night, monthly, check_exact=True)

    with database.connect() as connection:
        look = InvariantContext(connection, folder_store(calibrated), END, [])
        assert list(runs_agree_on_abilities.find(look)) == []
        connection.execute("UPDATE mirt_ability SET theta = theta + 0.001 WHERE kind = 'nightly' AND user_id = %s",
                           (of_night.index[3],))  # fmt: skip
        (violation,) = runs_agree_on_abilities.find(look)
        assert violation.subject == f"{SCALE}: {of_night.index[3]}"
        connection.rollback()

        # Month and night may share an error, which the API would reveal. Learners with later answers are not compared.
        first = "(SELECT user_id FROM mirt_ability ORDER BY md5(user_id) LIMIT 1)"
        connection.execute(f"UPDATE mirt_ability SET theta = theta + 1e-8 WHERE user_id = {first}")
        of_month_and_night = list(runs_agree_on_abilities.find(look))
        assert [found.expected.endswith("as in the θ API") for found in of_month_and_night] == [True]
        connection.execute(f"UPDATE mirt_ability SET n_items = n_items + 1 WHERE user_id = {first}")
        assert list(runs_agree_on_abilities.find(look)) == []
        connection.rollback()


def test_parameters_of_a_night_equal_the_simulated_parameters_within_their_errors(
    months: Database, small_truth: Truth
) -> None:
    """The z of 36 items against the truth have a mean square of 1 if errors are right. Errors are rather too large (see
    `transform`), and the mean of 72 squares of normal z exceeds 1.5 once in a thousand."""
    night_of(months)
    found = {item: params for _, _, item, params in fit_rows(months)}
    bank = small_truth.bank
    at = [bank.item_ids.index(item) for item in found]
    assert len(at) == 36
    z = []
    for name, true in (("a", bank.a), ("b", bank.b[1])):
        value = np.array([params[name] for params in found.values()])
        z.append((value - true[at]) / np.array([params[f"{name}_se"] for params in found.values()]))
    assert np.mean(np.square(z)) < 1.5
    assert np.mean(np.abs(z) < 1.96) > 0.85


def test_linking_constants_equal_the_known_mean_and_sd_of_the_learners(database: Database) -> None:
    """Learners of N(0.5, 1.2²) on a bank of known values: θ* = 1.2·θ + 0.5, within three standard errors."""
    rng = np.random.default_rng(11)
    a, b = rng.uniform(0.8, 1.6, 30), rng.uniform(-1.5, 2.0, 30)
    names = [f"i{k:02d}" for k in range(30)]
    add_items(database, {n: {"a": a[k], "b": b[k], "a_se": 0.02, "b_se": 0.02} for k, n in enumerate(names)})
    scores = model_scores(rng.normal(0.5, 1.2, 1500), a, b, rng)
    add_attempts(database, answer_matrix("2026-07", scores, names))
    initialise(database, SCALE, first_month="2026-07")
    (outcome,) = night_of(database).outcomes
    linking = outcome.placed.linking
    assert abs(linking.slope - 1.2) < 3 * linking.slope_se < 0.3
    assert abs(linking.intercept - 0.5) < 3 * linking.intercept_se < 0.3
    (stored,) = rows(database, "SELECT model_spec->'linking_constants' FROM mirt_fit_meta WHERE kind = 'nightly'")
    assert (stored[0]["slope"], stored[0]["intercept"]) == (linking.slope, linking.intercept)


# -- stored rows -------------------------------------------------------------------------------------


def test_items_without_published_parameters_are_provisional_and_not_used_for_scoring(world_database: Database) -> None:
    """Before the first month is published, only the anchors are."""
    night = night_of(world_database)
    anchors = {item for (item,) in rows(world_database, "SELECT item_id FROM anchor_set")}
    params = {item: p for _, _, item, p in fit_rows(world_database)}
    provisional = {item for item, p in params.items() if p.get("provisional")}
    assert provisional == set(params) - anchors != set()
    assert set(night.outcomes[0].provisional) == provisional
    assert str(night_metadata(night)["provisional items"].value).startswith(f"{SCALE}: {len(provisional)}: ")
    assert rows(world_database, "SELECT count(*) FROM item_parameter_publication WHERE rule <> 'origin'") == [(0,)]
    assert rows(world_database, "SELECT max(n_items) FROM mirt_ability WHERE kind = 'nightly'")[0][0] <= len(anchors)


def test_a_published_item_is_not_provisional(months: Database) -> None:
    night = night_of(months)
    assert night.outcomes[0].provisional == ()
    assert not any("provisional" in params for *_, params in fit_rows(months))
    assert night_metadata(night)["provisional items"].value == "every fitted item is published"


def test_second_run_of_a_day_replaces_only_the_rows_of_the_day(months: Database) -> None:
    night_of(months, "2026-07-30", "before")
    other = fit_rows(months, "2026-07-30")
    night_of(months, run_id="first")
    first = fit_rows(months)
    night_of(months, run_id="second")
    second = fit_rows(months)
    assert {f for _, f, *_ in first}.isdisjoint({f for _, f, *_ in second})
    assert [(s, i, p) for s, _, i, p in second] == [(s, i, p) for s, _, i, p in first]
    assert fit_rows(months, "2026-07-30") == other
    runs = "SELECT DISTINCT update_id FROM mirt_ability WHERE kind = 'nightly' AND window_end = %s"
    assert rows(months, runs, (END,)) == [("second",)]
    orphans = "SELECT count(*) FROM mirt_item_params WHERE fit_id NOT IN (SELECT fit_id FROM mirt_fit_meta)"
    assert rows(months, orphans) == [(0,)]


def test_killed_night_keeps_the_earlier_fit_and_abilities(months: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    night_of(months)
    before = fit_rows(months), abilities(months, "nightly")

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nightly, "measure_at", dies)
        with pytest.raises(KeyboardInterrupt):
            night_of(months, run_id="dies")
    assert fit_rows(months) == before[0]
    pd.testing.assert_frame_equal(abilities(months, "nightly"), before[1])


def test_night_is_stored_in_the_documents_tables_like_a_month(months: Database) -> None:
    night_of(months)
    (meta,) = rows(
        months,
        """SELECT window_start, window_end, engine, converged, superseded_at, data_hash <> '', anchor_hash <> '',
                  model_spec->'linking_constants' ?& ARRAY['slope', 'intercept', 'slope_se', 'intercept_se', 'method',
                                                          'rmse', 'anchors_used', 'anchors_dropped', 'anchor_set']
           FROM mirt_fit_meta WHERE kind = 'nightly' AND window_end = %s""",
        (END,),
    )
    assert meta == (END - timedelta(days=30), END, "em", True, None, True, True, True)
    of_months = "SELECT count(*) FROM mirt_fit_meta WHERE kind = 'monthly' AND superseded_at IS NULL"
    assert rows(months, of_months) == [(2,)]


# -- unusual nights -------------------------------------------------------------------------------------


def test_night_without_answers_is_quiet_and_still_measures_every_learner(
    months: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    night = night_of(months, "2026-10-15")
    assert (night.problem, night.failed) == (None, {})
    assert check_night(night).passed
    reason = night.outcomes[0].quiet
    assert reason.startswith(
        "the window of 30 days to 2026-10-15 has no scored response on scale default (no attempts)"
    )
    assert escape(reason) in str(night_metadata(night)["night"].value)
    assert fit_rows(months, "2026-10-15") == []
    assert len(abilities(months, "nightly", datetime(2026, 10, 16, tzinfo=UTC))) > 500
    assert messages(caplog)[0] == "Loaded 0 observations from attempt VIEW"
    assert COMPLETED not in messages(caplog)


def test_rerun_night_deletes_its_fit_if_answers_are_now_too_few(world_database: Database) -> None:
    night_of(world_database)
    assert fit_rows(world_database)
    change_rules(world_database, SCALE, {"min_provisional_responses": 5000, "min_responses": 5000})
    assert "few_item_responses" in night_of(world_database).outcomes[0].quiet
    assert fit_rows(world_database) == []


def add_scale_answers(database: Database, items: dict[str, Any], scale_id: str) -> None:
    """600 learners' answers to 8 items of a scale that was never initialised."""
    rng = np.random.default_rng(5)
    add_items(database, items, scale_id=scale_id)
    scores = model_scores(rng.normal(size=600), np.ones(8), np.linspace(-1, 1, 8), rng)
    add_attempts(database, answer_matrix("2026-07", scores, list(items)))


def without_origin(database: Database, scale_id: str) -> None:
    add_scale_answers(database, {f"z{k}": None for k in range(8)}, scale_id)


def test_night_of_a_scale_without_an_origin_fails_and_names_both_remedies(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    without_origin(database, SCALE)
    assert not missing_sentences(
        str(night_of(database).problem),
        "has no origin, so 2026-07-02:2026-08-01 cannot be placed on it",
        "run `irt scale init --scale default`, or declare a window its origin",
        "`irt scale init --scale default --origin 2026-07-02:2026-08-01`",
    )
    assert messages(caplog)[:2] == [
        "Loaded 4800 observations from attempt VIEW",
        "Loaded 0 anchors/seeds from question.meta",
    ]


def test_failed_scale_does_not_stop_a_second_scale_and_fails_the_nights_check(world_database: Database) -> None:
    without_origin(world_database, "other")
    night = night_of(world_database)
    assert night.problem is None
    assert {o.scale_id: o.warning is not None for o in night.outcomes} == {SCALE: True, "other": False}
    check = check_night(night)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "scale other has no origin" in str(check.description)
    assert {scale for scale, *_ in fit_rows(world_database)} == {SCALE}


def test_failed_scale_keeps_its_earlier_fit(world_database: Database) -> None:
    night_of(world_database)
    before = fit_rows(world_database)
    run_sql(world_database, "UPDATE calibration_scale SET engine = 'stan'")
    assert "unknown engine 'stan'" in str(night_of(world_database, run_id="again").problem)
    assert fit_rows(world_database) == before


def test_night_fails_with_the_reason_if_the_answers_contain_no_anchor(world_database: Database) -> None:
    run_sql(world_database, "UPDATE anchor_set SET item_id = 'gone ' || item_id")
    problem = night_of(world_database).problem
    assert not missing_sentences(
        str(problem), "cannot be linked to anchor set 1", "It is not among the items of this fit."
    )
    assert fit_rows(world_database) == []
    assert len(abilities(world_database, "nightly")) > 100


def test_moved_item_is_named_in_the_warning_and_in_the_table(months: Database) -> None:
    run_sql(
        months,
        "UPDATE item_parameter_publication SET parameters = parameters || jsonb_build_object('b', b + 2)"
        " WHERE item_id = 'C02'",
    )
    try:
        night = night_of(months)
        check = check_night(night)
    finally:
        run_sql(
            months,
            "UPDATE item_parameter_publication SET parameters = parameters || jsonb_build_object('b', b - 2)"
            " WHERE item_id = 'C02'",
        )
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"{LAST_DAY}: b differs from the published value of one item: C02" in str(check.description)
    assert [(row["scale"], row["item"]) for row in rows_of(check.metadata, ITEMS)] == [(SCALE, "C02")]
    assert "Wait for the month" in str(check.metadata[HOW_TO_FIX].value)
    table = str(night_metadata(night)["difficulties against the published"].value)
    assert "| C02 |" in next(line for line in table.splitlines() if "| moved |" in line)


# -- the log -----------------------------------------------------------------------------------------


def test_log_of_a_night_contains_the_documents_messages(months: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    night_of(months)
    (n,) = rows(
        months,
        "SELECT count(*) FROM attempt WHERE completed_at >= %s AND completed_at < %s",
        (END - timedelta(days=30), END),
    )[0]
    (constants,) = rows(
        months,
        """SELECT round((c->>'slope')::numeric, 4)::float8, round((c->>'intercept')::numeric, 4)::float8
           FROM (SELECT model_spec->'linking_constants' AS c FROM mirt_fit_meta
                 WHERE kind = 'nightly' AND window_end = %s) t""",
        (END,),
    )
    assert messages(caplog) == [
        f"Loaded {n} observations from attempt VIEW",
        "Loaded 15 anchors/seeds from question.meta",
        f"Linking constants received: {{'slope': {constants[0]}, 'intercept': {constants[1]}}}",
        COMPLETED,
    ]


def fit_like_mirt(request: dict[str, Any]) -> dict[str, Any]:
    """The response of the R IRT service, computed by em: both maximise the same likelihood."""
    responses = Responses(
        np.array(request["person"], dtype=np.int32),
        np.array(request["item"], dtype=np.int32),
        np.array(request["score"], dtype=np.int8),
        request["n_persons"],
        tuple(request["item_ids"]),
    )
    fit = fit_em(responses, model=request["model"], threads=1)
    c = fit.convergence
    return {
        "a": fit.a.tolist(),
        "d": fit.d.tolist(),
        "c": fit.c.tolist(),
        "cov": fit.cov.tolist(),
        "cov_of": ["a", "d"],
        "latent": {"mean": 0.0, "sd": 1.0},
        "loglik": c.loglik,
        "n_parameters": c.n_parameters,
        "converged": True,
        "reason": "",
        "iterations": c.iterations,
        "diagnostics": {},
        "versions": {"R": "4.4.0", "mirt": "1.44"},
        "warnings": [],
    }


@pytest.fixture
def remote_world(world: Settings) -> Iterator[Database]:
    database = Database(world)
    run_sql(database, "UPDATE calibration_scale SET engine = 'remote'")
    return database


def remote(url: str) -> Any:
    return lambda _: REngine("remote", Service(url, "token-of-the-test", pause=0.01).call)


def test_scale_of_the_remote_engine_is_fitted_in_the_service_and_the_call_is_logged(
    remote_world: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(json.dumps(fit_like_mirt(seen.bodies[-1])).encode())

    with answering(answer) as seen:
        night = nightly.calibrate_night(remote_world, LAST_DAY, "run", remote(seen.url))
    assert night.failed == {}
    logged = messages(caplog)
    assert [message.partition(":")[0] for message in logged] == [
        logged[0],
        "Loaded 15 anchors/seeds from question.meta",
        "Calling R IRT service...",
        "Linking constants received",
        COMPLETED,
    ]
    of_remote = {item: params for _, _, item, params in fit_rows(remote_world)}
    assert rows(remote_world, "SELECT DISTINCT engine FROM mirt_fit_meta WHERE kind = 'nightly'") == [("remote",)]
    run_sql(remote_world, "UPDATE calibration_scale SET engine = 'em'")
    night_of(remote_world)
    of_em = {item: params for _, _, item, params in fit_rows(remote_world)}
    # The same maximum, except for em's prior on items with few answers: only these items may differ.
    few = {i for (i,) in rows(remote_world, "SELECT item_id FROM mirt_item_params WHERE flags ? 'provisional'")}
    anchors = {item for (item,) in rows(remote_world, "SELECT item_id FROM anchor_set")}
    assert of_remote.keys() == of_em.keys()
    for item in of_em.keys() - (few - anchors):
        assert of_remote[item]["b"] == pytest.approx(of_em[item]["b"], abs=0.02), item


def test_unavailable_service_is_logged_and_raises_a_transient_failure(
    remote_world: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with answering((503, {"error": {"kind": "transient", "message": "busy"}})) as seen:
        night = nightly.calibrate_night(remote_world, LAST_DAY, "run", remote(seen.url))
    assert len(seen.paths) == 3
    assert isinstance(night.problem, TransientFailure)
    logged = messages(caplog)
    assert "R IRT service call failed after 3 attempts" in logged
    assert COMPLETED not in logged
    assert fit_rows(remote_world) == []
    assert len(abilities(remote_world, "nightly")) > 100


def test_scale_with_an_unavailable_service_does_not_stop_a_second_scale(world_database: Database) -> None:
    """The results of the remaining scales are written before the step is retried."""
    items = {f"z{k}": {"a": 1.0, "b": (k - 3.5) / 3.5, "a_se": 0.05, "b_se": 0.05} for k in range(8)}
    add_scale_answers(world_database, items, "other")
    initialise(world_database, "other", first_month="2026-07", engine="em")
    run_sql(world_database, "UPDATE calibration_scale SET engine = 'remote' WHERE scale_id = 'other'")
    with answering((503, {"error": {"kind": "transient", "message": "busy"}})) as seen:
        night = nightly.calibrate_night(
            world_database, LAST_DAY, "run", lambda n: remote(seen.url)(n) if n == "remote" else EM
        )
    assert isinstance(night.problem, TransientFailure)
    assert list(night.failed) == ["other"]
    assert {scale for scale, *_ in fit_rows(world_database)} == {SCALE}


# -- as a run ----------------------------------------------------------------------------------------


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance with the logs of the real one."""
    stated = yaml.safe_load(Path(definitions.__file__).with_name("dagster.yaml").read_text("utf-8"))["python_logs"]
    with dg.DagsterInstance.ephemeral(settings={"python_logs": stated}) as made:
        yield made


def test_documents_job_produces_a_night_with_its_check_tables_and_log(
    calibrated: Settings, instance: dg.DagsterInstance
) -> None:
    result = Graph(calibrated, instance).run(LAST_DAY, NIGHTLY_JOB)
    evaluations = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert evaluations.keys() == {"nightly_links_like_the_month", NEW_ITEMS_MOVE_ON}
    evaluation = evaluations["nightly_links_like_the_month"]
    assert (evaluation.passed, evaluation.partition) == (True, None)
    shown = metadata(result, "nightly_calibration")
    assert shown["dagster/row_count"] == 36
    assert "| default | 2026-07 | slope |" in str(shown["linking against the last month"])
    assert str(shown[f"plot: nightly b against published ({SCALE})"]).startswith("![")
    logged = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.dagster_event is None]
    assert logged[0].startswith("Loaded ")
    assert logged[-1] == COMPLETED


# -- freshness ---------------------------------------------------------------------------------------


def test_quiet_night_is_fresh_and_an_old_night_violates_the_invariant(calibrated: Settings) -> None:
    database = Database(calibrated)
    night_of(database, "2026-11-15")
    with database.connect() as connection:
        now = datetime.now(UTC)
        store = folder_store(calibrated)
        assert list(the_nightly_calibration_is_fresh.find(InvariantContext(connection, store, now, []))) == []
        tomorrow = InvariantContext(connection, store, now + timedelta(hours=26), [])
        assert [type(found) for found in the_nightly_calibration_is_fresh.find(tomorrow)] == [Violation]
        connection.execute("DELETE FROM mirt_ability WHERE kind = 'nightly'")
        connection.execute("DELETE FROM mirt_fit_meta WHERE kind = 'nightly'")
        never = the_nightly_calibration_is_fresh.find(InvariantContext(connection, store, now, []))
        assert [type(found) for found in never] == [NotTested]
        connection.rollback()
