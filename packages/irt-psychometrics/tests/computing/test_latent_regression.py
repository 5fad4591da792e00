"""Latent regressions agree with R TAM, with integrals computed by SciPy, and with differences."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import irt_psychometrics as irt
from irt_psychometrics.regression import free_items
from irt_psychometrics.regression.answers import Answers
from irt_psychometrics.regression.free_items import FreeItems
from irt_psychometrics.regression.item_errors import covariance_from_items
from irt_psychometrics.regression.maximum import HeldItems, Persons
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

MIXED = irt.ItemParameters.from_frame(
    {
        "item": ["q1", "q2", "q3", "q4", "q5"],
        "model": ["2pl", "3pl", "gpcm", "grm", "2pl"],
        "a": [1.2, 1.5, 0.8, 1.4, 0.9],
        "b": [-0.5, 0.3, np.nan, np.nan, 0.8],
        "c": [np.nan, 0.2, np.nan, np.nan, np.nan],
        "b1": [np.nan, np.nan, -0.7, -0.4, np.nan],
        "b2": [np.nan, np.nan, 0.6, 0.9, np.nan],
    }
)


def simulated(items: irt.ItemParameters, n: int, seed: int = 1) -> tuple[irt.Responses, dict[str, Any]]:
    """Answers of n persons, of which a tenth is missing, and two covariates."""
    rng = np.random.default_rng(seed)
    covariates = {"level": np.array(["a", "b", "c"])[rng.integers(0, 3, n)], "x": rng.normal(size=n)}
    theta = 0.4 * covariates["x"] + 0.5 * (covariates["level"] == "b") + rng.normal(size=n)
    x = irt.simulate_responses(items, theta, random_state=seed)
    return x.of_rows(rng.random(x.n_responses) < 0.9), covariates


# -- R TAM -----------------------------------------------------------------------------------------------------------

A = "1.31 1.68 1.48 2.31 1.32 1.42 1.42 1.5 1.55 2.02 1.24 1.64 .86 1.1 1.39 1.34 .89 1.1 1.1 1.38 1.58 1.44 .97 1.18"
B = "-.25 -.13 .27 .44 .61 1.29 -.58 .06 .19 .7 .66 1.65 .15 .85 1.17 1.79 2.17 3.19 -.23 .15 .9 .94 1.64 2.28"


@pytest.fixture(scope="module")
def verbal(shared):
    """Verbal aggression: answers of 316 persons to 24 items, with gender and anger; and items near the 2PL's."""
    table = np.genfromtxt(shared / "data" / "verbal_aggression_binary_wide.csv", delimiter=",", dtype=str)
    x = irt.Responses.from_wide(table[1:, 3:].astype(float), table[0, 3:].tolist())
    items = {"item": x.item_ids, "a": [*map(float, A.split())], "b": [*map(float, B.split())]}
    covariates = {"gender": table[1:, 1].tolist(), "anger": table[1:, 2].astype(float)}
    regress = partial(irt.latent_regression, x, covariates=covariates, reference={"gender": "male"})
    return regress, irt.ItemParameters.from_frame(items)


def test_held_items_agree_with_tam(verbal) -> None:
    """TAM 4.4.2, nodes <- seq(-12, 12, len = 161), `like` the likelihood of the items, Y = cbind(female, anger):
    tam.latreg(like, theta = matrix(nodes), Y = Y, control = list(conv = 1e-7, convD = 1e-9)), without pweights and with
    pweights = 1 + (0:315) %% 3. TAM prints the estimates with an error of 1e-6, because the EM ends early."""
    regress, items = verbal
    found = regress(items)
    assert found.coefficient_names == ("intercept", "gender: female", "anger")
    assert found.estimates == pytest.approx([-0.0010652, -0.2732289, 0.0442148, 1.0001571], abs=2e-6)
    assert found.log_likelihood == pytest.approx(-4008.73180, abs=1e-4)
    weighted = regress(items, sampling_weights=1 + np.arange(316) % 3)
    assert weighted.estimates == pytest.approx([0.2129593, -0.3160044, 0.0357076, 0.9849664], abs=2e-6)
    assert weighted.log_likelihood == pytest.approx(-4016.22090, abs=1e-4)


@pytest.mark.parametrize(
    ("model", "estimates", "log_likelihood", "further"),
    [
        ("rasch", [0.0, -0.3219461, 0.0577324, 1.3524804], -4029.96162, [-0.3131381, -0.3131381, 0.3431522]),
        ("2pl", [0.0, -0.2730155, 0.0442089, 1.0], -4008.71811, [1.3067577, 1.6806907, 1.4796556]),
    ],
)
def test_items_estimated_together_agree_with_tam(verbal, model, estimates, log_likelihood, further) -> None:
    """TAM 4.4.2, the same nodes: tam.mml(X, dataY = Y, formulaY = ~ female + anger) and tam.mml.2pl; −d of the first
    three items under the Rasch model, and a under the 2PL."""
    regress, _ = verbal
    found = regress(model=model)
    assert found.estimates == pytest.approx(estimates, abs=5e-6)
    assert found.log_likelihood == pytest.approx(log_likelihood, abs=1e-4)
    own = -found.items.d if model == "rasch" else found.items.a
    assert own[:3] == pytest.approx(further, abs=1e-5)
    assert found.item_cov is None
    assert found.by_items is None
    assert "not known" not in " ".join(found.summary().notes)


# -- integrals and differences ---------------------------------------------------------------------------------------


def test_log_likelihood_agrees_with_numerical_integration() -> None:
    x, covariates = simulated(MIXED, 6)
    group = np.array([0, 1] * 3)
    persons = Persons(np.column_stack([np.ones(6), covariates["x"]]), group, np.ones(6))
    parameters = np.array([0.3, -0.4, np.log(0.7), np.log(1.6)])
    likelihood = HeldItems.around(Answers.from_responses(x, MIXED), persons, parameters)
    found = likelihood.evaluate(parameters)
    curves = MIXED.curves
    for i in range(6):
        mean, sd = 0.3 - 0.4 * covariates["x"][i], (0.7, 1.6)[group[i]]
        own = x.item[x.person == i], x.score[x.person == i]

        def density(theta: float, own=own, mean=mean, sd=sd) -> float:
            p = curves.score_probabilities(np.array([theta]))[*own, 0]
            return float(p.prod() * norm.pdf(theta, mean, sd))

        expected = quad(density, mean - 9 * sd, mean + 9 * sd, epsabs=0, epsrel=1e-11)[0]
        assert found.log_likelihood[i] == pytest.approx(np.log(expected), abs=1e-8)


@pytest.mark.parametrize("n_items", [5, 60])
def test_posterior_means_and_sds_agree_with_fine_nodes(n_items) -> None:
    """Nodes .8 posterior SDs apart have an error of 4e-14, so a grid of 4,001 nodes has the same moments."""
    rng = np.random.default_rng(2)
    items = {"item": [f"q{j}" for j in range(n_items)], "a": np.full(n_items, 1.5), "b": rng.normal(size=n_items)}
    bank = irt.ItemParameters.from_frame(items)
    x = irt.Responses.from_wide(np.stack([np.ones(n_items), np.zeros(n_items), np.arange(n_items) % 2]), bank.item_ids)
    answers, fine = Answers.from_responses(x, bank), np.linspace(-9, 9, 4001)
    nodes = answers.nodes_for(np.zeros(3), np.ones(3))
    moments = []
    for at in (nodes, fine):
        weights = np.exp(answers.log_likelihood(at)) * norm.pdf(at)
        weights /= weights.sum(axis=1, keepdims=True)
        mean = weights @ at
        moments.append([mean, np.sqrt(weights @ at**2 - mean**2)])
    assert np.abs(np.subtract(*moments)).max() < 1e-9


def assert_derivatives_match(likelihood: HeldItems | FreeItems, at: np.ndarray) -> None:
    """Compare scores with differences of the log-likelihood, and the information with differences of scores."""
    step, w, point = 1e-5, likelihood.persons.weight, likelihood.evaluate(at)
    for k in range(len(at)):
        move = step * np.eye(len(at))[k]
        up, down = likelihood.evaluate(at + move), likelihood.evaluate(at - move)
        differences = (up.log_likelihood - down.log_likelihood) / (2 * step)
        assert point.scores[:, k] == pytest.approx(differences, abs=1e-7)
        bent = -w @ (up.scores - down.scores) / (2 * step)
        assert point.information[k] == pytest.approx(bent, abs=1e-6 * np.abs(point.information).max())


def test_derivatives_with_held_items_match_differences() -> None:
    x, covariates = simulated(MIXED, 40)
    rng = np.random.default_rng(3)
    design = np.column_stack([np.ones(40), covariates["x"], covariates["level"] == "b"])
    persons = Persons(design, rng.integers(0, 2, 40), rng.uniform(0.5, 1.5, 40))
    at = np.array([0.1, 0.3, 0.4, 0.1, -0.2])
    assert_derivatives_match(HeldItems.around(Answers.from_responses(x, MIXED), persons, at), at)


@pytest.mark.parametrize(
    "model", ["rasch", "1pl", "2pl", "gpcm", "grm", "nominal", ("2pl", "grm", "gpcm", "2pl", "grm")]
)
def test_derivatives_with_free_items_match_differences(model) -> None:
    """The fit without covariates has another maximum, so scores differ from 0."""
    binary = model in ("rasch", "1pl", "2pl")
    columns: dict[str, Any] = {"item": MIXED.item_ids, "a": [1.0, 1.4, 0.8, 1.2, 0.9]}
    columns |= {"b": [-0.5, 0.3, 0.1, 0.4, 0.8]} if binary else {"b1": [-0.9, -0.4, 0, -0.6, -0.2], "b2": [0.5] * 5}
    columns |= {} if binary else {"model": ["gpcm"] * 5}
    if isinstance(model, tuple):
        columns["b2"] = [np.nan, 0.5, 0.5, np.nan, 0.5]
        columns |= {"b": [-0.5, np.nan, np.nan, 0.3, np.nan], "model": ["2pl", "gpcm", "gpcm", "2pl", "gpcm"]}
        columns["b1"] = [np.nan, -0.4, 0, np.nan, -0.2]
    x, covariates = simulated(irt.ItemParameters.from_frame(columns), 150)
    persons = Persons(np.column_stack([np.ones(150), covariates["x"]]), np.arange(150) % 2, np.ones(150))
    fit = irt.fit(x, model if isinstance(model, str) else dict(zip(x.item_ids, model, strict=True))).calibration
    likelihood = FreeItems.from_fit(x, fit, persons)
    assert_derivatives_match(likelihood, likelihood.start)


def test_persons_in_several_parts_have_the_same_likelihood(monkeypatch) -> None:
    x, covariates = simulated(MIXED.select(["q1", "q5", "q3"]), 200)
    persons = Persons(np.column_stack([np.ones(200), covariates["x"]]), np.arange(200) % 2, np.ones(200))
    fit = irt.fit(x, {"q1": "2pl", "q5": "2pl", "q3": "gpcm"}).calibration
    likelihood = FreeItems.from_fit(x, fit, persons)
    whole = likelihood.evaluate(likelihood.start)
    monkeypatch.setattr(free_items, "_CELLS_AT_ONCE", 30 * len(likelihood.nodes) * 20)
    parts = likelihood.evaluate(likelihood.start)
    for one, other in zip(whole, parts, strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9)


def test_derivatives_by_items_match_regressions_with_other_items() -> None:
    x, covariates = simulated(MIXED, 300)
    groups = np.array(["u", "v"])[np.arange(300) % 2]
    regress = partial(irt.latent_regression, x, covariates=covariates, groups=groups)
    by = regress(MIXED).by_items
    step = 1e-4
    for name, j, p in [("a", 0, 0), ("b", 1, 1), ("a", 2, 0), ("b", 3, 1), ("c", 1, 2)]:
        at = getattr(MIXED, name)
        size = step * at[j] * (1 - at[j]) if name == "c" else step  # a step of logit c
        moved = [replace(MIXED, **{name: at + sign * size * (np.arange(5) == j)}) for sign in (1, -1)]
        differences = np.subtract(*(regress(items).estimates for items in moved)) / (2 * step)
        assert by[:, j, p] == pytest.approx(differences, abs=1e-5), name
    graded = MIXED.others[-1]
    moved = []
    for sign in (1, -1):
        further = graded.further.copy()
        further[1, 0] += sign * step
        moved.append(replace(MIXED, others=(*MIXED.others[:-1], replace(graded, further=further))))
    differences = np.subtract(*(regress(items).estimates for items in moved)) / (2 * step)
    assert by[:, graded.at[0], 3] == pytest.approx(differences, abs=1e-5)


def test_item_errors_follow_from_the_derivatives_and_all_covariances() -> None:
    """D Σ Dᵀ with the covariance Σ of all parameters written as one matrix."""
    x, covariates = simulated(MIXED, 200)
    rng = np.random.default_rng(4)
    roots = 0.05 * rng.normal(size=(5, 5, 5))
    each = roots @ roots.swapaxes(1, 2)
    items = replace(MIXED, cov=each[:, :2, :2], further_cov=each[:, 2:])
    found = irt.latent_regression(x, items, covariates)
    whole = np.zeros((5, 5, 5, 5))
    whole[np.arange(5), :, np.arange(5), :] = each
    by = found.by_items.reshape(len(found.estimates), 25)
    assert found.item_cov == pytest.approx(by @ whole.reshape(25, 25) @ by.T, rel=1e-10)
    assert found.se == pytest.approx(np.sqrt(np.diag(found.cov) + np.diag(found.item_cov)))
    assert covariance_from_items(items, found.by_items - found.by_items) == pytest.approx(0.0)


# -- weights, clusters, influence ------------------------------------------------------------------------------------


def test_whole_weights_have_the_estimates_of_repeated_persons() -> None:
    x, covariates = simulated(MIXED, 200)
    weights = 1 + np.arange(200) % 3
    again = np.repeat(np.arange(200), weights)
    matrix = np.full((200, 5), np.nan)
    matrix[x.person, x.item] = x.score
    repeated = irt.Responses.from_wide(matrix[again], x.item_ids, categories=MIXED.curves.categories)
    longer = {name: values[again] for name, values in covariates.items()}
    weighted = irt.latent_regression(x, MIXED, covariates, sampling_weights=weights)
    assert weighted.errors == "robust"
    assert weighted.estimates == pytest.approx(irt.latent_regression(repeated, MIXED, longer).estimates, abs=1e-6)
    clustered = irt.latent_regression(repeated, MIXED, longer, clusters=again.tolist())
    assert clustered.cov == pytest.approx(weighted.cov * 200 / (200 - 4), rel=1e-5)
    assert clustered.errors == "clustered"
    one, other = weighted.populations[0], clustered.populations[0]
    errors = np.array([one.mean_se, one.sd_se]) * np.sqrt(200 / 196)
    assert [other.mean_se, other.sd_se] == pytest.approx(errors, rel=1e-5)


def test_influence_of_a_person_is_the_change_of_the_estimates_per_weight() -> None:
    """∂β/∂wᵢ from regressions with weights 1 ± .001 of one person. Weights have a mean of 1, which changes nothing."""
    x, covariates = simulated(MIXED, 150)
    regress = partial(irt.latent_regression, x, MIXED, covariates)
    influence = regress().person_influence
    for i in (0, 70):
        up, down = (regress(sampling_weights=1 + sign * 1e-3 * (np.arange(150) == i)).estimates for sign in (1, -1))
        assert influence[i] == pytest.approx((up - down) / 2e-3, rel=1e-3, abs=1e-6)


def test_influence_with_free_items_is_the_change_of_the_estimates_per_weight() -> None:
    x, covariates = simulated(MIXED.select(["q1", "q5", "q3"]), 200)
    regress = partial(irt.latent_regression, x, None, covariates, model={"q1": "2pl", "q5": "2pl", "q3": "gpcm"})
    up, down = (regress(sampling_weights=1 + sign * 1e-3 * (np.arange(200) == 7)).estimates for sign in (1, -1))
    assert regress().person_influence[7] == pytest.approx((up - down) / 2e-3, rel=1e-3, abs=1e-6)


# -- groups ----------------------------------------------------------------------------------------------------------


def test_groups_agree_with_a_multiple_group_fit() -> None:
    """`irt.fit` with all items anchored estimates the same means and SDs of groups, by another algorithm."""
    items = irt.ItemParameters.from_frame(
        {"item": [f"q{j}" for j in range(12)], "a": np.linspace(0.8, 1.6, 12), "b": np.linspace(-2, 2, 12)}
    )
    rng = np.random.default_rng(6)
    group = np.array(["u", "v"])[np.arange(600) % 3 // 2]
    theta = np.where(group == "u", 0.0, 0.5) + np.where(group == "u", 1.0, 0.7) * rng.normal(size=600)
    x = irt.simulate_responses(items, theta, random_state=6)
    found = irt.latent_regression(x, items, groups=group)
    fitted = irt.fit(x, groups=group, anchors=items, tolerance=1e-6).calibration
    for own, other in zip(found.populations, sorted(fitted.populations, key=lambda one: one.name), strict=True):
        assert (own.name, own.n_persons) == (other.name, other.n_persons)
        assert (own.mean, own.sd) == pytest.approx((other.mean, other.sd), abs=1e-5)
        assert (own.mean_se, own.sd_se) == pytest.approx((other.mean_se, other.sd_se), rel=1e-3)


def test_means_of_groups_include_that_other_samples_have_other_covariates() -> None:
    """If θ were known, the standard error of a mean would be SD/√n."""
    x, covariates = simulated(MIXED, 400)
    found = irt.latent_regression(x, MIXED, {"x": covariates["x"]})
    (everybody,) = found.populations
    assert everybody.mean_se > everybody.sd / np.sqrt(400)
    assert everybody.sd == pytest.approx(found.residual_sds[0] / np.sqrt(1 - found.r_squared))


def test_estimates_move_with_the_scale_of_the_items() -> None:
    """On the scale 500 + 100θ: the posterior moments of (θ − 500)/100 are the same."""
    items = MIXED.select(["q1", "q2", "q5"])
    x, covariates = simulated(items, 300)
    found = irt.latent_regression(x, items, covariates)
    moved = irt.latent_regression(x, items.rescaled(100.0, 500.0), covariates)
    assert moved.estimates - [500, 0, 0, 0, 0] == pytest.approx(100 * found.estimates, abs=1e-5)
    assert moved.se == pytest.approx(100 * found.se, rel=1e-6)
    assert moved.log_likelihood == pytest.approx(found.log_likelihood, abs=1e-7)


def test_differences_of_eap_means_are_shrunk_and_the_regression_is_not() -> None:
    """Five items: EAPs with a common prior shrink a difference of .8 by about the reliability, near .5."""
    items = irt.ItemParameters.from_frame({"item": [*"abcde"], "a": [1.0] * 5, "b": [-1.0, -0.5, 0.0, 0.5, 1.0]})
    rng = np.random.default_rng(7)
    group = np.repeat(["u", "v"], 4000)
    x = irt.simulate_responses(items, np.where(group == "u", -0.4, 0.4) + rng.normal(size=8000), random_state=7)
    found = irt.latent_regression(x, items, {"group": group})
    nodes, weights = irt.latent_regression(x, items).posterior()
    eap = weights @ nodes
    assert abs(found.coefficients[1] - 0.8) < 3 * found.se[1]
    assert eap[group == "v"].mean() - eap[group == "u"].mean() < 0.5


def test_result_without_residual_variance_warns_and_is_not_converged() -> None:
    items = irt.ItemParameters.from_frame({"item": [*"abc"], "a": [2.0] * 3, "b": [-1.0, 0.0, 1.0]})
    x = irt.Responses.from_wide({"a": [1, 1] * 20, "b": [1, 0] * 20, "c": [0, 0] * 20})
    with pytest.warns(irt.NotConvergedWarning, match="residual SD became 0"):
        found = irt.latent_regression(x, items, {"half": [1, 0] * 20})
    assert not found.converged
