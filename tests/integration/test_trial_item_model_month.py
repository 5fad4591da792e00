"""Months of a scale under an item model that the product does not know, from answers to θ, report and lineage.

The model has an upper asymptote u, in `tests/helpers/trial_item_model.py` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logit
from typer.testing import CliRunner

from irt_assets.abilities.batch import measure
from irt_assets.cli.lineage import app as lineage
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.decisions.proposals import waiting_proposals
from irt_assets.drift.information import information_of_month
from irt_assets.drift.month import drift_of_month
from irt_assets.engines.em import EmEngine
from irt_assets.ledger.publications import PublishedSet, in_force
from irt_assets.psychometrics.core.item_models import ITEM_MODELS
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.reports import item_shown
from irt_assets.reports.item_facts import item_facts
from irt_assets.responses.scales import read_scales
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from services.dashboard.figures import shown as shown_on_page
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import (
    MONTHS,
    SCALE,
    add_attempts,
    add_items,
    answer_matrix,
    calibrate,
    folder_store,
    rows,
    run_sql,
)
from tests.helpers.sentences import unsaid
from tests.helpers.trial_item_model import MODEL
from tests.helpers.worlds import OF_MONTHS

FIRST, NEXT = MONTHS
LEARNERS = 3000
ITEMS = [*(f"i{j:02d}" for j in range(24)), "new0", "new1"]
MOVED = "i03"
RULES = {"min_responses": 200, "min_anchor_responses": 200, "latent": "normal", "new_misfit": "warn"}
rng = np.random.default_rng(4)
A, B = np.exp(rng.normal(0.5, 0.15, len(ITEMS))), rng.normal(-0.8, 0.6, len(ITEMS))
U = rng.uniform(0.75, 0.88, len(ITEMS))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ITEM_MODELS, MODEL.name, MODEL)


def add_answers(database: Database, month: str, n_items: int, mean: float, moved: float) -> None:
    draw = np.random.default_rng([5, Month(month).start.month])
    b = B + moved * (np.array(ITEMS) == MOVED)
    parameters, two = np.stack([A, -A * b, logit(U)]), np.full(len(ITEMS), 2)
    p = MODEL.probabilities(draw.normal(mean, 1, LEARNERS), parameters, two)[:n_items, :, 1].T
    scores = (draw.random(p.shape) < p).astype(float)
    add_attempts(database, answer_matrix(month, scores, ITEMS[:n_items], [f"{month}-{i}" for i in range(LEARNERS)]))


def two_months(settings: Settings) -> None:
    """The first month is the origin; in the second, two items are new and one has become harder."""
    database, store = Database(settings), folder_store(settings)
    add_items(database, dict.fromkeys(ITEMS))
    add_answers(database, FIRST, 24, 0.0, 0.0)
    add_answers(database, NEXT, len(ITEMS), 0.3, 1.0)
    window = OriginWindow(*Month(FIRST).bounds, EmEngine(1), store)
    initialise(database, SCALE, first_month=FIRST, thresholds=RULES, window=window, model=MODEL.name)
    for month in MONTHS:
        calibrate(settings, month)


@pytest.fixture
def world(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    made_once(postgres, "template_trial_item_model", migrated_template, two_months, **OF_MONTHS)
    with template_copy(postgres, "template_trial_item_model", tmp_path, **OF_MONTHS) as settings:
        yield settings


def in_use(settings: Settings) -> PublishedSet:
    with Database(settings).connect() as connection:
        return in_force(connection, SCALE, Month(NEXT).end)


def test_a_month_is_linked_by_its_curves_and_publishes_new_items_with_u(world: Settings) -> None:
    database = Database(world)
    ((spec,),) = rows(
        database, "SELECT model_spec->'linking_constants' FROM mirt_fit_meta WHERE fit_id LIKE '2026-07%%'"
    )
    assert abs(spec["slope"] - 1) < 4 * spec["slope_se"]
    assert abs(spec["intercept"] - 0.3) < 4 * spec["intercept_se"]
    found = rows(
        database, "SELECT item_id, parameters FROM item_parameter_publication WHERE rule = 'first' ORDER BY item_id"
    )
    assert [item for item, _ in found] == ["new0", "new1"]
    for item, published in found:
        j = ITEMS.index(item)
        assert abs(published["b"] - B[j]) < 4 * published["b_se"]
        assert abs(published["u"] - U[j]) < 4 * published["u_se"]
    values = in_use(world)
    assert values.items["new0"].shown["u"] == (found[0][1]["u"], found[0][1]["u_se"])
    run_sql(
        database,
        """INSERT INTO item_parameter_publication
             (scale_id, item_id, parameters, effective_from, rule, decided_by, reason, anchor_hash, code_version)
           SELECT scale_id, item_id, parameters || '{"u": 0.9}', effective_from, 'decision', 'Ada', 'u', '', ''
           FROM item_parameter_publication WHERE item_id = 'new0'""",
    )
    assert in_use(world).set_hash != values.set_hash, "u is part of what learners are scored with"


def test_learners_are_scored_by_the_published_curves(world: Settings) -> None:
    (found,) = measure(Database(world), NEXT, "run")
    items, nodes = in_use(world).items, Grid.spanning().nodes
    (user, theta), *_ = rows(
        Database(world),
        "SELECT user_id, theta FROM mirt_ability WHERE user_id LIKE '2026-07-%%' ORDER BY user_id LIMIT 1",
    )
    assert found.theta.size == 2 * LEARNERS
    log_posterior = -(nodes**2) / 2
    for item, correct in rows(Database(world), "SELECT item_id, correct FROM response_log WHERE user_id = %s", (user,)):
        p = items[item].further["u"] / (1 + np.exp(-items[item].a * (nodes - items[item].b)))
        log_posterior += np.log(p if correct else 1 - p)
    weights = np.exp(log_posterior - log_posterior.max())
    assert theta == pytest.approx(weights @ nodes / weights.sum(), abs=1e-6)


def test_drift_is_found_and_a_proposal_names_u(world: Settings) -> None:
    database, store = Database(world), folder_store(world)
    (judged,) = drift_of_month(database, store, NEXT)
    assert MOVED in judged.drift.flagged
    with database.connect() as connection:
        (information,) = information_of_month(database, store, NEXT)
        proposals = {p.item_id: p for p in waiting_proposals(connection, SCALE)}
        assert MOVED in proposals
        assert f"u = {proposals[MOVED].new.further['u']:.2f} ± " in str(proposals[MOVED].new)
    assert information.why == ""


def test_item_page_lineage_and_report_show_u(world: Settings) -> None:
    database = Database(world)
    with database.connect() as connection:
        facts = item_facts(connection, read_scales(connection)[SCALE], "new0", Month(NEXT).end)
    u = in_use(world).items["new0"].further["u"]
    text = str(shown_on_page(item_shown.identity(facts), *item_shown.over_time(facts, "UTC")))
    assert not unsaid(text, f"u {u:.2f} ± ", ">u</th>", "<dt>u</dt>", f"{u:.3f} ± ")
    assert f"u {u:.2f} ± " in item_shown.parameters(in_use(world).items["new0"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("irt_assets.cli.lineage.current_database", lambda: database)
        patch.setattr("irt_assets.cli.lineage.current_settings", lambda: world)
        shown = CliRunner().invoke(lineage, ["new0"]).output
    assert f"{u:.3f}" in shown
