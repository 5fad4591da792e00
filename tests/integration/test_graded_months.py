"""Months of scales with graded items, and of 3PL items beside scored items, with the default rules.

The first month is the origin window. The job makes the next two months: new items, learners whose mean has grown, and
in the last month an essay whose highest score nobody has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

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
from irt_assets.ledger.fits import linked_fit
from irt_assets.ledger.publications import in_force
from irt_assets.new_items.pipeline import make_pipeline
from irt_assets.reports.assets import DRIFT_REPORT_JOB
from irt_psychometrics.items import item_model
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import template_copy
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, attempt, call, rows, run_sql
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph

FIRST, NEXT, LAST = (*MONTHS, "2026-08")
MEANS = {FIRST: 0.0, NEXT: 0.3, LAST: 0.5}
LEARNERS, MOST = 2000, 4
CHOICES, ESSAYS = [f"mc{j:02d}" for j in range(20)], [f"essay{j}" for j in range(4)]
NEW = ["mc-new", "essay-new"]
ITEMS = [*CHOICES, *ESSAYS, *NEW]
MODELS = {"grm": ("2pl", "grm"), "3pl+gpcm": ("3pl", "gpcm"), "nominal": ("2pl", "nominal")}
"""Model of a scale → models of its items of multiple choice and of its essays."""
RULES = {"min_responses": 200, "min_responses_3pl": 500, "min_anchor_responses": 200}


@dataclass(frozen=True)
class World:
    """The graph after three months, the true θ by learner, and the outcome of each check by month."""

    model: str
    graph: Graph
    theta: dict[str, float]
    passed: dict[str, dict[str, bool]]


def is_essay(item: str) -> bool:
    return item.startswith("essay")


def truth(model: str, item: str) -> tuple[str, np.ndarray, int]:
    """The item's model, parameters (P, 1) and number of scores."""
    j = ITEMS.index(item)
    binary, scored = MODELS[model]
    b = 0.6 * (j % 5 - 2)
    if not is_essay(item):
        a, c = 1.0 + 0.1 * (j % 6), [np.log(0.2 / 0.8)] if binary == "3pl" else []
        return binary, np.array([a, -a * b, *c])[:, None], 2
    a, own = (1.6, [0, 0.3, 0.2, 0.1, 0]) if scored == "grm" else (0.6, [0, 0.6, 0.7, 0.5, 0])
    if scored == "nominal":
        own = [x for k, t in enumerate(own) for x in (k + 0.3 * (k == 1), t)]
    return scored, np.array([a, -a * 0.5 * b, *own])[:, None], MOST + 1


def add_month(graph: Graph, model: str, month: str, items: list[str], rng: np.random.Generator) -> dict[str, float]:
    theta = rng.normal(MEANS[month], 1.0, LEARNERS)
    users, start, attempts = [f"{month}-{i}" for i in range(LEARNERS)], Month(month).start + timedelta(days=1), []
    for j, item in enumerate(items):
        name, parameters, n = truth(model, item)
        p = item_model(name).probabilities(theta, parameters, np.array([n]))[0]
        score = (rng.random((LEARNERS, 1)) > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)
        if (month, item) == (LAST, "essay0"):
            score = np.minimum(score, MOST - 1)
        attempts += [
            attempt(
                user,
                item,
                start + timedelta(minutes=j),
                correct=bool(x == n - 1),
                score=int(x) if is_essay(item) else None,
            )
            for user, x in zip(users, score, strict=True)
        ]
    add_attempts(graph.database, attempts)
    return dict(zip(users, theta.tolist(), strict=True))


@pytest.fixture(scope="module", params=[*MODELS])
def world(
    request: pytest.FixtureRequest,
    postgres: EmbeddedPostgres,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    with template_copy(postgres, migrated_template, tmp_path_factory.mktemp("graded"), **OF_MONTHS) as settings:
        (settings.irt_home / "dagster").mkdir(parents=True)
        with dg.DagsterInstance.local_temp(str(settings.irt_home / "dagster")) as instance:
            yield run_months(request.param, settings, instance)


def run_months(model: Any, settings: Settings, instance: dg.DagsterInstance) -> World:
    graph, rng = Graph(settings, instance), np.random.default_rng(19)
    add_items(graph.database, dict.fromkeys(ITEMS))
    run_sql(
        graph.database,
        "UPDATE question SET meta = %s WHERE item_id LIKE 'essay%%'",
        (json.dumps({"irt": {"max_score": MOST}}),),
    )
    theta = {}
    for month in MEANS:
        theta |= add_month(graph, model, month, ITEMS[: len(ITEMS) - len(NEW) * (month == FIRST)], rng)
    window = OriginWindow(*Month(FIRST).bounds, EmEngine(1), graph.store)
    initialise(graph.database, SCALE, first_month=FIRST, model=model, thresholds=RULES, window=window)
    passed = {}
    for month in (NEXT, LAST):
        result = graph.run(month)
        assert result.success, month
        found = result.get_asset_check_evaluations()
        passed[month] = {evaluation.check_name: evaluation.passed for evaluation in found}
    return World(model, graph, theta, passed)


@pytest.mark.ci
def test_months_of_graded_and_guessed_scales_are_green(world: World) -> None:
    for month in (NEXT, LAST):
        assert world.graph.state(month).state is State.GREEN, (world.graph.state(month).why, world.passed[month])
    of_items = rows(world.graph.database, "SELECT DISTINCT item_id, params->>'model' FROM mirt_item_params")
    assert dict(of_items) == {item: truth(world.model, item)[0] for item in ITEMS}
    published = rows(world.graph.database, "SELECT item_id FROM item_parameter_publication WHERE rule = 'first'")
    assert sorted(item for (item,) in published) == sorted(NEW)


@pytest.mark.ci
def test_items_and_abilities_are_recovered(world: World) -> None:
    """True parameters lie within four errors on the scale, whose own errors (about .03) are common to all items.

    26 items determine θ with a reliability above .85, so the correlation with the true θ is above √.85 = .92.
    """
    items = call(world.graph.database, in_force, SCALE, Month(LAST).end).items
    assert {*ESSAYS, *NEW} <= set(items)
    assert len(items) >= len(ITEMS) - 2, "the answers to easy items contain almost no information about c"
    for item in items:
        _, parameters, _ = truth(world.model, item)
        a, b = parameters[0, 0], -parameters[1, 0] / parameters[0, 0]
        known = items[item]
        assert abs(known.a - a) < 4 * known.a_se + 0.05, (item, known, a)
        assert abs(known.b - b) < 4 * known.b_se + 0.08, (item, known, b)
    for month in (NEXT, LAST):
        stored = rows(
            world.graph.database,
            "SELECT user_id, theta FROM mirt_ability WHERE kind = 'monthly' AND window_end = %s",
            (Month(month).end,),
        )
        of_month = [(theta, world.theta[user]) for user, theta in stored if user.startswith(month)]
        estimate, true = np.array(of_month).T
        assert estimate.size == LEARNERS
        assert np.corrcoef(estimate, true)[0, 1] > 0.9
        assert estimate.mean() == pytest.approx(true.mean(), abs=0.12), "three errors of the intercept, .04"


@pytest.mark.ci
def test_sound_items_show_no_drift_and_an_unobserved_score_is_exported(world: World) -> None:
    for month in (NEXT, LAST):
        assert world.graph.run(month, DRIFT_JOB).success
        assert world.graph.run(month, DRIFT_REPORT_JOB).success
    levels = dict(rows(world.graph.database, "SELECT item_id, severity FROM item_drift"))
    assert set(call(world.graph.database, in_force, SCALE, Month(NEXT).start).items) <= set(levels)
    assert "high" not in {level for item, level in levels.items() if item != "essay0"}, levels
    fit = call(world.graph.database, linked_fit, SCALE, "monthly", Month(LAST).start, "em")
    assert fit is not None
    assert fit.values["essay0"].absent_scores == [MOST]
    table = call(world.graph.database, read_export, "parameters", Month(LAST).end).set_index("item_id")
    assert json.loads(table.loc["essay-new", "further"])["max_score"] == MOST


@pytest.mark.ci
def test_requests_give_the_months_theta_and_nights_leave_nominal_items_to_months(world: World) -> None:
    """A night estimates the new multiple choice item and, unless it is nominal, the new essay."""
    database, end = world.graph.database, Month(LAST).end
    stored = dict(rows(database, "SELECT user_id, theta FROM mirt_ability WHERE window_end = %s", (end,)))
    for user in (f"{LAST}-{i}" for i in (0, 700, 1999)):
        with database.connect() as connection:
            found = update(connection, read_measures(connection, end), user, 365, end)[SCALE].theta
        assert found == pytest.approx(stored[user], abs=1e-12)
    add_items(database, dict.fromkeys(["mc-late", "essay-late"]))
    meta = json.dumps({"irt": {"max_score": MOST}})
    run_sql(database, "UPDATE question SET meta = %s WHERE item_id = 'essay-late'", (meta,))
    late = [
        attempt(f"{LAST}-{i}", item, end + timedelta(minutes=i), correct=i % 3 == 0, score=score)
        for i in range(150)
        for item, score in (("mc-late", None), ("essay-late", MOST if i % 3 == 0 else i % 3))
    ]
    add_attempts(database, late)
    [pipeline] = make_pipeline(database, f"{end:%Y-%m-%d}")
    estimated = {item.item_id for item in pipeline.items if item.parameters}
    expected = {"mc-late"} if world.model == "nominal" else {"mc-late", "essay-late"}
    assert {"mc-late", "essay-late"} & estimated == expected


@pytest.mark.ci
def test_model_of_the_scale_is_a_decision_with_a_preview(world: World) -> None:
    other = {"grm": "gpcm", "3pl+gpcm": "3pl+grm", "nominal": "grm"}[world.model]
    change = preview_model_change(
        world.graph.database,
        world.graph.store,
        SCALE,
        {"model": other},
        LAST,
        calibrations_begin=FIRST,
        build=lambda _: EmEngine(1),
    )
    assert change.stale == (LAST,)
    assert change.anchors is not None
    assert f"model {world.model} → {other}" in change.lines[0]
