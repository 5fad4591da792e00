"""Months of a bank with testlets: estimates, values in force, and every reported SE(θ) that includes the effects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit

from irt_assets.abilities.batch import ScaleAbilities, estimate, measure, stale_months
from irt_assets.abilities.blocks import ability_metadata
from irt_assets.abilities.online import read_measures, read_theta
from irt_assets.calibration.blocks import fit_metadata
from irt_assets.calibration.month import FitOutcome, fit_month, link_month, publish_month
from irt_assets.calibration.nightly import calibrate_night
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.drift.information import information_of_month
from irt_assets.engines.em import EmEngine
from irt_assets.invariants.invariant import InvariantContext, Violation
from irt_assets.invariants.learners import runs_agree_on_abilities
from irt_assets.kpis import ability as kpis
from irt_assets.ledger.anchors import read_every_anchor
from irt_assets.ledger.fits import latest_staged
from irt_assets.ledger.fitted_items import items_of_fit
from irt_assets.ledger.publications import PublishedSet, in_force, publications_in_force
from irt_assets.ledger.values_with_errors import (
    compare_with_published,
    linked_window,
    set_in_force_with_errors,
)
from irt_assets.responses.facts import LOOKBACK
from irt_assets.responses.scored_answers import scored_answers, scoring_responses
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.scales.scale import read_scales
from irt_psychometrics import Calibration
from irt_psychometrics.drift import Drift
from irt_psychometrics.information import Information
from irt_psychometrics.items import ItemParameters
from psychometrics_testbed.trial_item_model import MODEL
from resources.cluster.relational import on_postgres
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import (
    MADE_UP_SPEC,
    MONTHS,
    SCALE,
    add_attempts,
    add_items,
    answer_matrix,
    call,
    folder_store,
    link_made_up,
    made_up_calibration,
    rows,
    run_sql,
)
from tests.helpers.worlds import OF_MONTHS

FIRST, NEXT = MONTHS
END = Month(NEXT).end
LEARNERS, SD = 700, 0.8
TESTLETS = [f'Text {t}: "π" \'; -- \\ %s' for t in range(8)]
SHARING = {f"i{j:02d}": TESTLETS[j // 4] for j in range(32)}
ALONE = ["i32", "i33", "i34", "i35"]
NEW = {"new0": "new", "new1": "new"}
ITEMS = [*SHARING, *ALONE, *NEW]
RULES = {"min_responses": 200, "min_anchor_responses": 200, "latent": "normal"}


def add_answers(database: Database, month: str, items: list[str], mean: float, rng: np.random.Generator) -> None:
    a, b = np.exp(np.linspace(-0.3, 0.5, len(ITEMS))), np.resize([-1.0, 0.4, -0.2, 1.1, 0.0], len(ITEMS))
    testlets = sorted({*TESTLETS, "new"})
    effects = SD * rng.normal(size=(LEARNERS, len(testlets)))
    shared = np.zeros((LEARNERS, len(items)))
    for j, item in enumerate(items):
        if item not in ALONE:
            shared[:, j] = effects[:, testlets.index((SHARING | NEW)[item])]
    theta = rng.normal(mean, 1.0, (LEARNERS, 1))
    p = expit(a[: len(items)] * (theta + shared - b[: len(items)]))
    scores = (rng.random(p.shape) < p).astype(float)
    add_attempts(database, answer_matrix(month, scores, items, [f"{month}-{i}" for i in range(LEARNERS)]))


def fit(settings: Settings, month: str) -> FitOutcome:
    database, store = Database(settings), folder_store(settings)
    take_snapshot(database, store, month, "run")
    (outcome,) = fit_month(database, store, month, EmEngine(1), "run")
    return outcome


def calibrate(settings: Settings, month: str) -> FitOutcome:
    outcome = fit(settings, month)
    link_month(Database(settings), month, "run")
    publish_month(Database(settings), folder_store(settings), month, (), "run")
    return outcome


def publications(database: Database) -> list[tuple[Any, ...]]:
    return rows(
        database,
        "SELECT month, sd, se, n_testlets, effective_from, fit_id FROM testlet_sd_publication ORDER BY publication_id",
    )


def published_set(database: Database, at: Any = END) -> PublishedSet:
    return call(database, in_force, SCALE, at)


def with_testlets(settings: Settings) -> None:
    """Two months of a bank whose first is the origin; the second has two new items. All are calibrated."""
    database, rng = Database(settings), np.random.default_rng(5)
    add_items(database, dict.fromkeys(ITEMS))
    for item, testlet in (SHARING | NEW | {"i32": "nobody else", "i33": " "}).items():
        run_sql(database, "UPDATE question SET testlet_id = %s WHERE item_id = %s", (testlet, item))
    add_answers(database, FIRST, ITEMS[:36], 0.0, rng)
    add_answers(database, NEXT, ITEMS, 0.3, rng)
    window = OriginWindow(*Month(FIRST).bounds, EmEngine(1), folder_store(settings))
    initialise(database, SCALE, first_month=FIRST, thresholds=RULES, window=window)
    for month in MONTHS:
        calibrate(settings, month)


@pytest.fixture
def world(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    made_once(postgres, "template_testlets", migrated_template, with_testlets, **OF_MONTHS)
    with template_copy(postgres, "template_testlets", tmp_path, **OF_MONTHS) as settings:
        yield settings


# -- estimates and publications of a month -------------------------------------------------------------


def test_a_month_publishes_the_sd_of_effects_in_units_of_the_scale(world: Settings) -> None:
    """Tolerance: four standard errors, and 5 % as the estimate is too low (docs/explanation/testlets.md)."""
    database = Database(world)
    found = publications(database)
    assert [row[0] for row in found] == list(MONTHS)
    for month, sd, se, n_testlets, effective_from, fit_id in found:
        assert (effective_from, n_testlets) == (Month(month).end, 8 + (month == NEXT))
        assert abs(sd - SD) < 4 * se + 0.05 * SD
        ((spec,),) = rows(database, "SELECT model_spec FROM mirt_fit_meta WHERE fit_id = %s", (fit_id,))
        assert (spec["testlets"]["sd"], spec["testlets"]["of"]) == (sd, SHARING | NEW | {"i32": "nobody else"})
        assert sd == pytest.approx(spec["linking_constants"]["slope"] * spec["testlets"]["raw_sd"])


def test_set_without_testlet_effects_has_the_hash_of_its_parameters(world: Settings) -> None:
    database = Database(world)
    before, at = Month(FIRST).end - timedelta(microseconds=1), published_set(database)
    old, content = call(database, in_force, SCALE, before), call(database, publications_in_force, SCALE, before)
    plain = json.dumps([(one.item_id, *one.values.abc) for one in content])
    assert (old.testlets, old.set_hash) == (None, hashlib.sha256(plain.encode()).hexdigest())
    assert at.testlets.sd == publications(database)[1][1]
    assert set(at.testlets.of) <= set(at.items)
    assert {old.set_hash, at.set_hash, published_set(database, Month(FIRST).end).set_hash} != {at.set_hash}


def test_changed_testlets_in_the_bank_leave_earlier_months_unchanged(world: Settings) -> None:
    database = Database(world)
    measure(database, NEXT, "run")
    before = published_set(database)
    run_sql(database, "UPDATE question SET testlet_id = 'another' WHERE item_id IN ('i00', 'i32')")
    assert published_set(database) == before
    assert NEXT not in call(database, stale_months)


def test_rerun_of_a_settled_month_changes_no_published_sd(world: Settings) -> None:
    database = Database(world)
    before = publications(database)
    run_sql(database, "DELETE FROM response_log WHERE user_id LIKE %s", (f"{NEXT}-1%",))
    calibrate(world, NEXT)
    assert publications(database) == before


def test_errors_of_items_are_robust_and_parameters_are_unchanged(world: Settings) -> None:
    database = Database(world)
    robust = fit(world, NEXT).calibration
    run_sql(database, "UPDATE question SET testlet_id = NULL")
    outcome = fit(world, NEXT)
    plain = outcome.calibration
    np.testing.assert_array_equal(robust.a, plain.a)
    assert (robust.a_se != plain.a_se).all()
    ((spec,),) = rows(database, "SELECT spec FROM fit_staging WHERE fit_id = %s", (outcome.fit_id,))
    assert (outcome.spec.testlets, spec["testlets"]) == (None, None)
    assert not any(name.startswith("testlets") for name in fit_metadata([outcome]))


def test_testlet_sd_can_be_estimated_with_the_distribution_of_theta(world: Settings) -> None:
    database = Database(world)
    run_sql(database, 'UPDATE calibration_scale SET rules = rules || \'{"latent": "auto"}\'')
    outcome = fit(world, NEXT)
    assert outcome.spec.shape is not None
    assert abs(outcome.spec.testlets.sd - SD) < 4 * outcome.spec.testlets.se + 0.05 * SD
    run_sql(database, "UPDATE calibration_scale SET rules = rules - 'latent'; UPDATE question SET testlet_id = NULL")
    assert (outcome.calibration.a_se != fit(world, NEXT).calibration.a_se).all()


@pytest.mark.parametrize(
    ("testlet", "reason"),
    [("'all of them'", "1 testlets with at least 2 fitted items are too few"), ("item_id", "0 testlets")],
)
def test_month_without_an_estimate_states_the_reason_and_publishes_no_sd(
    world: Settings, testlet: str, reason: str
) -> None:
    database = Database(world)
    run_sql(database, "DELETE FROM testlet_sd_publication")
    run_sql(database, "DELETE FROM publication_step WHERE month = %s", (NEXT,))
    run_sql(database, f"UPDATE question SET testlet_id = {testlet}")
    outcome = calibrate(world, NEXT)
    assert outcome.spec.testlets.sd is None
    shown = str(fit_metadata([outcome])[f"testlets ({SCALE}, em)"].value)
    assert shown.startswith("this month does not correct standard errors of θ for testlets: ")
    assert reason in shown
    assert (publications(database), published_set(database).testlets) == ([], None)


def test_fit_metadata_contain_the_estimated_sd_of_testlet_effects(world: Settings) -> None:
    shown = str(fit_metadata([fit(world, NEXT)])[f"testlets ({SCALE}, em)"].value)
    assert shown.startswith("answers in a testlet share an effect of the learner with SD 0.")
    assert shown.endswith("(9 testlets with 34 items, 700 learners)")
    some = ScaleAbilities(SCALE, np.zeros(3), np.ones(3), 5, testlet_sd=0.7)
    assert ability_metadata([some])[f"SD of testlet effects ({SCALE})"].value == 0.7


# -- who reports θ --------------------------------------------------------------------------------------


def test_month_night_api_and_kpis_report_equal_corrected_errors(world: Settings) -> None:
    """The sums have the same terms in a different order: 1e-9 is far above their rounding."""
    database = Database(world)
    measure(database, NEXT, "month")
    calibrate_night(database, "2026-07-31", "night", lambda _: EmEngine(1))
    query = "SELECT user_id, se FROM mirt_ability WHERE kind = %s AND window_end = %s"
    month, night = (dict(rows(database, query, (kind, END))) for kind in ("monthly", "nightly"))
    with database.connect() as connection:
        scale, published = read_scales(connection, END)[SCALE], in_force(connection, SCALE, END)
        responses, learners = scoring_responses(connection, END - LOOKBACK, END, list(published.items))
        plain = estimate(responses, published.items, scale)
        api = read_theta(connection, read_measures(connection, END), SCALE, f"{NEXT}-7", END)
        answers = on_postgres(connection)(scored_answers(END - LOOKBACK, END))
        kpi = kpis.abilities([answers], END, {SCALE: scale}, {SCALE: published}).set_index("user_id")
        look = InvariantContext(connection, folder_store(world), END, [])
        assert list(runs_agree_on_abilities.find(look)) == []
        connection.execute("UPDATE mirt_ability SET se = se - 0.01 WHERE kind = 'monthly'")
        assert any(isinstance(one, Violation) for one in runs_agree_on_abilities.find(look))
        connection.rollback()
    assert len(month) == 2 * LEARNERS
    for user, se in night.items():
        assert (month[user], kpi["se"][user]) == pytest.approx((se, se), abs=1e-9)
    assert api.se == pytest.approx(month[f"{NEXT}-7"], abs=1e-9)
    # 32 items in testlets of 4, σ = .8: 1 + se²σ²Σ I_j I_k comes to about 1.3 (docs/explanation/testlets.md).
    wider = np.array([month[user] for user in learners]) / plain.se
    assert wider.min() > 1.0
    assert 1.05 < np.median(wider) < 1.25


def test_information_of_the_set_in_force_accounts_for_testlets(world: Settings) -> None:
    (of_scale,) = information_of_month(Database(world), folder_store(world), NEXT)
    found = of_scale.found
    assert found.testlets
    alone = Information.from_parameters(found.in_force.parameters, found.theta).test
    assert (found.in_force.test < alone).all()
    assert found.in_force.test.max() > 0.4 * alone.max()


# -- mixed fits --------------------------------------------------------------------------------------
# A month whose items are of several models, from the staged fit to the published set that the next month is compared
# with: each item's model follows from stored values.

JAN, FEB = "2026-01", "2026-02"
ANCHORS = {"K1": (1.0, -1.0), "K2": (1.2, 0.0), "K3": (0.9, 1.0)}
OTHERS = {f"{name}-{k}": (0.9 + k / 10, k / 4 - 0.5) for name in ("2pl", "3pl", MODEL.name) for k in range(5)}
MODELS = {**dict.fromkeys(ANCHORS, "2pl"), **{item: item.split("-")[0] for item in OTHERS}}
THETA = np.linspace(-3, 3, 9)


def mixed(moved: str = "") -> Calibration:
    """The anchors as they are frozen, and other items of three models; `moved` is harder by .8."""
    plain = made_up_calibration({**ANCHORS, **OTHERS}, n=3000)
    models = tuple(MODELS[item] for item in plain.item_ids)
    third = np.array([model != "2pl" for model in models])
    of_trial = np.array([model == MODEL.name for model in models])
    cov = np.zeros((plain.n_items, 4, 4))
    cov[:, :2, :2] = plain.cov
    cov[of_trial, 3, 3] = 0.04
    cov[third, 2, 2] = 0.04
    cov[third, 1, 2] = cov[third, 2, 1] = 0.005
    return replace(
        plain, models=models, cov=cov, c=np.where(third, 0.2, 0.0),
        further=np.where(of_trial[:, None], logit(np.array([0.2, 0.8])), np.nan),
        d=plain.d - 0.8 * (np.array(plain.item_ids) == moved) * plain.a,
    )  # fmt: skip


@pytest.mark.usefixtures("trial_model")
def test_model_of_each_item_is_kept_from_the_fit_to_the_ledger_and_drift(
    database: Database, store: ObjectStore
) -> None:
    add_items(database, {item: {"a": a, "b": b, "a_se": 0.1, "b_se": 0.1} for item, (a, b) in ANCHORS.items()})
    add_items(database, dict.fromkeys(OTHERS))
    initialise(database, SCALE, first_month=JAN, thresholds={"min_anchors": 3})
    fit = mixed()
    fit_id = link_made_up(database, store, JAN, fit)
    assert rows(database, "SELECT model FROM mirt_fit_meta WHERE fit_id = %s", (fit_id,)) == [("2pl+3pl+4pl",)]
    staged = call(database, latest_staged, JAN, SCALE, "em")
    read = call(database, items_of_fit, fit_id)
    assert staged is not None
    assert staged.decode().models == fit.models
    assert staged.has_same_result(staged.snapshot_hash, fit, MADE_UP_SPEC)
    assert not staged.has_same_result(staged.snapshot_hash, replace(fit, models=("2pl",) * fit.n_items), MADE_UP_SPEC)
    items = ItemParameters.from_rows(fit.item_ids, (read[item].values for item in fit.item_ids))
    np.testing.assert_allclose(items.curve(THETA), fit.items.curve(THETA), rtol=1e-9)
    stored = dict(rows(database, "SELECT item_id, params->>'model' FROM mirt_item_params"))
    assert stored == MODELS

    assert publish_month(database, store, JAN, set(), None)[SCALE][JAN].state == "done"
    link_made_up(database, store, FEB, mixed(moved="3pl-2"))
    with database.connect() as connection:
        scale = read_scales(connection, Month(FEB).start)[SCALE]
        assert in_force(connection, SCALE, Month(FEB).start).items.keys() == MODELS.keys()
        anchors = read_every_anchor(connection, scale.scale_id, scale.anchor_version)
        window = linked_window(connection, scale, FEB)
        now = set_in_force_with_errors(connection, scale, Month(FEB).start, anchors)
    comparison = compare_with_published(window, anchors, now, Month(FEB).start)
    published = dict(zip(comparison.item_ids, comparison.models_published, strict=True))
    assert published == {item: MODELS[item] for item in comparison.item_ids}
    assert set(OTHERS) <= published.keys()
    assert not comparison.across_models.any()
    assert comparison.by_curves.tolist() == [MODELS[item] != "2pl" for item in comparison.item_ids]
    assert Drift.from_comparison(comparison).flagged == ("3pl-2",)
