"""A model that the product does not have, the generalised partial credit model, needs one class and no other change.

P(k | θ) ∝ exp(k·aθ + d_k) with d_0 = 0 (Muraki 1992, in slope-intercept form): of an item with m categories the
parameters are a, d_1 (the `d` of every model) and d_2 … d_{m−1}.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from irt_assets.ledger.encoding import decode, encode
from irt_assets.psychometrics.core import kernels
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.item_models import ITEM_MODELS, item_model
from irt_assets.psychometrics.core.model_families import TWO_PL, ItemModel
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.core.priors import LogNormal, Normal, Priors
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.marginal import Problem
from irt_assets.psychometrics.estimation.normality import normality
from irt_assets.psychometrics.estimation.parameter_layout import ParameterLayout
from irt_assets.psychometrics.estimation.response_layout import ResponseLayout
from irt_assets.psychometrics.fit.fit_summary import summarise
from irt_assets.psychometrics.linking.linking import link
from irt_assets.psychometrics.scoring.abilities import Curves, eap_by
from tests.testbed.made_anchors import anchor_set_of

LEARNERS, ITEMS = 1500, 12
CATEGORIES = np.array([3, 4] * (ITEMS // 2))


class Gpcm(ItemModel):
    name = "gpcm"  # type: ignore[assignment]
    spoken = "GPCM"

    def parameter_names(self, categories):
        return ("a", "d", *(f"d{k}" for k in range(2, categories)))

    def log_probabilities(self, theta, parameters, categories):
        steps = self._steps(parameters)
        k = np.arange(len(steps))
        eta = k * parameters[0][:, None, None] * theta[:, None] + steps.T[:, None, :]
        return log_softmax(np.where(k < categories[:, None, None], eta, -np.inf), axis=2)

    def by_parameters(self, theta, parameters, categories):
        p = self.probabilities(theta, parameters, categories)
        k = np.arange(p.shape[2])
        has = k < categories[:, None, None]
        by_a = (k - (p @ k)[:, :, None]) * theta[:, None]
        by_steps = [(k == m) - p[:, :, m : m + 1] for m in range(1, len(k))]
        return np.stack([np.where(has, by, 0.0) for by in (by_a, *by_steps)])

    def by_theta(self, theta, parameters, categories):
        p = self.probabilities(theta, parameters, categories)
        k = np.arange(p.shape[2])
        by = parameters[0][:, None, None] * (k - (p @ k)[:, :, None])
        return np.where(k < categories[:, None, None], by, 0.0)

    def start(self, shares, categories, priors):
        log_shares = np.log(np.maximum(shares, 1e-3))
        steps = np.where(np.arange(shares.shape[1]) < categories[:, None], log_shares - log_shares[:, :1], 0.0)
        return np.vstack([np.ones(len(shares)), steps[:, 1:].T])

    def transformed(self, parameters, slope, intercept):
        k = np.arange(1, len(parameters))[:, None]
        return np.vstack([parameters[0] / slope, parameters[1:] - k * parameters[0] * intercept / slope])

    def jacobian(self, slope, intercept, size):
        out = np.eye(size)
        out[0, 0], out[1:, 0] = 1 / slope, -np.arange(1, size) * intercept / slope
        return out

    def _steps(self, parameters):
        """d_0 = 0 and the others, shape (C, J)."""
        return np.vstack([np.zeros(parameters.shape[1]), parameters[1:]])


class CommonSlope(Gpcm):
    name = "common"
    slopes = "common"


class FixedSlopes(Gpcm):
    """The partial credit model (Masters 1982)."""

    name = "pcm"
    slopes = "fixed"


MODEL = Gpcm()


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    for model in (MODEL, CommonSlope(), FixedSlopes()):
        monkeypatch.setitem(ITEM_MODELS, model.name, model)


def simulated(seed=1, learners=LEARNERS, missing=0.0):
    """True parameters (P, J), abilities and responses."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((4, ITEMS))
    truth[0] = np.exp(rng.normal(0, 0.3, ITEMS))
    truth[1:] = np.cumsum(rng.normal(0.2, 0.7, (3, ITEMS)), axis=0)
    truth[3, CATEGORIES == 3] = 0.0
    theta = rng.standard_normal(learners)
    p = MODEL.probabilities(theta, truth, CATEGORIES)
    x = (rng.random((ITEMS, learners, 1)) > np.cumsum(p, axis=2)).sum(axis=2).T.astype(float)
    x[rng.random(x.shape) < missing] = np.nan
    return truth, theta, Responses.from_wide(x, categories=CATEGORIES)


@pytest.fixture(scope="module")
def world():
    ITEM_MODELS["gpcm"] = MODEL
    try:
        truth, theta, responses = simulated()
        yield truth, theta, responses, fit_em(responses, model="gpcm", threads=1)
    finally:
        del ITEM_MODELS["gpcm"]


def brute_force(responses, parameters, grid=None, mean=0.0, sd=1.0):
    """log L by quadrature with a loop over answers, and the posteriors (N, Q)."""
    nodes = Grid.spanning().nodes if grid is None else grid
    weights = np.exp(-0.5 * ((nodes - mean) / sd) ** 2)
    logs = MODEL.log_probabilities(nodes, parameters, responses.n_categories)
    joint = np.tile(np.log(weights / weights.sum()), (responses.n_persons, 1))
    for person, item, score in zip(responses.person, responses.item, responses.score, strict=True):
        joint[person] += logs[item, :, score]
    total = logsumexp(joint, axis=1)
    return float(total.sum()), np.exp(joint - total[:, None])


def problem_of(responses, run, **of):
    data = ResponseLayout.of(responses, by_category=True)
    layout = ParameterLayout.of(item_model("gpcm"), ITEMS, categories=responses.n_categories, **of)
    return Problem(data, layout, Grid.spanning(), run, Priors())


def test_a_fit_finds_the_simulated_parameters(world):
    truth, _, _, fit = world
    assert fit.convergence.converged, fit.convergence.reason
    found = np.vstack([fit.a, fit.d, fit.further.T])
    errors = np.sqrt(np.diagonal(fit.cov, axis1=1, axis2=2).T)
    has = MODEL.free(CATEGORIES)
    z = ((found - truth) / errors)[has]
    # in 60 such simulations no standardised error of 42 was above 4, and their mean square was 0.94 ± 0.29 (errors of
    # an item depend on each other), of which three standard deviations are allowed
    assert np.abs(z).max() < 4
    assert abs(np.mean(z**2) - 1) < 0.87
    assert np.isnan(fit.further[CATEGORIES == 3, 1]).all()
    assert (fit.c == 0).all()
    assert fit.convergence.n_parameters == has.sum()


def test_the_log_likelihood_is_that_of_brute_force(world):
    _, _, responses, fit = world
    assert fit.convergence.loglik == pytest.approx(brute_force(responses, fit.parameters)[0], abs=1e-8)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_gradient_is_that_of_finite_differences(missing):
    _, _, responses = simulated(seed=3, learners=200, missing=missing)
    with kernels.runner(1) as run:
        problem = problem_of(responses, run)
        x = problem.start() + np.random.default_rng(5).normal(0, 0.2, problem.structure.size)
        point, step = problem.evaluate(x), 1e-5
        for k in range(len(x)):
            move = np.zeros_like(x)
            move[k] = step
            up, down = problem.evaluate(x + move), problem.evaluate(x - move)
            # third derivatives of 200 answers times step² are below 1e-7, rounding of 2,000 divided by it is, too
            assert point.gradient[k] == pytest.approx((up.loglik - down.loglik) / (2 * step), abs=1e-6)
        parameters = problem.structure.expand(x)[: 4 * ITEMS].reshape(4, ITEMS)
        assert point.loglik == pytest.approx(brute_force(responses, parameters)[0], abs=1e-8)


def test_standard_errors_are_those_of_the_observed_information(world):
    """Second differences of the brute-force likelihood, of one item's parameters with all others at the maximum."""
    _, _, responses, fit = world
    few = np.flatnonzero(responses.person < 300)
    some = Responses(
        responses.person[few], responses.item[few], responses.score[few], 300, responses.item_ids, CATEGORIES
    )
    at, step = fit.parameters, 1e-3
    with kernels.runner(1) as run:
        problem = problem_of(some, run)
        s = problem.structure
        full = np.zeros(len(s.index))
        full[: 4 * ITEMS] = at.ravel()
        found = problem.observed_information(problem.evaluate(full[s.free]))
    own = [k * ITEMS + 1 for k in range(4)]
    brute = np.zeros((4, 4))
    for k, m in np.ndindex(4, 4):
        values = []
        for one, other in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            moved = at.copy()
            moved[k, 1] += one * step
            moved[m, 1] += other * step
            values.append(one * other * brute_force(some, moved)[0])
        brute[k, m] = -sum(values) / (4 * step**2)
    # fourth derivatives of 300 answers times step² are of the order of 1e-4
    np.testing.assert_allclose(found[np.ix_(own, own)], brute, atol=1e-3)


def test_a_linked_fit_has_the_same_curves_and_its_errors_follow_by_the_jacobian(world):
    _, _, _, fit = world
    theta, slope, intercept = np.linspace(-2, 2, 9), 1.25, -0.6
    linked = fit.rescaled(slope, intercept)
    np.testing.assert_allclose(
        MODEL.probabilities(slope * theta + intercept, linked.parameters, CATEGORIES),
        MODEL.probabilities(theta, fit.parameters, CATEGORIES),
        rtol=1e-12,
    )
    j, step = 1, 1e-6
    by = np.zeros((4, 4))
    for k in range(4):
        move = np.zeros_like(fit.parameters)
        move[k] = step
        up, down = (MODEL.transformed(fit.parameters + sign * move, slope, intercept) for sign in (1, -1))
        by[:, k] = ((up - down) / (2 * step))[:, j]
    after = by @ fit.cov[j] @ by.T
    np.testing.assert_allclose(linked.cov[j], after, rtol=1e-6)  # differences with a step of 1e-6


def test_a_model_that_has_no_change_of_scale_for_its_further_intercepts_is_refused():
    for change in (
        lambda: ItemModel.transformed(MODEL, np.ones((4, 2)), 1.2, 0.1),
        lambda: ItemModel.jacobian(MODEL, 1.2, 0.1, 4),
    ):
        with pytest.raises(PsychometricsError, match="a GPCM has more"):
            change()


def test_abilities_are_the_posterior_means_of_brute_force(world):
    _, theta, responses, fit = world
    scored = eap_by(responses, Curves.of(fit.curves), threads=1)
    nodes = Grid.spanning().nodes
    _, posterior = brute_force(responses, fit.parameters)
    mean = posterior @ nodes
    np.testing.assert_allclose(scored.theta, mean, atol=1e-10)
    np.testing.assert_allclose(scored.se, np.sqrt((posterior * (nodes - mean[:, None]) ** 2).sum(axis=1)), atol=1e-10)
    assert np.corrcoef(scored.theta, theta)[0, 1] > 0.9  # a reliability of 0.85 has a correlation of 0.92


def test_expected_score_and_information_are_those_of_finite_differences(world):
    truth, _, _, _ = world
    theta, step = np.linspace(-3, 3, 13), 1e-5
    p = MODEL.probabilities(theta, truth, CATEGORIES)
    np.testing.assert_allclose(p.sum(axis=2), 1.0, rtol=1e-12)
    np.testing.assert_allclose(MODEL.expected_score(theta, truth, CATEGORIES), p @ np.arange(4), rtol=1e-12)
    up, down = (MODEL.expected_score(theta + sign * step, truth, CATEGORIES) for sign in (1, -1))
    # of a GPCM the information is a² Var(score), and the slope of the expected score is a·Var(score) (Muraki 1993)
    np.testing.assert_allclose(
        MODEL.information(theta, truth, CATEGORIES), truth[0][:, None] * (up - down) / (2 * step), atol=1e-8
    )


def test_items_of_two_categories_are_those_of_the_2pl():
    rng = np.random.default_rng(7)
    x = (rng.random((800, 6)) < 1 / (1 + np.exp(-(rng.standard_normal((800, 1)) - rng.normal(0, 1, 6))))).astype(float)
    one = fit_em(Responses.from_wide(x), model="2pl", threads=1, tolerance=1e-7)
    other = fit_em(Responses.from_wide(x, categories=[2] * 6), model="gpcm", threads=1, tolerance=1e-7)
    # two ascents to the same maximum, each to 1e-7 of a standard error; errors by Louis and by differences
    np.testing.assert_allclose([other.a, other.d], [one.a, one.d], atol=1e-6)
    np.testing.assert_allclose(other.cov, one.cov, rtol=1e-4)
    assert other.convergence.loglik == pytest.approx(one.convergence.loglik, abs=1e-8)


def test_common_slopes_and_fixed_slopes_are_one_model_in_two_units(world):
    _, _, responses, _ = world
    common, fixed = (fit_em(responses, model=name, tolerance=1e-7, threads=1) for name in ("common", "pcm"))
    assert common.convergence.converged
    assert fixed.convergence.converged
    # two ascents to one maximum, each to 1e-7 of a standard error; quadrature on two grids in units of θ
    assert common.convergence.loglik == pytest.approx(fixed.convergence.loglik, abs=1e-5)
    np.testing.assert_allclose(common.a, fixed.latent_sd, rtol=1e-5)
    np.testing.assert_allclose(common.d, fixed.d, atol=1e-5)
    np.testing.assert_allclose(common.a_se, fixed.populations[0].sd_se, rtol=1e-3)
    np.testing.assert_allclose(common.d_se, fixed.d_se, rtol=1e-3)
    assert (fixed.a_se == 0).all()


def test_groups_and_histograms_go_with_every_model(world):
    _, _, responses, fit = world
    groups = ["a", "b"] * (LEARNERS // 2)
    grouped = fit_em(responses, model="gpcm", groups=groups, threads=1)
    assert grouped.convergence.converged, grouped.convergence.reason
    assert abs(grouped.populations[1].mean) < 4 * grouped.populations[1].mean_se
    shaped = fit_em(responses, model="gpcm", latent="histogram", threads=1)
    assert shaped.convergence.converged, shaped.convergence.reason
    # θ is normal here, so that the errors with its shape free are those with it known, within a tenth
    np.testing.assert_allclose(np.sqrt(shaped.cov[:, 0, 0]), np.sqrt(fit.cov[:, 0, 0]), rtol=0.1)


def test_a_prior_on_slopes_and_weights_of_learners_are_taken(world):
    _, _, responses, fit = world
    held = fit_em(responses, model="gpcm", priors=Priors(a=LogNormal(0, 0.05)), threads=1)
    assert np.abs(np.log(held.a)).max() < np.abs(np.log(fit.a)).max() / 2
    twice = fit_em(responses, model="gpcm", weights=np.full(LEARNERS, 2.0), threads=1)
    np.testing.assert_allclose(twice.cov, fit.cov / 2, rtol=1e-3)  # two ascents, each to 1e-5 of a standard error


def test_stored_bytes_give_the_calibration_back(world):
    _, _, _, fit = world
    back = decode(encode(fit))
    for name in ("a", "d", "categories", "further", "cov", "joint_cov"):
        np.testing.assert_array_equal(getattr(back, name), getattr(fit, name))
    assert sorted(fit.further_of(1)) == ["d2", "d2_se", "d3", "d3_se"]
    assert sorted(fit.further_of(0)) == ["d2", "d2_se"]
    part = back.select([1, 2])
    np.testing.assert_array_equal(part.further, fit.further[[1, 2]])


def test_an_item_with_a_category_that_nobody_chose_is_left_out_and_flagged():
    _, _, responses = simulated(seed=9, learners=300)
    merged = responses.score.copy()
    merged[(responses.item == 1) & (merged == 2)] = 1
    lacking = Responses(responses.person, responses.item, merged, 300, responses.item_ids, CATEGORIES)
    fit = fit_em(lacking, model="gpcm", threads=1)
    assert np.isnan(fit.a[1])
    assert fit.flags[1] == ("unidentified",)
    assert np.isfinite(np.delete(fit.a, 1)).all()


def test_scores_beyond_an_items_categories_are_refused():
    with pytest.raises(PsychometricsError, match="item i2 has 3 categories, scored 0 … 2; found a score of 3"):
        Responses.from_wide([[0, 3], [3, 1]], categories=[4, 3])
    with pytest.raises(PsychometricsError, match="categories must be 2 numbers of at least 2"):
        Responses.from_wide([[0, 1]], categories=[2, 1])
    with pytest.raises(PsychometricsError, match="scores must be 0, 1 or NaN"):
        Responses.from_wide([[0, 2]])


def test_what_is_not_defined_for_more_than_two_categories_is_refused(world):
    _, _, responses, fit = world
    with pytest.raises(PsychometricsError, match=r"a 2PL is for items of two categories, and 12 items .* i1 \(3\)"):
        fit_em(responses, model=TWO_PL.name)
    with pytest.raises(PsychometricsError, match="the test of normality is defined for items of two categories"):
        normality(responses, fit)
    with pytest.raises(PsychometricsError, match="is defined for items of two categories, and a GPCM has more"):
        summarise(responses, fit)
    with pytest.raises(PsychometricsError, match="within testlets is defined for items of two categories"):
        fit_em(responses, model="gpcm", testlets={"i1": "t", "i2": "t"})
    with pytest.raises(PsychometricsError, match="a gpcm model has no difficulty for the prior on b"):
        fit_em(responses, model="gpcm", priors=Priors(b=Normal(0, 1)))
    one, none = np.ones(1), np.zeros(1)
    anchors = anchor_set_of("s", "1", ("i1",), one, none, none, one, one, none, (None,), np.zeros(1, dtype=bool))
    with pytest.raises(PsychometricsError, match="anchors have a, b and c, which do not make up the curves of a GPCM"):
        fit_em(responses, model="gpcm", anchors=anchors)
    with pytest.raises(PsychometricsError, match="linking through anchors is defined for items of two categories"):
        link(fit, anchors)
