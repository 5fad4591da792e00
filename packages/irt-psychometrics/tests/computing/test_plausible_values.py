"""Plausible values: each person's draws against exact integration, and statistics against the latent regression."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from scipy.special import ndtri

import irt_psychometrics as irt
from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.regression.plausible import draw_parameters
from irt_psychometrics.scoring.posterior_draws import draw_from_posteriors, uniforms_of

N = 10_000


def logistic(n: int, a: float = 1.0, c: float = 0.0) -> irt.ItemParameters:
    table = {"item": [f"q{j}" for j in range(n)], "a": np.full(n, a), "b": np.linspace(-2, 2, n), "c": np.full(n, c)}
    return irt.ItemParameters.from_frame(table)


def exact(items: irt.ItemParameters, scores: Floats, mean: float, sd: float) -> tuple[Floats, Floats]:
    """The posterior's nodes and weights by brute force on 8,001 nodes."""
    theta = mean + sd * np.linspace(-14, 10, 8_001)
    with np.errstate(divide="ignore"):
        logs = np.log(items.curves.score_probabilities(theta)[np.arange(len(scores)), scores.astype(int)]).sum(axis=0)
    logs = logs - 0.5 * ((theta - mean) / sd) ** 2
    weights = np.exp(logs - logs.max())
    return theta, weights / weights.sum()


def draws(items: irt.ItemParameters, scores: Floats, mean: float, sd: float, uniforms: Floats) -> Floats:
    """A draw at each uniform number for persons with the same answers."""
    most = dict(zip(items.item_ids, (items.curves.categories - 1).tolist(), strict=True))
    x = irt.Responses.from_wide(np.tile(scores, (len(uniforms), 1)), items.item_ids, max_score=most)
    n = len(uniforms)
    return draw_from_posteriors(x, items.curves, np.full(n, mean), np.full(n, sd), uniforms)


GRADED = irt.ItemParameters.from_frame(
    {"item": ["g1", "g2", "m1"], "a": [1.5, 0.8, 2.0], "b": [0.0, 0.3, 1.0], "b1": [-1.0, -0.5, np.nan]}
    | {"b2": [0.2, 0.4, np.nan], "b3": [0.8, 1.0, np.nan], "model": ["grm", "grm", "2pl"]}
)
CASES = {
    "1 answer": (logistic(1), np.ones(1), 0.0, 1.0),
    "5 right answers": (logistic(5), np.ones(5), 0.0, 1.0),
    "60 answers": (logistic(60), np.arange(60) % 2, 0.0, 1.0),
    "60 wrong answers": (logistic(60), np.zeros(60), 0.0, 1.0),
    "60 steep items with guessing": (logistic(60, a=3.0, c=0.2), np.arange(60) % 3 == 0, -1.0, 1.5),
    "200 wrong answers far from the prior": (logistic(200), np.zeros(200), 1.0, 0.5),
    "graded and binary": (GRADED, np.array([2.0, 0.0, 1.0]), 0.3, 0.9),
}


@pytest.mark.parametrize("case", CASES)
def test_draws_follow_the_posterior(case: str) -> None:
    """Mean and SD of 10,000 draws are within 3 Monte Carlo errors, S/100 and S/141, of the posterior's.

    The quantiles agree with those by brute force within .004 SDs, the error of an interpolated density.
    """
    items, scores, mean, sd = CASES[case]
    scores = np.asarray(scores, dtype=float)
    theta, weights = exact(items, scores, mean, sd)
    centre = weights @ theta
    spread = np.sqrt(weights @ (theta - centre) ** 2)
    found = draws(items, scores, mean, sd, uniforms_of(range(N), 1, 5)[:, 0])
    assert abs(found.mean() - centre) < 3 * spread / 100
    kurtosis = weights @ ((theta - centre) / spread) ** 4
    assert abs(found.std() / spread - 1) < 3 * np.sqrt((kurtosis - 1) / 4 / N)
    assert len(np.unique(found[:5000])) >= 4990
    at = (np.arange(999) + 0.5) / 999
    quantiles = np.interp(at, np.cumsum(weights) - weights / 2, theta)
    assert np.abs(draws(items, scores, mean, sd, at) - quantiles).max() < 0.004 * spread


def test_persons_without_answers_are_drawn_from_their_own_priors() -> None:
    mean, sd = np.array([-2.0, 0.0, 3.0]), np.array([0.5, 1.0, 2.0])
    x = irt.Responses.from_wide(np.full((3, 2), np.nan), ["q0", "q1"])
    for u in (0.001, 0.3, 0.5, 0.99):
        found = draw_from_posteriors(x, logistic(2).curves, mean, sd, np.full(3, u))
        assert found == pytest.approx(mean + sd * ndtri(u), abs=1e-3)


@pytest.fixture(scope="module")
def survey() -> tuple[irt.Responses, list[str], irt.LatentRegression]:
    """1,500 persons in two groups, 12 items whose errors are known."""
    rng, country = np.random.default_rng(11), ["north"] * 500 + ["south"] * 1000
    theta = rng.standard_normal(1500) * 0.9 + np.repeat([-0.4, 0.2], [500, 1000])
    table = {"item": [f"q{j}" for j in range(12)], "a": np.linspace(0.8, 1.6, 12), "b": np.linspace(-1.5, 1.5, 12)}
    errors = {"a_se": np.full(12, 0.06), "b_se": np.full(12, 0.05), "cov_ab": np.full(12, 0.001)}
    items = irt.ItemParameters.from_frame(table | errors)
    x = irt.simulate_responses(items, theta, random_state=12)
    return x, country, irt.latent_regression(x, items, {"country": country})


def test_draws_of_parameters_have_the_errors_of_the_regression(
    survey: tuple[irt.Responses, list[str], irt.LatentRegression],
) -> None:
    """Variances of 4,000 draws have errors of √(2/4,000), 2.2 %; the largest of 27 is within 3.5 of them."""
    found = survey[2]
    drawn = [*islice(draw_parameters(found.estimates, found.cov, 2, found.items, found.by_items, 1), 4000)]
    estimates = np.array([estimate for estimate, _ in drawn])
    assert estimates.var(axis=0) == pytest.approx(np.diag(found.total_cov), rel=0.08)
    slopes, intercepts = (np.array([getattr(curves, name) for _, curves in drawn]) for name in "ad")
    assert slopes.var(axis=0) == pytest.approx(0.06**2, rel=0.08)
    b, a = found.items.b, found.items.a
    assert intercepts.var(axis=0) == pytest.approx(a**2 * 0.05**2 + b**2 * 0.06**2 + 2 * a * b * 0.001, rel=0.08)
    _, held = next(draw_parameters(found.estimates, found.cov, 2, found.items, None, 1))
    assert held.a.tolist() == a.tolist()


def test_pooled_means_and_sds_agree_with_the_regression(
    survey: tuple[irt.Responses, list[str], irt.LatentRegression],
) -> None:
    """Both estimate the same population, here with 40 sets instead of 10, so that the draws hardly count.

    The estimates differ by 1/√40 of the between-set error. The standard errors contain a variance between sets with 39
    and one between persons with 64 degrees of freedom, so their own error is at most 11 %.
    """
    x, country, _ = survey
    found = irt.latent_regression(x, survey[2].items, groups=country)
    values = found.plausible_values(40, 3)
    for statistic, name in (("mean", "mean"), ("sd", "sd")):
        pooled = values.pooled(statistic, by=country)  # type: ignore[arg-type]
        right = [getattr(group, name) for group in found.populations]
        errors = np.array([getattr(group, f"{name}_se") for group in found.populations])
        assert np.abs(pooled["estimate"] - right).max() < 0.4 * errors.min()
        assert pooled["se"].to_numpy() == pytest.approx(errors, rel=0.33)


def test_values_depend_on_the_person_and_the_seed_alone(
    survey: tuple[irt.Responses, list[str], irt.LatentRegression],
) -> None:
    found = survey[2]
    first = found.plausible_values(3, 7, threads=1)
    assert first == found.plausible_values(3, 7, threads=2)
    assert np.array_equal(first.values, found.plausible_values(5, 7).values[:, :3])
    assert abs(np.corrcoef(first.values[:, 0], found.plausible_values(1, 8).values[:, 0])[0, 1]) < 0.9
    assert irt.PlausibleValues.from_json(first.to_json()) == first


def test_order_of_persons_changes_nothing_but_rounding() -> None:
    items, names = logistic(8), [f"p{k}" for k in range(300)]
    rng = np.random.default_rng(1)
    scores = rng.random((300, 8)) < items.curve(rng.standard_normal(300))
    order = rng.permutation(300)

    def values(rows: Ints) -> Floats:
        columns = {item: scores[rows, j].astype(int) for j, item in enumerate(items.item_ids)}
        x = irt.Responses.from_wide({"who": [names[k] for k in rows], **columns}, person="who")
        return irt.latent_regression(x, items).plausible_values(4, 9).values

    assert values(order) == pytest.approx(values(np.arange(300))[order], abs=1e-5)


def test_weights_and_clusters_go_along(survey: tuple[irt.Responses, list[str], irt.LatentRegression]) -> None:
    x, _, plain = survey
    weights, school = np.random.default_rng(5).uniform(1, 3, 1500), np.arange(1500) // 30
    found = irt.latent_regression(x, plain.items, sampling_weights=weights, clusters=[*school]).plausible_values(2, 1)
    frame = found.to_frame("pandas")
    assert frame.columns.tolist() == ["person", "PV1", "PV2", "weight", "cluster"]
    assert frame["weight"].tolist() == weights.tolist()
    right = np.mean([np.average(v, weights=weights) for v in found.values.T])
    assert found.pooled()["estimate"][0] == pytest.approx(right, rel=1e-12)
    assert found.pooled()["df"][0] < 25  # 50 schools make 25 pairs


def test_bad_requests_are_explained(survey: tuple[irt.Responses, list[str], irt.LatentRegression]) -> None:
    found = survey[2]
    with pytest.raises(irt.PsychometricsError, match="n must be at least 1, got 0"):
        found.plausible_values(0)
    stopped = replace(found, convergence=replace(found.convergence, converged=False, reason="stopped"))
    with pytest.raises(irt.PsychometricsError, match="converged: stopped"):
        stopped.plausible_values()


def test_items_estimated_with_the_regression_give_the_same_errors() -> None:
    """The errors of γ contain the errors of the items, and so do the errors of the pooled difference of means."""
    rng, group = np.random.default_rng(1), np.repeat(["a", "b"], [400, 600])
    x = irt.simulate_responses(logistic(8), rng.standard_normal(1000) + 0.5 * (group == "b"), random_state=1)
    found = irt.latent_regression(x, covariates={"g": group}, model="2pl")
    pooled = found.plausible_values(40, 2).pooled("mean", by=group, reference="a")
    assert abs(pooled["estimate"][0] - found.coefficients[1]) < 0.4 * found.se[1]
    assert pooled["se"][0] == pytest.approx(found.se[1], rel=0.33)  # as in the test above
