"""Fits of several models: each item has the same results as in a fit of its model alone.

The models are the 2PL, the 3PL and the 4PL, which the product does not contain.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from irt_psychometrics import Calibration, PsychometricsError
from irt_psychometrics.commands import fit as fit_file
from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.core.item_models import ITEM_MODELS, ItemCurves, OtherItems, model_of
from irt_psychometrics.core.items import wabc
from irt_psychometrics.core.model_families import TWO_PL
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.drift import Comparison, Drift, Published
from irt_psychometrics.drift.curves import curve_differences
from irt_psychometrics.drift.errors import FitPopulation
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.estimation.latent_shape import ComparedFit
from irt_psychometrics.information import Abilities
from irt_psychometrics.information.functions import (
    _information,
    greatest_information,
    item_information,
    loss_of_test,
    losses_of_items,
)
from irt_psychometrics.itemfit import item_fit, person_fit
from irt_psychometrics.items import ItemParameters, item_model
from irt_psychometrics.linking import AnchorLimits, link_to_anchors
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring import Curves
from irt_psychometrics.scoring.abilities import Method, eap_by, estimate_abilities
from psychometrics_testbed.made_anchors import anchors_of_items, anchors_of_items as anchors_of
from psychometrics_testbed.mixed_fits import EACH, MODELS, join_fits, of_one_model
from psychometrics_testbed.trial_item_model import MODEL
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = [WHERE_STATISTICS_CHANGE, pytest.mark.usefixtures("trial_model")]

SLOPE, INTERCEPT = 1.2, -0.4
THETA = np.linspace(-3, 3, 13)


@pytest.fixture
def parts() -> list[Calibration]:
    return [of_one_model(name) for name in MODELS]


@pytest.fixture
def mixed(parts: list[Calibration]) -> Calibration:
    return join_fits(*parts)


def places(part: int) -> slice:
    return slice(part * EACH, (part + 1) * EACH)


def assert_the_same(mixed: Calibration, parts: list[Calibration]) -> None:
    for k, part in enumerate(parts):
        at, size = places(k), part.cov.shape[1]
        for name in ("a", "b", "c", "a_se", "b_se", "c_se", "d_se", "cov_ab", "n"):
            np.testing.assert_allclose(getattr(mixed, name)[at], getattr(part, name), rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(mixed.cov[at, :size, :size], part.cov, rtol=1e-10)
        assert not mixed.cov[at, size:].any()
        assert not mixed.cov[at, :, size:].any()
        np.testing.assert_allclose(mixed.parameters[: len(part.parameters), at], part.parameters, rtol=1e-12)
        np.testing.assert_allclose(mixed.curves.probability(THETA)[:, at], part.curves.probability(THETA), rtol=1e-12)
        np.testing.assert_allclose(mixed.curves.information(THETA)[:, at], part.curves.information(THETA), rtol=1e-12)
        assert [mixed.further_of(at.start + j) for j in range(EACH)] == [part.further_of(j) for j in range(EACH)]


def test_fit_of_several_models_has_a_joint_name_and_a_model_per_item(
    mixed: Calibration, parts: list[Calibration]
) -> None:
    assert [part.model for part in parts] == list(MODELS)
    assert (mixed.model, mixed.item_model.spoken) == ("2pl+3pl+4pl", "2PL and 3PL and 4PL")
    assert model_of(mixed.model).name == ComparedFit.from_fit(mixed, "normal").model == mixed.model
    assert mixed.select(np.arange(EACH)).item_model is TWO_PL
    with pytest.raises(PsychometricsError, match="unknown model '5pl'"):
        model_of("2pl+5pl")
    logs = mixed.item_model.log_probabilities(THETA, mixed.parameters, mixed.n_categories)
    np.testing.assert_allclose(np.exp(logs[:, :, 1]).T, mixed.curves.probability(THETA), rtol=1e-10)
    by_theta, step = mixed.item_model.by_theta(THETA, mixed.parameters, mixed.n_categories), 1e-6
    up, down = (
        mixed.item_model.log_probabilities(THETA + by, mixed.parameters, mixed.n_categories) for by in (step, -step)
    )
    np.testing.assert_allclose(by_theta, (up - down) / (2 * step), atol=1e-7)


def test_items_of_mixed_fits_are_selected_and_rescaled_as_in_fits_of_a_single_model(
    mixed: Calibration, parts: list[Calibration]
) -> None:
    assert_the_same(mixed, parts)
    assert_the_same(mixed.rescaled(SLOPE, INTERCEPT), [part.rescaled(SLOPE, INTERCEPT) for part in parts])
    turned = mixed.select(np.arange(3 * EACH)[::-1])
    assert_the_same(turned.select(np.arange(3 * EACH)[::-1]), parts)
    for k, part in enumerate(parts):
        items = turned.items.select(part.item_ids)
        further = part.items.by_further(THETA)
        np.testing.assert_allclose(items.by_further(THETA)[:, : further.shape[1]], further, atol=1e-12)
        np.testing.assert_allclose(items.cov, part.items.cov, rtol=1e-12)
        size = part.items.cov_of_all.shape[1]
        np.testing.assert_allclose(items.cov_of_all[:, :size, :size], part.items.cov_of_all, rtol=1e-12)
        assert [some.model.name for some in items.others] == [MODEL.name] * (k == 2)


def test_unknown_errors_of_a_parameter_stay_unknown_after_rescaling(mixed: Calibration) -> None:
    cov = mixed.cov.copy()
    cov[EACH, 2] = cov[EACH, :, 2] = np.nan
    moved = replace(mixed, cov=cov).rescaled(SLOPE, INTERCEPT)
    assert np.isnan(moved.cov[EACH, 2]).all()
    np.testing.assert_allclose(moved.cov[EACH, :2, :2], mixed.rescaled(SLOPE, INTERCEPT).cov[EACH, :2, :2], rtol=1e-12)


def test_abilities_of_mixed_items_match_posteriors_from_their_curves(mixed: Calibration) -> None:
    rng = np.random.default_rng(1)
    p = mixed.curves.probability(rng.standard_normal(200))
    responses = Responses.from_wide((rng.random(p.shape) < p).astype(float), mixed.item_ids)
    scored = eap_by(responses, Curves.from_items(mixed.curves))
    nodes = Grid.symmetric().nodes
    logs = mixed.item_model.log_probabilities(nodes, mixed.parameters, mixed.n_categories)
    joint = np.tile(-(nodes**2) / 2, (200, 1))
    np.add.at(joint, responses.person, logs[responses.item, :, responses.score])
    posterior = np.exp(joint - joint.max(axis=1, keepdims=True))
    np.testing.assert_allclose(scored.theta, posterior @ nodes / posterior.sum(axis=1), atol=1e-9)


def test_mixed_fits_are_linked_to_anchors_of_any_model_with_their_errors(
    mixed: Calibration, parts: list[Calibration]
) -> None:
    anchors = anchors_of_items(mixed.rescaled(SLOPE, INTERCEPT).items)
    found = link_to_anchors(mixed, anchors)
    assert (found.slope, found.intercept) == (pytest.approx(SLOPE, abs=1e-8), pytest.approx(INTERCEPT, abs=1e-8))
    assert found.anchors_used == mixed.item_ids
    linked = found.transform(mixed)
    for k, part in enumerate(parts):
        at, size = places(k), part.cov.shape[1]
        alone = replace(found, with_items=found.with_items[at, :size]).transform(part)
        np.testing.assert_allclose(linked.cov[at, :size, :size], alone.cov, rtol=1e-10)
        np.testing.assert_allclose(linked.b[at], alone.b, rtol=1e-12)
    by_differences = np.zeros((3, 2))  # derivatives of the constants by an item's own parameters
    step, j = 1e-5, EACH
    for p, change in enumerate(("a", "d", "c")):
        found_of = []
        for by in (step, -step):
            values = getattr(mixed, change).copy()
            values[j] = expit(logit(values[j]) + by) if change == "c" else values[j] + by
            constants = link_to_anchors(replace(mixed, **{change: values}), anchors, purify=False)
            found_of.append([constants.slope, constants.intercept])
        by_differences[p] = (np.array(found_of[0]) - found_of[1]) / (2 * step)
    np.testing.assert_allclose(found.with_items[j], mixed.cov[j, :, :3] @ by_differences, rtol=2e-2, atol=1e-8)


def test_drift_compares_parameters_of_2pl_items_and_curves_of_the_rest(
    mixed: Calibration, parts: list[Calibration]
) -> None:
    anchors = anchors_of_items(mixed.rescaled(SLOPE, INTERCEPT).items)
    moved = mixed.d.copy()
    moved[[1, EACH + 1, 2 * EACH + 1]] -= 0.6
    raw = replace(mixed, d=moved)
    comparison = Comparison.from_linked_fit(
        raw, link_to_anchors(raw, anchors), anchors, Published.from_anchors(anchors)
    )
    assert comparison.models == comparison.models_published == mixed.models
    assert comparison.by_curves.tolist() == [False] * EACH + [True] * 2 * EACH
    drift = Drift.from_comparison(comparison)
    assert (drift.flagged, drift.across_models) == (("2pl-1", "3pl-1", f"{MODEL.name}-1"), {})
    differences = curve_differences(comparison, mean=0.0, sd=1.0)
    for k in range(3):
        at = np.arange(3 * EACH) // EACH == k
        alone = comparison.select(at)
        of_part = curve_differences(alone, mean=0.0, sd=1.0)
        np.testing.assert_allclose(differences.t[at], of_part.t, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(differences.cov[at], of_part.cov, rtol=1e-12)
    of_unknown_model = replace(comparison.published, fitted=(None,) * 3 * EACH)
    assert of_unknown_model.models(mixed.models) == mixed.models
    as_2pl = replace(comparison.published, fitted=(FitPopulation("2pl", 0.0, 1.0),) * 3 * EACH)
    across = replace(comparison, published=as_2pl)
    assert across.across_models.tolist() == [False] * EACH + [True] * 2 * EACH
    assert across.by_curves.tolist() == comparison.by_curves.tolist()
    assert Drift.from_comparison(across).across_models == {
        item: ("2pl", model) for item, model in zip(mixed.item_ids, mixed.models, strict=True) if model != "2pl"
    }


def test_items_with_a_common_slope_are_tested_on_difficulty_alone(parts: list[Calibration]) -> None:
    """Half of the items are of a 1PL: drift and anchors test them on b alone, and the rest on both parameters."""
    plain, _, _ = parts
    common = np.arange(EACH) % 2 == 0
    half = replace(plain, models=tuple("1pl" if one else "2pl" for one in common))
    anchors = anchors_of_items(half.items)
    fits = {fit.model: fit for fit in (plain, replace(plain, models=("1pl",) * EACH), half)}
    found = {name: link_to_anchors(fit, anchors, purify=False) for name, fit in fits.items()}
    assert [found[name].q_df for name in ("2pl", "1pl", "1pl+2pl")] == [
        2 * EACH - 2,
        EACH - 2,
        2 * EACH - EACH // 2 - 2,
    ]
    steeper = np.where(np.arange(EACH) < 2, 1.5, 1.0)  # the first is of the 1PL, the second of the 2PL
    moved = {name: replace(fit, a=steeper * fit.a, d=steeper * fit.d) for name, fit in fits.items()}
    waldes = {
        name: Drift.from_comparison(
            Comparison.from_linked_fit(fit, found[name], anchors, Published.from_anchors(anchors))
        ).wald
        for name, fit in moved.items()
    }
    assert waldes["1pl+2pl"][0] < 1e-6
    assert min(waldes["1pl+2pl"][1], waldes["2pl"][0]) > 10
    assert "moved against the others" in link_to_anchors(moved["2pl"], anchors).diagnosis
    suspects = link_to_anchors(replace(moved["1pl+2pl"], n=np.full(EACH, 900)), anchors).suspects
    assert list(suspects) == ["2pl-1"]


# --- estimation -------------------------------------------------------------------------------------------------------


def answers(models: tuple[str, ...], seed: int = 1, learners: int = 6000) -> tuple[np.ndarray, Responses]:
    """True parameters in the order of estimates (4, J), and answers of learners with θ ~ N(0, 1)."""
    rng = np.random.default_rng(seed)
    J = len(models)
    shared = np.array([not item_model(name).own_slopes for name in models])
    a = np.where(shared, 1.3, np.exp(rng.normal(0.2, 0.25, J)))
    b, c = rng.normal(0, 0.9, J), np.where([name in ("3pl", MODEL.name) for name in models], 0.2, 0.0)
    theta = rng.standard_normal((learners, 1))
    u = np.where([name == MODEL.name for name in models], 0.95, 1.0)
    p = c + (u - c) * expit(a * (theta - b))
    with np.errstate(divide="ignore"):
        return np.stack([a, -a * b, logit(c), logit(u)]), Responses.from_wide((rng.random(p.shape) < p).astype(float))


@pytest.mark.parametrize(
    "models", [("2pl", "3pl") * 8, ("rasch", "2pl") * 8, ("1pl", "3pl", "2pl", "rasch") * 4, ("2pl", MODEL.name) * 8]
)
def test_parameters_of_mixed_models_are_recovered_in_a_single_fit(models: tuple[str, ...]) -> None:
    truth, responses = answers(models)
    fit = fit_em(responses, model=models, threads=1)
    assert fit.convergence.converged, fit.convergence.reason
    assert fit.models == models
    errors = np.sqrt(np.diagonal(fit.cov, axis1=1, axis2=2).T)
    known = errors > 0
    size = len(fit.parameters)
    z = (fit.parameters[known] - truth[:size][known]) / errors[known]
    assert np.abs(z[np.isfinite(z)]).max() < 4
    assert np.mean(z[np.isfinite(z)] ** 2) < 1.6
    common = np.array([not item_model(name).own_slopes for name in models])
    assert (len(set(fit.a[common])), len(set(fit.a[~common]))) == (common.any(), (~common).sum())
    assert (fit.c[[not item_model(name).has_parameter("c") for name in models]] == 0).all()
    own = (
        sum(1 + model.own_slopes + model.has_parameter("c") for model in map(item_model, models))
        + common.any()
        + sum(name == MODEL.name for name in models)
    )
    assert fit.convergence.n_parameters == own


def test_fit_statistics_of_mixed_items_are_close_to_their_expectation() -> None:
    """The statistics count as many estimated parameters for an item as the item's own model has."""
    models = ("2pl", "3pl") * 8
    _, responses = answers(models, seed=3)
    fit = fit_em(responses, model=models, threads=1)
    found = item_fit(responses, fit)
    assert np.isfinite([found.infit, found.outfit, found.rmsd]).all()
    assert np.abs(found.infit - 1).max() < 0.05


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (("2pl", "3pl"), "models must be 6 names, one per item; got 2"),
        (("2pl", "5pl") * 3, "got model '5pl'"),
    ],
)
def test_models_that_cannot_be_mixed_are_refused(models: tuple[str, ...], message: str) -> None:
    _, responses = answers(("2pl",) * 6, learners=50)
    with pytest.raises(PsychometricsError, match=message):
        fit_em(responses, model=models)


# -- a trial model -----------------------------------------------------------------------------------
# An item model with a parameter that the product lacks needs a single class: `trial_item_model` of the testbed.

LEARNERS, ITEMS = 4000, 20
TRIAL_SLOPE, TRIAL_INTERCEPT = 1.25, -0.6
TWO = np.full(ITEMS, 2)
NODES = Grid.symmetric().nodes
rng = np.random.default_rng(4)
A, B, U = np.exp(rng.normal(0.4, 0.2, ITEMS)), rng.normal(-0.6, 0.7, ITEMS), rng.uniform(0.85, 0.98, ITEMS)
TRUTH = np.stack([A, -A * B, np.full(ITEMS, logit(0.2)), logit(U)])


def trial_answers(seed: int, truth=TRUTH, mean: float = 0.0, sd: float = 1.0) -> Responses:
    draw = np.random.default_rng(seed)
    p = MODEL.probabilities(mean + sd * draw.standard_normal(LEARNERS), truth, TWO)[:, :, 1].T
    return Responses.from_wide((draw.random(p.shape) < p).astype(float))


@pytest.fixture(scope="module")
def fit() -> Calibration:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ITEM_MODELS, MODEL.name, MODEL)
        return fit_em(trial_answers(1), model=MODEL.name, threads=1)


def test_trial_model_shows_u_with_its_error(fit: Calibration) -> None:
    shown = fit.further_of(0)
    assert shown["u"] == pytest.approx(expit(fit.further[0, 1]))
    assert shown["u_se"] == pytest.approx(shown["u"] * (1 - shown["u"]) * fit.cov[0, 3, 3] ** 0.5)
    estimated, categories = MODEL.parse_stored(shown | {"c": fit.c[0]})
    np.testing.assert_allclose(estimated, fit.further[0])
    assert categories == 2


def test_curves_of_trial_items_and_2pl_items_are_computed_on_a_common_scale(fit: Calibration) -> None:
    """Two of the scale's three items are of the trial model."""
    own = fit.items.select([fit.item_ids[0], fit.item_ids[1]])
    mixed = ItemParameters(
        ("plain", *own.item_ids), np.r_[1.2, own.a], np.r_[0.5, own.b], np.zeros(3),
        np.zeros((3, 2, 2)), others=tuple(some.shift_places(1) for some in own.others),
    )  # fmt: skip
    by_model = MODEL.probabilities(NODES, fit.parameters, TWO)[:2, :, 1].T
    found = mixed.curve(NODES)
    np.testing.assert_allclose(found[:, 0], expit(1.2 * (NODES - 0.5)), rtol=1e-12)
    np.testing.assert_allclose(found[:, 1:], by_model, rtol=1e-12)
    turned = mixed.select(mixed.item_ids[::-1])
    np.testing.assert_allclose(turned.curve(NODES), found[:, ::-1], rtol=1e-12)
    np.testing.assert_array_equal(mixed.among(["other", own.item_ids[1]]).curve(NODES)[:, 1], found[:, 2])
    moved = mixed.rescaled(TRIAL_SLOPE, TRIAL_INTERCEPT)
    np.testing.assert_allclose(moved.curve(TRIAL_SLOPE * NODES + TRIAL_INTERCEPT), found, rtol=1e-9)
    right, wrong = mixed.curves.log_tables(NODES)
    np.testing.assert_allclose(np.exp(right).T, found, rtol=1e-12)
    np.testing.assert_allclose(np.exp(wrong).T, 1 - found, rtol=1e-9)


def test_derivatives_and_information_match_finite_differences(fit: Calibration) -> None:
    items, theta, step = fit.items, np.linspace(-3, 3, 13), 1e-6
    p, by_z = items.curve_at(theta)
    np.testing.assert_allclose(p.T, items.curve(theta), rtol=1e-12)
    by_theta = (items.curve(theta + step) - items.curve(theta - step)).T / (2 * step)
    np.testing.assert_allclose(by_z * items.a[:, None], by_theta, atol=1e-8)
    np.testing.assert_allclose(items.curves.information(theta).T, by_theta**2 / (p * (1 - p)), rtol=1e-6, atol=1e-9)
    (own,) = items.others
    for k, by in enumerate(items.by_further(theta).swapaxes(0, 1)):
        up, down = (replace(own, further=own.further + move * np.eye(2)[:, [k]]) for move in (step, -step))
        expected = (replace(items, others=(one,)).curve(theta) for one in (up, down))
        np.testing.assert_allclose(by.T, np.subtract(*expected) / (2 * step), atol=1e-8)


def test_drift_of_trial_items_compares_curves_and_flags_the_moved_item(fit: Calibration) -> None:
    anchors = anchors_of(fit.items)
    truth = TRUTH.copy()
    truth[1, 3] -= 0.9 * truth[0, 3]
    raw = fit_em(trial_answers(5, truth), model=MODEL.name, threads=1)
    found = link_to_anchors(raw, anchors, limits=AnchorLimits(min_anchors=5))
    comparison = Comparison.from_linked_fit(raw, found, anchors, Published.from_anchors(anchors))
    assert comparison.by_curves.all()
    drift = Drift.from_comparison(comparison)
    assert drift.flagged == (raw.item_ids[3],)
    differences = curve_differences(comparison, mean=0.0, sd=1.0)
    weights = np.exp(Grid.symmetric().log_weights())
    difference = comparison.window.curve(NODES) - comparison.published.curve(NODES)
    np.testing.assert_allclose(differences.t[:, 0], weights @ difference, atol=0.02)
    np.testing.assert_allclose(wabc(comparison.window, comparison.published, 0.0, 1.0), weights @ np.abs(difference))
    losses, people = losses_of_items(comparison, Abilities.normal()), Abilities.normal()
    of_published = people.weights @ item_information(people.theta, comparison.published.curves)
    np.testing.assert_allclose(losses.published, of_published, rtol=1e-12)
    flatter = replace(comparison, window=replace(comparison.window, a=0.6 * comparison.window.a))
    assert (losses_of_items(flatter, people).ratio < losses.ratio).all()
    test = loss_of_test(comparison, people)
    assert not test.certain
    assert (greatest_information(comparison.published.curves) >= losses.published).all()


def test_gradients_of_information_match_finite_differences(fit: Calibration) -> None:
    theta, step, items = np.linspace(-2, 2, 9), 1e-5, fit.items
    _, gradient = _information(theta, items)
    for k, name in enumerate(("a", "b")):
        up, down = (
            item_information(theta, replace(items, **{name: getattr(items, name) + x}).curves) for x in (step, -step)
        )
        np.testing.assert_allclose(gradient[:, :, k], (up - down) / (2 * step), atol=1e-5)


def test_values_of_a_month_and_published_values_keep_their_curves_if_merged(fit: Calibration) -> None:
    ids = fit.item_ids[:3]
    plain = ItemParameters(ids, np.ones(3), np.zeros(3), np.zeros(3), np.zeros((3, 2, 2)))
    latest = fit.items.select(ids[1:2]).among(ids).fill_missing_from(plain)
    found = latest.curve(NODES)
    np.testing.assert_allclose(found[:, [0, 2]], plain.curve(NODES)[:, [0, 2]])
    np.testing.assert_allclose(found[:, 1], fit.items.curve(NODES)[:, 1])


def test_functions_limited_to_a_b_and_c_refuse_trial_models_by_name(fit: Calibration) -> None:
    message = "is computed from a, b and c, which do not determine the curves of a 4PL"
    with pytest.raises(PsychometricsError, match=f"an error that holds within testlets {message}"):
        fit_em(trial_answers(1), model=MODEL.name, testlets={"i1": "t", "i2": "t"})
    TWO_PL.require_logistic("this")
    assert ItemCurves(A, -A * B, 0 * A).others == ()


def test_table_of_a_fitted_file_has_u_of_the_trial_model(fit: Calibration, tmp_path: Path) -> None:
    found = fit_file(Answers(trial_answers(1), tuple(map(str, range(LEARNERS)))), model=MODEL.name)
    found.write(tmp_path)
    header, first, *_ = (tmp_path / "params.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert float(row["u"]) == pytest.approx(expit(fit.further[0, 1]))
    assert float(row["u_se"]) > 0
    assert float(row["infit"]) == pytest.approx(1, abs=0.1)
    assert found.reliability > 0.5


@pytest.mark.parametrize("method", ["wle", "ml", "map", "jeffreys"])
def test_scores_on_nodes_match_the_compiled_equations(method: Method) -> None:
    """A 2PL among `others` has no compiled curve there, so all items are scored on nodes."""
    responses = trial_answers(7)
    by_hand = OtherItems(TWO_PL, np.arange(2), np.zeros((0, 2)), np.full(2, 2))
    c = np.where(np.arange(ITEMS) < 10, 0.0, 0.2)
    known = estimate_abilities(responses, A, -A * B, c, method=method)
    found = estimate_abilities(responses, A, -A * B, c, others=(by_hand,), method=method)
    near = np.abs(known.theta) < 11  # nodes end at 12
    np.testing.assert_array_equal(found.theta[np.isinf(known.theta)], known.theta[np.isinf(known.theta)])
    # differences over nodes .02 apart are wrong by .02²/6 times third derivatives, of the order of 1e-4 of a unit
    np.testing.assert_allclose(found.theta[near], known.theta[near], atol=5e-4)
    np.testing.assert_allclose(found.se[near], known.se[near], rtol=1e-3)


def test_person_fit_of_any_models_matches_the_compiled_loop() -> None:
    responses, c = trial_answers(7), np.where(np.arange(ITEMS) < 10, 0.0, 0.2)
    plain = ItemParameters(responses.item_ids, A, B, c, np.zeros((ITEMS, 2, 2)))
    by_hand = replace(plain, others=(OtherItems(TWO_PL, np.arange(2), np.zeros((0, 2)), np.full(2, 2)),))
    found, known = person_fit(responses, by_hand), person_fit(responses, plain)
    # the WLE differs by up to 5e-4, see above, and lz* changes by about 1 per unit of θ
    np.testing.assert_allclose(found.lz, known.lz, atol=2e-3)
    np.testing.assert_allclose(found.p, known.p, atol=2e-3)
