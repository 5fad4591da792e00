"""Weights: counts against repeated rows and R mirt, sampling weights against brute force and a simulated population."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

import irt_psychometrics as irt
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.options import Model
from irt_psychometrics.estimation import Flag, fit_em, standard_errors

Floats = npt.NDArray[np.float64]

PERSONS, ITEMS = 400, 8
NODES = np.linspace(-6, 6, 61)
SAME: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}
"""Tolerances. Repeated rows form runs of persons with the same items. Runs and single persons enter the observed
information by two series, each cut off at about 1e-5 of its value. Both fits stop within 1e-9 of a standard error."""


def answers(seed: int, persons: int = PERSONS, items: int = ITEMS, seen: float = 1.0) -> Floats:
    """Scores of persons with θ ~ N(0, 1) on items of a 2PL, with NaN for items not seen."""
    rng = np.random.default_rng(seed)
    a, b = np.exp(rng.normal(0.2, 0.3, items)), rng.normal(0, 1, items)
    theta = rng.normal(size=(persons, 1))
    x = (rng.random((persons, items)) < 1 / (1 + np.exp(-a * (theta - b)))).astype(float)
    x[rng.random(x.shape) > seen] = np.nan
    return x


def scored_answers(seed: int) -> Floats:
    """Scores 0, 1 and 2: sums of two answers each."""
    x = answers(seed, items=2 * ITEMS)
    return x[:, ::2] + x[:, 1::2]


def assert_same(one: Calibration, other: Calibration) -> None:
    for name in ("a", "d", "c", "cov"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), **SAME)
    for name in ("joint_cov", "further"):
        if getattr(other, name) is not None:
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), **SAME)
    np.testing.assert_array_equal(one.n, other.n)
    np.testing.assert_array_equal(one.n_correct, other.n_correct)
    assert one.flags == other.flags
    assert one.n_persons == other.n_persons
    assert one.convergence.converged == other.convergence.converged
    assert one.convergence.reason == other.convergence.reason
    assert one.convergence.n_parameters == other.convergence.n_parameters
    for value in ("aic", "bic"):
        assert getattr(one, value) == pytest.approx(getattr(other, value), abs=1e-6)
    for population, other_population in zip(one.populations, other.populations, strict=True):
        assert (population.name, population.n_persons) == (other_population.name, other_population.n_persons)
        own = (population.mean, population.sd, population.mean_se, population.sd_se)
        np.testing.assert_allclose(
            own, (other_population.mean, other_population.sd, other_population.mean_se, other_population.sd_se), **SAME
        )


# -- counts ------------------------------------------------------------------------------------------

ANCHORS = AnchorSet(
    item_ids=("i1", "i2"),
    a=np.array([1.0, 1.2]),
    b=np.array([0.2, -0.4]),
    c=np.zeros(2),
    cov=np.tile(0.01 * np.eye(2), (2, 1, 1)),
    scale_id="s",
    version="1",
    topics=(None, None),
    errors_assumed=np.zeros(2, dtype=bool),
)
REQUESTS: dict[str, dict[str, Any]] = {
    "rasch": {"model": "rasch"},
    "1pl": {"model": "1pl"},
    "2pl": {},
    "3pl": {"model": "3pl"},
    "histogram": {"latent": "histogram"},
    "anchors": {"anchors": ANCHORS},
    "testlets": {"testlets": {"i3": "t", "i4": "t"}},
    "gpcm": {"model": "gpcm"},
    "pcm with a histogram": {"model": "pcm", "latent": "histogram"},
    "rsm": {"model": "rsm"},
    "cloglog": {"model": "cloglog"},
}


@pytest.mark.parametrize("groups", [False, True], ids=["one group", "two groups"])
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_fit_with_counts_equals_the_fit_of_repeated_rows(request_: dict[str, Any], groups: bool) -> None:
    polytomous = request_.get("model") in ("gpcm", "pcm", "rsm")
    x, sizes = (scored_answers(1), np.full(ITEMS, 3)) if polytomous else (answers(1, seen=0.8), None)
    counts = np.random.default_rng(2).integers(0, 4, PERSONS)
    labels = np.where(np.arange(PERSONS) % 3 > 0, "north", "south")
    options = {**request_, "tolerance": 1e-9}
    repeated = np.repeat(labels, counts).tolist() if groups else None
    whole = fit_em(Responses.from_wide(np.repeat(x, counts, axis=0), None, sizes), groups=repeated, **options)
    named = labels.tolist() if groups else None
    assert_same(fit_em(Responses.from_wide(x, None, sizes), groups=named, weights=counts, **options), whole)


def test_fit_of_lsat7_patterns_matches_the_fit_of_1000_rows_and_mirt() -> None:
    folder = Path(os.environ.get("IRT_SHARED", Path(__file__).parents[5] / "shared")) / "reference"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    rows = np.genfromtxt(folder / "lsat7.csv", delimiter=",", skip_header=1)
    patterns, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(patterns) == 32
    fit = fit_em(Responses.from_wide(patterns), weights=counts, tolerance=1e-9)
    assert_same(fit, fit_em(Responses.from_wide(rows), tolerance=1e-9))
    mirt = json.loads((folder / "mirt_reference.json").read_text())["lsat7_2pl"]
    assert fit.convergence.loglik == pytest.approx(mirt["logLik"], abs=1e-4)
    assert fit.bic == pytest.approx(mirt["BIC"], abs=2e-4)
    for name, key in (("a", "a1"), ("d", "d")):
        found = [row[key] for row in mirt["slope_intercept"]]
        errors = [row[f"se_{key}"] for row in mirt["slope_intercept"]]
        np.testing.assert_allclose(getattr(fit, name), found, atol=1e-3)  # mirt stops at 1e-7 of an EM step
        places = {"a": 0, "d": 1}[name]
        np.testing.assert_allclose(np.sqrt(fit.cov[:, places, places]), errors, rtol=2e-3)  # Oakes' differences


@pytest.mark.parametrize("model", ["rasch", "2pl"])
def test_public_fit_by_weights_equals_the_fit_of_repeated_rows(model: Literal["rasch", "2pl"]) -> None:
    x, counts = answers(11), np.random.default_rng(2).integers(0, 4, PERSONS)
    one = irt.fit(Responses.from_wide(x), model, weights=counts, tolerance=1e-9)
    whole = irt.fit(Responses.from_wide(np.repeat(x, counts, axis=0)), model, tolerance=1e-9)
    assert_same(one.calibration, whole.calibration)
    assert one.reliability == pytest.approx(whole.reliability, rel=1e-9)
    np.testing.assert_allclose(
        np.repeat(one.person_log_likelihood, counts), whole.person_log_likelihood, rtol=1e-7, atol=1e-7
    )


def test_comparison_of_weighted_fits_equals_the_comparison_of_repeated_rows() -> None:
    x, counts = answers(12), np.random.default_rng(2).integers(1, 4, PERSONS)
    rows, repeated = Responses.from_wide(x), Responses.from_wide(np.repeat(x, counts, axis=0))
    mixed: dict[str, Model] = {item: "1pl" if j < 4 else "2pl" for j, item in enumerate(rows.item_ids)}
    other: dict[str, Model] = {item: "2pl" if j < 4 else "1pl" for j, item in enumerate(rows.item_ids)}
    one = irt.compare(irt.fit(rows, mixed, weights=counts), irt.fit(rows, other, weights=counts))
    whole = irt.compare(irt.fit(repeated, mixed), irt.fit(repeated, other))
    assert one.test == whole.test == "Vuong"
    assert one.statistic == pytest.approx(whole.statistic, abs=1e-4)
    with pytest.raises(PsychometricsError, match="different responses or weights"):
        irt.compare(irt.fit(rows, mixed, weights=counts), irt.fit(rows, other))


def test_sampling_weights_give_robust_errors_that_are_not_compared() -> None:
    x, weights = Responses.from_wide(answers(13)), np.random.default_rng(3).uniform(0.5, 4, PERSONS)
    f = irt.fit(x, sampling_weights=weights)
    assert_same(f.calibration, fit_em(x, sampling_weights=weights))
    with pytest.raises(PsychometricsError, match="sampling_weights cannot be compared"):
        irt.compare(irt.fit(x, "1pl", sampling_weights=weights), f)


def test_fit_statistics_and_the_choice_of_a_distribution_reject_weights() -> None:
    x = Responses.from_wide(answers(14))
    with pytest.raises(PsychometricsError, match="count each person once"):
        irt.fit(x, weights=np.ones(PERSONS)).fit_statistics(x)
    with pytest.raises(PsychometricsError, match="without groups, anchors and weights"):
        irt.fit(x, latent="auto", sampling_weights=np.ones(PERSONS))


def test_persons_with_a_count_of_0_do_not_change_flags() -> None:
    x = answers(3)
    x[:, 1] = x[:, 0]
    x[-1, :2] = 0.0, 1.0
    counts = np.r_[np.ones(PERSONS - 1), 0.0]
    fit = fit_em(Responses.from_wide(x), weights=counts)
    assert Flag.DUPLICATE in fit.flags[1]
    assert fit.flags == fit_em(Responses.from_wide(x[:-1])).flags


def test_unrelated_answers_with_counts_are_refused_like_repeated_rows() -> None:
    """Shuffles permute answers of single persons; a pattern represents many persons."""
    rng = np.random.default_rng(4)
    rows = (rng.random((600, 5)) < 0.5).astype(float)
    patterns, counts = np.unique(rows, axis=0, return_counts=True)
    ordered = np.repeat(patterns, counts, axis=0)
    one, other = fit_em(Responses.from_wide(patterns), weights=counts), fit_em(Responses.from_wide(ordered))
    assert other.convergence.reason
    assert one.convergence.reason == other.convergence.reason


# -- sampling weights --------------------------------------------------------------------------------


def person_logliks(x: Floats, logs: Callable[[Floats], Floats], prior: Callable[[Floats], Floats]) -> Any:
    """Function of all parameters: log P of each person's answers (N,), from `logs` (J, C, Q) and `prior` (N, Q)."""
    item = np.arange(x.shape[1])

    def of(at: Floats) -> Floats:
        table, total = logs(at), prior(at).copy()
        for j in item:
            total += table[j][x[:, j].astype(int)]
        return np.logaddexp.reduce(total, axis=1)

    return of


def normal(mean: float, log_sd: float) -> Floats:
    density = -0.5 * ((NODES - mean) / np.exp(log_sd)) ** 2
    return density - np.logaddexp.reduce(density)


def sandwich(logliks: Callable[[Floats], Floats], at: Floats, weights: Floats) -> Floats:
    """A⁻¹BA⁻¹ by central differences of persons' log-likelihoods."""
    step = 1e-4 * np.eye(len(at))
    scores = np.stack([(logliks(at + e) - logliks(at - e)) / 2e-4 for e in step], axis=1)
    assert np.abs(weights @ scores).max() < 1e-2  # the fit's estimates are the maximum
    wide = 1e-3 * np.eye(len(at))

    def total(move: Floats) -> float:
        return float(weights @ logliks(at + move))

    hessian = np.array([[total(e + f) - total(e - f) - total(f - e) + total(-e - f) for f in wide] for e in wide])
    bread = np.linalg.inv(-hessian / 4e-6)
    meat = (weights[:, None] * scores).T @ (weights[:, None] * scores)
    return bread @ meat @ bread


def logistic(at: Floats) -> Floats:
    eta = at[0:10:2, None] * NODES + at[1:10:2, None]
    return np.stack([-np.logaddexp(0, eta), -np.logaddexp(0, -eta)], axis=1)


def test_errors_with_sampling_weights_match_the_sandwich_by_brute_force() -> None:
    """The second of two groups has its own mean and SD. Each person's log-likelihood and score are multiplied by the
    person's weight."""
    x = answers(5, persons=600, items=5)
    group = np.arange(600) % 2
    weights = np.random.default_rng(6).choice([1.0, 4.0], 600)
    groups = [str(g) for g in group]
    fit = fit_em(Responses.from_wide(x), groups=groups, reference="0", sampling_weights=weights, tolerance=1e-9)
    second = fit.populations[1]
    at = np.r_[np.stack([fit.a, fit.d], axis=1).ravel(), second.mean, np.log(second.sd)]
    logliks = person_logliks(x, logistic, lambda at: np.stack([normal(0, 0), normal(*at[10:])])[group])
    expected = sandwich(logliks, at, weights / weights.mean())
    # second differences of a sum of 2,000 terms keep 5 digits; scores on nodes have relative errors of 1e-5
    assert fit.joint_cov is not None
    np.testing.assert_allclose(fit.joint_cov, expected[:10, :10], rtol=2e-3, atol=2e-5)
    assert second.mean_se == pytest.approx(np.sqrt(expected[10, 10]), rel=1e-3)
    assert second.sd_se == pytest.approx(second.sd * np.sqrt(expected[11, 11]), rel=1e-3)
    assert fit.convergence.loglik == pytest.approx(weights @ logliks(at) / weights.mean(), abs=1e-6)


def test_errors_of_scored_items_with_sampling_weights_match_the_sandwich_by_brute_force() -> None:
    x = scored_answers(7)[:, :4]
    weights = np.random.default_rng(8).choice([1.0, 4.0], PERSONS)
    responses = Responses.from_wide(x, None, np.full(4, 3))
    fit = fit_em(responses, model="gpcm", sampling_weights=weights, tolerance=1e-9)
    assert fit.joint_cov is not None
    assert fit.further is not None

    def logs(at: Floats) -> Floats:
        a, d, t = at[0:8:2], at[1:8:2], at[8:]
        eta = a[:, None] * NODES + d[:, None]
        steps = np.stack([np.zeros_like(eta), eta + t[:, None], 2 * eta], axis=1)
        return steps - np.logaddexp.reduce(steps, axis=1, keepdims=True)

    at = np.r_[np.stack([fit.a, fit.d], axis=1).ravel(), fit.further[:, 1]]
    logliks = person_logliks(x, logs, lambda _: np.broadcast_to(normal(0, 0), (PERSONS, 61)))
    expected = sandwich(logliks, at, weights / weights.mean())
    np.testing.assert_allclose(fit.joint_cov, expected, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize(
    "options", [{"model": "3pl"}, {"model": "rasch"}, {"latent": "histogram"}, {"anchors": ANCHORS}]
)
def test_unit_of_sampling_weights_does_not_matter(options: dict[str, Any]) -> None:
    responses = Responses.from_wide(answers(9, seen=0.7))
    weights = np.random.default_rng(10).uniform(1, 5, PERSONS)
    one, other = (
        fit_em(responses, sampling_weights=unit * weights, tolerance=1e-9, **options) for unit in (1.0, 250.0)
    )
    assert one.n_persons == PERSONS
    assert_same(one, other)


def test_clusters_with_sampling_weights_are_summed_before_products() -> None:
    """Two rows of one learner, whose weighted scores are summed, count like one row with the summed weights."""
    x = answers(11)
    weights = np.random.default_rng(12).uniform(1, 5, PERSONS)
    once = fit_em(Responses.from_wide(x), sampling_weights=weights, tolerance=1e-9)
    learners = np.tile(np.arange(PERSONS), 2)
    both = Responses.from_wide(np.vstack([x, x]))
    twice = fit_em(both, sampling_weights=np.r_[weights, weights], learners=learners, tolerance=1e-9)
    np.testing.assert_allclose(twice.cov, once.cov, **SAME)


@pytest.mark.ci
def test_intervals_of_b_with_sampling_weights_contain_the_truth_at_the_stated_rate() -> None:
    """A population with θ ~ N(0, 1) has two strata that differ in ability; the abler stratum is sampled four times as
    often. Errors that treat weights as counts are too small: intervals contain the truth in 89 %."""
    replications, persons, items = 200, 2000, 20
    covered, by_counts = [], []
    for k in range(replications):
        rng = np.random.default_rng((7, k))
        a, b = np.exp(rng.normal(0, 0.3, items)), rng.normal(0, 1, items)
        theta = rng.normal(size=8 * persons)
        able = rng.normal(size=8 * persons) < 1.5 * theta
        taken = np.flatnonzero(rng.random(8 * persons) < np.where(able, 0.4, 0.1))[:persons]
        theta, weights = theta[taken], np.where(able[taken], 1.0, 4.0)
        x = (rng.random((persons, items)) < 1 / (1 + np.exp(-a * (theta[:, None] - b)))).astype(float)
        fit = fit_em(Responses.from_wide(x), sampling_weights=weights)
        assert fit.convergence.converged
        covered.append(np.abs(fit.b - b) < 1.96 * fit.b_se)
        fit = fit_em(Responses.from_wide(x), weights=weights / weights.mean())
        by_counts.append(np.abs(fit.b - b) < 1.96 * fit.b_se)
    assert 0.93 < np.mean(covered) < 0.97
    assert np.mean(by_counts) < 0.92


# -- refusals ----------------------------------------------------------------------------------------

BAD = np.ones(PERSONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": BAD, "sampling_weights": BAD}, "a fit accepts only one of them"),
        ({"weights": BAD[1:]}, "weights must be 400 numbers.*person 399 .* without a number"),
        ({"sampling_weights": BAD[:, None]}, r"sampling_weights must be 400 numbers.*\(400, 1\)"),
        ({"weights": np.r_[1.0, -2.0, BAD[2:]]}, "finite and not negative.*-2.0 of person 1 "),
        ({"weights": np.r_[BAD[3:], np.nan, 1, 1]}, "finite and not negative.*nan of person 397 "),
        ({"weights": 0 * BAD}, "weights of all 400 persons are 0, so the fit has no data"),
        ({"sampling_weights": np.r_[BAD[1:], 0.0]}, "above 0.*0.0 of person 399 "),
        ({"sampling_weights": np.r_[BAD[1:], np.inf]}, "above 0.*inf of person 399 "),
        ({"sampling_weights": BAD, "abilities_known": True}, "Leave out abilities_known"),
        ({"sampling_weights": BAD, "latent": "histogram", "groups": ["a", "b"] * 200}, "latent='normal'"),
        ({"sampling_weights": BAD, "latent": "histogram", "anchors": ANCHORS}, "latent='normal'"),
    ],
)
def test_invalid_weights_are_refused_with_the_person(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PsychometricsError, match=message):
        fit_em(Responses.from_wide(answers(13)), **options)


def test_robust_errors_are_refused_if_the_items_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_errors, "FULL_COVARIANCE_ITEMS", ITEMS - 1)
    responses = Responses.from_wide(answers(14))
    with pytest.raises(PsychometricsError, match="up to 7 items, and there are 8"):
        fit_em(responses, sampling_weights=BAD)
    assert fit_em(responses, sampling_weights=BAD, likelihood_only=True).convergence.converged
