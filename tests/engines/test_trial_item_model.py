"""An item model with a parameter that the product does not know needs one class (`tests/helpers/trial_item_model.py`).

Fits, θ, linking, drift and information ask it for the curve; what they find of it is held to loops over answers, to
differences and to what was simulated.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from irt_assets.file_commands.files import Answers
from irt_assets.file_commands.fit import fit as fit_file
from irt_assets.file_commands.tables import read_parameters
from irt_assets.ledger.encoding import decode, encode
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.item_models import ITEM_MODELS, ItemCurves, OtherItems
from irt_assets.psychometrics.core.items import ItemParameters, wabc
from irt_assets.psychometrics.core.model_families import TWO_PL
from irt_assets.psychometrics.core.models import Calibration, Responses
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.drift.curves import curve_differences
from irt_assets.psychometrics.drift.errors import Published, compare, with_errors
from irt_assets.psychometrics.drift.items import judge
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.fit.fit_summary import summarise
from irt_assets.psychometrics.information.functions import (
    Abilities,
    _information,
    greatest_information,
    item_information,
    loss_of_test,
    losses_of_items,
)
from irt_assets.psychometrics.linking.linking import link
from irt_assets.psychometrics.scoring.abilities import wle
from tests.helpers.trial_item_model import MODEL
from tests.helpers.what_changed import WHERE_STATISTICS_CHANGE
from tests.testbed.made_anchors import anchors_of_items as anchors_of

pytestmark = WHERE_STATISTICS_CHANGE

LEARNERS, ITEMS = 4000, 20
SLOPE, INTERCEPT = 1.25, -0.6
TWO = np.full(ITEMS, 2)
NODES = Grid.spanning().nodes
rng = np.random.default_rng(4)
A, B, U = np.exp(rng.normal(0.4, 0.2, ITEMS)), rng.normal(-0.6, 0.7, ITEMS), rng.uniform(0.7, 0.9, ITEMS)
TRUTH = np.stack([A, -A * B, logit(U)])


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ITEM_MODELS, MODEL.name, MODEL)


def answers(seed: int, truth=TRUTH, mean: float = 0.0, sd: float = 1.0) -> Responses:
    draw = np.random.default_rng(seed)
    p = MODEL.probabilities(mean + sd * draw.standard_normal(LEARNERS), truth, TWO)[:, :, 1].T
    return Responses.from_wide((draw.random(p.shape) < p).astype(float))


@pytest.fixture(scope="module")
def fit() -> Calibration:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ITEM_MODELS, MODEL.name, MODEL)
        return fit_em(answers(1), model=MODEL.name, threads=1)


def test_what_is_stored_gives_it_back_and_shows_u_with_its_error(fit: Calibration) -> None:
    back = decode(encode(fit))
    np.testing.assert_array_equal(back.parameters, fit.parameters)
    shown = back.further_of(0)
    assert shown["u"] == pytest.approx(expit(fit.further[0, 0]))
    assert shown["u_se"] == pytest.approx(shown["u"] * (1 - shown["u"]) * fit.cov[0, 2, 2] ** 0.5)
    estimated, categories = MODEL.estimated(shown)
    np.testing.assert_allclose(estimated, fit.further[0])
    assert categories == 2


def test_the_curves_of_its_items_stand_beside_those_of_other_models(fit: Calibration) -> None:
    """A scale may mix models: of three items two are of the trial model."""
    own = fit.items.select([fit.item_ids[0], fit.item_ids[1]])
    mixed = ItemParameters(
        ("plain", *own.item_ids), np.r_[1.2, own.a], np.r_[0.5, own.b], np.zeros(3),
        np.zeros((3, 2, 2)), others=tuple(some.moved(1) for some in own.others),
    )  # fmt: skip
    by_model = MODEL.probabilities(NODES, fit.parameters, TWO)[:2, :, 1].T
    found = mixed.curve(NODES)
    np.testing.assert_allclose(found[:, 0], expit(1.2 * (NODES - 0.5)), rtol=1e-12)
    np.testing.assert_allclose(found[:, 1:], by_model, rtol=1e-12)
    turned = mixed.select(mixed.item_ids[::-1])
    np.testing.assert_allclose(turned.curve(NODES), found[:, ::-1], rtol=1e-12)
    np.testing.assert_array_equal(mixed.among(["other", own.item_ids[1]]).curve(NODES)[:, 1], found[:, 2])
    moved = mixed.rescaled(SLOPE, INTERCEPT)
    np.testing.assert_allclose(moved.curve(SLOPE * NODES + INTERCEPT), found, rtol=1e-9)
    right, wrong = mixed.curves.log_tables(NODES)
    np.testing.assert_allclose(np.exp(right).T, found, rtol=1e-12)
    np.testing.assert_allclose(np.exp(wrong).T, 1 - found, rtol=1e-9)


def test_derivatives_and_information_are_those_of_differences(fit: Calibration) -> None:
    items, theta, step = fit.items, np.linspace(-3, 3, 13), 1e-6
    p, by_z = items.curve_at(theta)
    np.testing.assert_allclose(p.T, items.curve(theta), rtol=1e-12)
    by_theta = (items.curve(theta + step) - items.curve(theta - step)).T / (2 * step)
    np.testing.assert_allclose(by_z * items.a[:, None], by_theta, atol=1e-8)
    np.testing.assert_allclose(items.curves.information(theta).T, by_theta**2 / (p * (1 - p)), rtol=1e-6, atol=1e-9)
    (own,) = items.others
    np.testing.assert_allclose(items.by_further(theta)[:, 0], p * (1 - expit(own.further[0]))[:, None], rtol=1e-12)


def test_drift_compares_curves_and_finds_the_item_that_moved(fit: Calibration) -> None:
    anchors = anchors_of(fit.items)
    truth = TRUTH.copy()
    truth[1, 3] -= 0.9 * truth[0, 3]
    raw = fit_em(answers(5, truth), model=MODEL.name, threads=1)
    found = link(raw, anchors, rules=Rules.from_settings({"min_anchors": 5}))
    comparison = compare(raw, found, anchors, Published.of_anchors(anchors))
    assert comparison.by_curves.all()
    judged = judge(comparison)
    assert judged.flagged == (raw.item_ids[3],)
    differences = curve_differences(comparison, mean=0.0, sd=1.0)
    weights = np.exp(Grid.spanning().log_weights())
    apart = comparison.window.curve(NODES) - comparison.published.curve(NODES)
    np.testing.assert_allclose(differences.t[:, 0], weights @ apart, atol=0.02)
    np.testing.assert_allclose(wabc(comparison.window, comparison.published, 0.0, 1.0), weights @ np.abs(apart))
    losses, people = losses_of_items(comparison, Abilities.normal()), Abilities.normal()
    of_published = people.weights @ item_information(people.theta, comparison.published.curves)
    np.testing.assert_allclose(losses.published, of_published, rtol=1e-12)
    flatter = replace(comparison, window=replace(comparison.window, a=0.6 * comparison.window.a))
    assert (losses_of_items(flatter, people).ratio < losses.ratio).all()
    test = loss_of_test(comparison, with_errors(found, raw, anchors), people)
    assert not test.certain
    assert (greatest_information(comparison.published.curves) >= losses.published).all()


def test_gradients_of_information_are_those_of_differences(fit: Calibration) -> None:
    theta, step, items = np.linspace(-2, 2, 9), 1e-5, fit.items
    _, gradient = _information(theta, items)
    for k, name in enumerate(("a", "b")):
        up, down = (
            item_information(theta, replace(items, **{name: getattr(items, name) + x}).curves) for x in (step, -step)
        )
        np.testing.assert_allclose(gradient[:, :, k], (up - down) / (2 * step), atol=1e-5)


def test_of_the_months_values_and_the_published_each_item_has_its_own_curve(fit: Calibration) -> None:
    ids = fit.item_ids[:3]
    plain = ItemParameters(ids, np.ones(3), np.zeros(3), np.zeros(3), np.zeros((3, 2, 2)))
    latest = fit.items.select(ids[1:2]).among(ids).or_else(plain)
    found = latest.curve(NODES)
    np.testing.assert_allclose(found[:, [0, 2]], plain.curve(NODES)[:, [0, 2]])
    np.testing.assert_allclose(found[:, 1], fit.items.curve(NODES)[:, 1])


def test_what_has_loops_for_a_b_and_c_only_is_refused_with_the_models_name(fit: Calibration) -> None:
    message = "is computed from a, b and c, which do not make up the curves of a 2PL with an upper asymptote"
    with pytest.raises(PsychometricsError, match=f"fit of a model to its items {message}"):
        summarise(answers(1), fit)
    with pytest.raises(PsychometricsError, match=f"an error that holds within testlets {message}"):
        fit_em(answers(1), model=MODEL.name, testlets={"i1": "t", "i2": "t"})
    TWO_PL.require_logistic("this")
    assert ItemCurves(A, -A * B, 0 * A).others == ()


def test_a_file_is_fitted_and_its_table_has_u(fit: Calibration, tmp_path: Path) -> None:
    found = fit_file(Answers(answers(1), tuple(map(str, range(LEARNERS)))), model=MODEL.name)
    found.write(tmp_path)
    header, first, *_ = (tmp_path / "params.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert float(row["u"]) == pytest.approx(expit(fit.further[0, 0]))
    assert float(row["u_se"]) > 0
    assert row["infit"] == "", "it has no statistics yet"
    assert found.reliability > 0.5
    with pytest.raises(PsychometricsError, match=r"what is done with .*fit.json is computed from a, b and c"):
        read_parameters(tmp_path / "fit.json")


def test_wle_on_nodes_is_that_of_the_compiled_equations_where_both_can_be_had() -> None:
    responses, plain = answers(7), ItemCurves(A, -A * B, np.zeros(ITEMS))
    by_hand = OtherItems(TWO_PL, np.arange(ITEMS), np.zeros((0, ITEMS)), TWO)
    found = wle(responses, ItemCurves(A, -A * B, np.zeros(ITEMS), (by_hand,)), mean=0.0, sd=1.0)
    known = wle(responses, plain, mean=0.0, sd=1.0)
    # differences over nodes .02 apart are wrong by .02²/6 times third derivatives, of the order of 1e-4 of a unit
    np.testing.assert_allclose(found.theta, known.theta, atol=5e-4)
    np.testing.assert_allclose(found.se, known.se, rtol=1e-3)
