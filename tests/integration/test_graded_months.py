"""Months of multiple choice beside essays: graded items, and 3PL items beside items of the partial credit model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg
import numpy as np
import pytest

from irt_assets.abilities.online import read_measures, update
from irt_assets.common.partitions import Month
from irt_assets.decisions.exports import read_export
from irt_assets.decisions.model_change import preview_model_change
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.engines.em import EmEngine
from irt_assets.gates.month_classification import State
from irt_assets.ledger.publications import in_force
from irt_assets.reports.assets import DRIFT_REPORT_JOB
from irt_psychometrics.items import item_model
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, attempt, call, folder_store, rows, run_sql
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph

FIRST, NEXT = MONTHS
LEARNERS, MOST = 2000, 4
CHOICE, ESSAYS = [f"m{k:02d}" for k in range(20)], [f"e{k}" for k in range(5)]
NEW = ("m19", "e4")
"""Items that the second month has and the first has not."""
RULES = {"min_responses": 500, "min_responses_3pl": 500, "min_anchor_responses": 500}
MODELS = {"grm": ("2pl", "grm"), "3pl+gpcm": ("3pl", "gpcm")}
"""Model of a scale → models of its items of multiple choice and of its essays."""


@dataclass(frozen=True)
class Exam:
    """The month that the real jobs made, and its learners' true abilities by user."""

    model: str
    graph: Graph
    theta: dict[str, float]


def parameters_of(model: str) -> dict[str, np.ndarray]:
    """True parameters of each item on the scale of estimation."""
    rng = np.random.default_rng(3)
    choice, essay = MODELS[model]
    found = {}
    for item in CHOICE:
        a, b = np.exp(rng.normal(0.3, 0.2)), rng.normal(0, 1)
        found[item] = np.array([a, -a * b] + ([-1.4] if choice == "3pl" else []))
    for item in ESSAYS:
        a, b = np.exp(rng.normal(0.3 if essay == "grm" else -0.4, 0.15)), rng.normal(0, 0.4)
        inner = np.log(rng.uniform(0.8, 1.3, MOST - 1) * a) if essay == "grm" else rng.normal(0.4, 0.2, MOST - 1)
        found[item] = np.array([a, -a * b, 0.0, *inner, 0.0])
    return found


def add_answers(database: Database, model: str, month: str, mean: float, items: list[str]) -> dict[str, float]:
    """Add a month's answers by learners of its own. Returns their true θ."""
    rng, truth = np.random.default_rng(int(month[-2:])), parameters_of(model)
    theta = rng.normal(mean, 1, LEARNERS)
    start, attempts = Month(month).start + timedelta(days=2), []
    for j, item in enumerate(items):
        own = item_model(MODELS[model][item[0] == "e"])
        p = own.probabilities(theta, truth[item][:, None], np.array([1 + (MOST if item[0] == "e" else 1)]))[0]
        scores = (rng.random((LEARNERS, 1)) > np.cumsum(p, axis=1)).sum(axis=1).tolist()
        for k, score in enumerate(scores):
            given = {"correct": score == MOST, "score": score} if item[0] == "e" else {"correct": score == 1}
            attempts.append(attempt(f"{month}-{k}", item, start + timedelta(minutes=j), **given))
    add_attempts(database, attempts)
    return {f"{month}-{k}": float(x) for k, x in enumerate(theta)}


def begin(settings: Settings, model: str) -> dict[str, float]:
    database, old = Database(settings), [item for item in (*CHOICE, *ESSAYS) if item not in NEW]
    add_items(database, dict.fromkeys([*CHOICE, *ESSAYS]))
    meta = json.dumps({"irt": {"max_score": MOST}})
    run_sql(database, "UPDATE question SET meta = %s WHERE item_id LIKE 'e%%'", (meta,))
    add_answers(database, model, FIRST, 0.0, old)
    theta = add_answers(database, model, NEXT, 0.3, [*CHOICE, *ESSAYS])
    window = OriginWindow(*Month(FIRST).bounds, EmEngine(1), folder_store(settings))
    initialise(database, SCALE, first_month=FIRST, thresholds=RULES, model=model, window=window)  # type: ignore[arg-type]
    (settings.irt_home / "dagster").mkdir(parents=True)
    with dg.DagsterInstance.local_temp(str(settings.irt_home / "dagster")) as instance:
        graph = Graph(settings, instance)
        for job in (None, DRIFT_JOB, DRIFT_REPORT_JOB):
            result = graph.run(NEXT, *([job] if job else []))
            assert result.success, job
    return theta


@pytest.fixture(scope="module", params=[*MODELS])
def exam(
    request: pytest.FixtureRequest,
    postgres: EmbeddedPostgres,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Exam]:
    model = request.param
    template = f"template_exam_{model.replace('+', '_')}"
    theta = made_once(postgres, template, migrated_template, lambda settings: begin(settings, model), **OF_MONTHS)
    with (
        template_copy(postgres, template, tmp_path_factory.mktemp("exam"), **OF_MONTHS) as settings,
        dg.DagsterInstance.local_temp(str(settings.irt_home / "dagster")) as instance,
    ):
        yield Exam(model, Graph(settings, instance), theta)


def test_month_is_green_and_publishes_the_new_items(exam: Exam) -> None:
    found = exam.graph.state(NEXT)
    assert found.state is State.GREEN, found.why
    published = rows(exam.graph.database, "SELECT item_id FROM item_parameter_publication WHERE rule = 'first'")
    new = {item for (item,) in published}
    assert "e4" in new
    if exam.model == "grm":
        assert new == set(NEW)
    assert len(call(exam.graph.database, in_force, SCALE, Month(NEXT).end).items) > 20, (
        "easy 3PL items have wide errors"
    )


def test_published_curves_are_near_the_simulated_ones(exam: Exam) -> None:
    """The origin's window has θ ~ N(0, 1), so both are on one scale. The RMS difference of an item's curve over N(0, 1)
    has an error of about .5/√2000 = .011 from the answers, and as much again from the scale."""
    items = call(exam.graph.database, in_force, SCALE, Month(NEXT).end).items
    nodes = np.linspace(-2.5, 2.5, 21)
    weights = np.exp(-(nodes**2) / 2)
    for item, values in parameters_of(exam.model).items():
        if item not in items:
            continue
        n = (MOST if item[0] == "e" else 1) + 1
        own = item_model(MODELS[exam.model][item[0] == "e"])
        score = own.expected_score(nodes, values[:, None], np.array([n]))[0] / (n - 1)
        found = items[item].curve(nodes)
        assert np.sqrt(np.average((found - score) ** 2, weights=weights)) < 0.045, item


def test_abilities_are_those_that_were_simulated(exam: Exam) -> None:
    """Standard errors hold: the mean square of (θ̂ − θ)/SE is 1 within 3 standard errors of a mean of 2,000, and EAP
    under the prior of the scale's population shrinks a little more than errors say."""
    query = "SELECT user_id, theta, se FROM mirt_ability WHERE kind = 'monthly'"
    found = [(user, theta, se) for user, theta, se in rows(exam.graph.database, query) if user in exam.theta]
    assert len(found) == LEARNERS
    z = np.array([(theta - exam.theta[user]) / se for user, theta, se in found])
    assert 0.85 < np.mean(z**2) < 1.15
    truth = [exam.theta[user] for user, _, _ in found]
    assert np.corrcoef(truth, [theta for _, theta, _ in found])[0, 1] > 0.9


def test_requests_give_the_month_s_theta(exam: Exam) -> None:
    query = "SELECT user_id, theta FROM mirt_ability WHERE kind = 'monthly' AND user_id = %s"
    now = Month(NEXT).end
    for user in [*exam.theta][:3]:
        [(_, theta)] = rows(exam.graph.database, query, (user,))
        with exam.graph.database.connect() as connection:
            assert update(connection, read_measures(connection, now), user, 365, now)[SCALE].theta == pytest.approx(
                theta, abs=1e-12
            )


def test_drift_names_no_item_that_did_not_move(exam: Exam) -> None:
    compared = rows(exam.graph.database, "SELECT item_id FROM item_drift WHERE month = %s", (NEXT,))
    named = rows(
        exam.graph.database,
        "SELECT item_id, severity FROM item_drift WHERE month = %s AND severity IN ('medium', 'high')",
        (NEXT,),
    )
    assert len(compared) > 20
    assert {"e0", "e1", "e2", "e3"} <= {item for (item,) in compared}
    assert named == []


def test_export_has_the_thresholds(exam: Exam) -> None:
    table = call(exam.graph.database, read_export, "parameters", Month(NEXT).end).set_index("item_id")
    further = json.loads(table.loc["e0", "further"])
    assert further["max_score"] == MOST
    assert [f"b{k}" in further for k in range(1, MOST + 1)] == [True] * MOST
    assert (table.loc["m01", "c"] > 0) == (MODELS[exam.model][0] == "3pl")
    assert table.loc["e0", "c"] == 0


def test_model_of_the_scale_is_a_decision_with_a_preview(exam: Exam) -> None:
    other = {"grm": "gpcm", "3pl+gpcm": "3pl+grm"}[exam.model]
    change = preview_model_change(
        exam.graph.database,
        folder_store(exam.graph.settings),
        SCALE,
        {"model": other},
        NEXT,
        calibrations_begin=FIRST,
        build=lambda _: EmEngine(1),
    )
    assert change.stale == (NEXT,)
    assert change.anchors is not None
    assert f"model {exam.model} → {other}" in change.lines[0]
