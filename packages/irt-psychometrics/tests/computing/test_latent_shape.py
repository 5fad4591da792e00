"""Choice of the distribution of θ, detection of guessing, and errors of histograms, in simulations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit, ndtr

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.options import Latent, Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dif.analysis import Dif
from irt_psychometrics.estimation import standard_errors
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.guessing import guessed_items, one_step_guessing
from irt_psychometrics.estimation.latent_shape import GUESSING_GAIN, HISTOGRAM_GAIN, Shape, draw_learners
from psychometrics_testbed.made_anchors import anchor_set_of
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE


def skewed(degrees: int, persons: int, rng: np.random.Generator) -> Floats:
    """χ² with mean 0 and SD 1."""
    return (rng.chisquare(degrees, persons) - degrees) / np.sqrt(2 * degrees)


def answers(theta: Floats, a: Floats, b: Floats, rng: np.random.Generator, guessing: float = 0.0) -> Responses:
    p = guessing + (1 - guessing) * expit(a * (theta[:, None] - b))
    return Responses.from_wide((rng.random(p.shape) < p).astype(float))


def bank(items: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    return np.exp(rng.normal(0.1, 0.3, items)), rng.normal(0, 1, items)


def fit(some: Responses, model: Model, latent: Latent, **options: Any) -> Calibration:
    return fit_em(some, model=model, latent=latent, **options)


@WHERE_STATISTICS_CHANGE
def test_only_a_normal_theta_is_fitted_if_normality_is_not_rejected() -> None:
    rng = np.random.default_rng(1)
    made: list[tuple[Model, Latent]] = []

    def counted(some: Responses, model: Model, latent: Latent, **options: Any) -> Calibration:
        made.append((model, latent))
        return fit(some, model, latent, **options)

    responses = answers(rng.normal(size=2000), *bank(40, rng), rng)
    calibration, shape = Shape.fit(counted, responses, "2pl", "auto")
    assert made == [("2pl", "normal")]
    assert (shape.latent, shape.guessing, shape.compared) == ("normal", False, ())
    assert "a normal θ is not rejected" in shape.why
    assert calibration.populations[0].nodes == ()


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("sign", [1, -1])
def test_skewed_theta_is_fitted_by_a_histogram_and_not_reported_as_guessing(sign: int) -> None:
    rng = np.random.default_rng(2)
    responses = answers(sign * skewed(4, 2000, rng), *bank(40, rng), rng)
    calibration, shape = Shape.fit(fit, responses, "2pl", "auto")
    assert (shape.latent, shape.guessing, shape.learners) == ("histogram", False, 2000)
    assert shape.histogram_gain > HISTOGRAM_GAIN
    assert (calibration.model, len(calibration.populations[0].nodes)) == ("2pl", 61)
    assert {(one.model, one.latent) for one in shape.compared} >= {
        (model, latent) for model in ("2pl", "3pl") for latent in ("normal", "histogram")
    }


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("shape_of_theta", ["normal", "skewed"])
def test_guessing_is_detected_if_theta_is_normal_or_skewed(shape_of_theta: str) -> None:
    """A normal θ with guessing keeps its normal distribution."""
    rng = np.random.default_rng(3)
    theta = rng.normal(size=2000) if shape_of_theta == "normal" else skewed(4, 2000, rng)
    calibration, shape = Shape.fit(fit, answers(theta, *bank(40, rng), rng, guessing=0.2), "2pl", "auto")
    latent = "normal" if shape_of_theta == "normal" else "histogram"
    assert (shape.guessing, calibration.model, shape.latent) == (True, "2pl", latent)
    assert shape.guessing_gain > GUESSING_GAIN
    assert "learners guess" in shape.why


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("shape_of_theta", ["normal", "skewed"])
def test_3pl_has_a_histogram_and_no_report_of_guessing_for_any_shape(shape_of_theta: str) -> None:
    rng = np.random.default_rng(4)
    theta = rng.normal(size=2000) if shape_of_theta == "normal" else skewed(4, 2000, rng)
    _, shape = Shape.fit(fit, answers(theta, *bank(40, rng), rng, guessing=0.2), "3pl", "auto")
    assert (shape.guessing, shape.latent) == (False, "histogram")


@WHERE_STATISTICS_CHANGE
def test_histogram_is_chosen_if_theta_of_a_rasch_scale_is_skewed() -> None:
    rng = np.random.default_rng(5)
    _, b = bank(30, rng)
    responses = answers(1.5 * skewed(4, 2000, rng), np.ones(30), b, rng)
    calibration, shape = Shape.fit(fit, responses, "rasch", "auto")
    assert shape.latent == "histogram"
    assert np.all(calibration.a == 1)
    sd = calibration.populations[0]
    assert abs(sd.sd - 1.5) < 3 * sd.sd_se  # in the unit of the items; its error counts the histogram as estimated


@WHERE_STATISTICS_CHANGE
def test_learners_at_chance_level_do_not_stretch_the_histogram_of_a_3pl() -> None:
    """10 months with skewness −.35 and mean −.43: with the penalties of a 2PL's histogram, the estimate of the skewness
    was −.7 on average, with an SD of .35."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng([19, seed])
        a, b = bank(40, rng)
        theta = -0.43 - 1.08 * (rng.gamma(32.65, size=2000) - 32.65) / np.sqrt(32.65)
        population = fit(answers(theta, a, b, rng, guessing=0.2), "3pl", "histogram").populations[0]
        found.append(np.array(population.weights) @ np.array(population.nodes) ** 3)
    # The SD of an estimate is .11.
    assert np.mean(found) == pytest.approx(-0.35, abs=3 * 0.11 / np.sqrt(10))


def flat_month(seed: int, learners: int = 2000) -> tuple[Responses, Responses]:
    """Answers to the same 40 items in an origin with a normal θ, and in a month with a uniform θ, mean −.5, SD 1.2."""
    rng = np.random.default_rng([21, seed])
    a = rng.uniform(0.6, 1.8, 40)
    b = np.where(rng.random(40) < 0.5, rng.normal(-0.8, 0.5, 40), rng.normal(0.8, 0.6, 40))
    flat = rng.uniform(-np.sqrt(3), np.sqrt(3), learners)
    origin, month = (answers(theta, a, b, rng, guessing=0.2) for theta in (rng.normal(size=learners), 1.2 * flat - 0.5))
    return origin, month


@WHERE_STATISTICS_CHANGE
def test_the_histogram_of_a_3pl_keeps_the_edges_of_a_flat_theta() -> None:
    """Excess kurtosis is −1.2. Over 5 months its estimate is −.92 on average, with an SD of .07 for one month. With a
    larger penalty on roughness it was −.74, and the slope of the month was too large."""
    found = []
    for seed in range(5):
        _, month = flat_month(seed)
        population = fit(month, "3pl", "histogram").populations[0]
        found.append(np.array(population.weights) @ np.array(population.nodes) ** 4 - 3)
    assert np.mean(found) < -0.85


@WHERE_STATISTICS_CHANGE
def test_the_histogram_of_a_3pl_keeps_the_skewness_of_theta() -> None:
    """Skewness is 1.41. Over 5 months its estimate is 1.18 on average, with an SD of .09 for one month. With a larger
    penalty on roughness, and one on upper tails, it was .97."""
    found = []
    for seed in range(5):
        rng = np.random.default_rng([23, seed])
        theta = skewed(4, 2000, rng)
        population = fit(answers(theta, *bank(40, rng), rng, guessing=0.2), "3pl", "histogram").populations[0]
        found.append(np.array(population.weights) @ np.array(population.nodes) ** 3)
    assert np.mean(found) > 1.1


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize(("shape_of_theta", "guessing"), [("skewed", 0.0), ("normal", 0.2)])
def test_compared_fits_reach_the_maxima_of_separate_fits(shape_of_theta: str, guessing: float) -> None:
    """Fits of a comparison start from earlier fits and end if a step promises less than 1e-5. Because of the priors
    and the roughness penalty, the log-likelihood itself is then within .05 of its value at the maximum, many times the
    root of 1e-5. A different maximum would be whole units away."""
    rng = np.random.default_rng(12)
    theta = rng.normal(size=1500) if shape_of_theta == "normal" else skewed(4, 1500, rng)
    responses = answers(theta, *bank(30, rng), rng, guessing)
    calibration, shape = Shape.fit(fit, responses, "2pl", "auto")
    assert len(shape.compared) == 5
    for one in shape.compared:
        alone = fit(responses, one.model, one.latent, likelihood_only=True)
        assert one.loglik == pytest.approx(alone.convergence.loglik, abs=0.05)
        assert (one.n_parameters, one.converged) == (alone.convergence.n_parameters, True)
    alone = fit(responses, "2pl", shape.latent)
    # Both have converged: no step above 1e-5 and no gradient above 1e-5 standard errors are left.
    np.testing.assert_allclose(calibration.a, alone.a, atol=1e-4)
    np.testing.assert_allclose(calibration.d, alone.d, atol=1e-4)
    np.testing.assert_allclose(calibration.a_se, alone.a_se, rtol=1e-4)


@WHERE_STATISTICS_CHANGE
def test_standard_errors_are_computed_only_for_candidates_of_the_result() -> None:
    rng = np.random.default_rng(13)
    made: dict[tuple[Model, Latent], Calibration] = {}

    def kept(some: Responses, model: Model, latent: Latent, **options: Any) -> Calibration:
        made[model, latent] = fit(some, model, latent, **options)
        return made[model, latent]

    calibration, _ = Shape.fit(kept, answers(skewed(4, 1500, rng), *bank(30, rng), rng), "2pl", "auto")
    assert calibration is made["2pl", "histogram"]
    assert {key for key, one in made.items() if np.isfinite(one.a_se).all()} == {
        ("2pl", "normal"),
        ("2pl", "histogram"),
    }
    assert all(np.isnan(made[key].a_se).all() for key in (("1pl", "normal"), ("3pl", "normal"), ("3pl", "histogram")))
    assert made["3pl", "histogram"].joint_cov is None


def mixed(learners: int, items: int, rng: np.random.Generator) -> tuple[Responses, set[str]]:
    """Answers with c = .2 in three of ten items and a normal θ; also the names of the items with c > 0."""
    c = np.where(np.arange(items) % 10 < 3, 0.2, 0.0)
    a, b = bank(items, rng)
    p = c + (1 - c) * expit(a * (rng.normal(size=(learners, 1)) - b))
    responses = Responses.from_wide((rng.random(p.shape) < p).astype(float))
    return responses, {item for item, guessed in zip(responses.item_ids, c > 0, strict=True) if guessed}


@WHERE_STATISTICS_CHANGE
def test_few_guessable_items_are_detected_among_many() -> None:
    """The guessed items are too few to make θ look skewed, so no 3PL is compared."""
    responses, guessable = mixed(2000, 150, np.random.default_rng([15, 4]))
    calibration, shape = Shape.fit(fit, responses, "2pl", "auto")
    assert "a normal θ is not rejected" in shape.why
    assert (shape.latent, shape.guessing) == ("normal", True)
    named = guessed_items(responses, fit(responses, "2pl", "histogram", start=calibration))
    assert 1 < len(named) <= 5
    assert set(named) <= guessable
    assert f"; learners guess: score tests find c > 0 (q < 0.01) in {len(named)} items: {', '.join(named)}" in shape.why


@WHERE_STATISTICS_CHANGE
def test_one_step_estimates_of_guessing_match_sums_of_scores_over_learners() -> None:
    rng = np.random.default_rng(16)
    responses = answers(rng.normal(size=500), *bank(8, rng), rng, guessing=0.1)
    calibration = fit_em(responses)
    c, se = one_step_guessing(responses, calibration)
    theta = np.linspace(-6, 6, 241)
    x = responses.score.reshape(500, 8)
    p = expit(calibration.a * theta[:, None] + calibration.d)
    post = np.exp(np.log(p) @ x.T + np.log(1 - p) @ (1 - x.T) - theta[:, None] ** 2 / 2)
    post /= post.sum(axis=0)
    for j in range(8):
        of_c = np.where(x[:, j] == 1, ((1 - p[:, j]) / p[:, j]) @ post, -1.0)
        residuals = (x[:, j] - p[:, [j]]) * post
        of_own = np.stack([theta @ residuals, residuals.sum(axis=0)])
        explained = np.linalg.lstsq(of_own.T, of_c, rcond=None)[0]
        left = of_c - explained @ of_own
        # The rules of 61 and 241 nodes differ by less than 1e-6; differences of sums keep six digits.
        assert c[j] == pytest.approx(left.sum() / (left @ left), rel=1e-4)
        assert se[j] == pytest.approx(1 / np.sqrt(left @ left), rel=1e-4)


@WHERE_STATISTICS_CHANGE
def test_guessing_is_tested_only_if_there_are_at_least_300_learners() -> None:
    rng = np.random.default_rng(17)
    responses = answers(rng.normal(size=900), *bank(40, rng), rng, guessing=0.25)
    _, shape = Shape.fit(fit, responses, "2pl", "auto")
    assert (shape.latent, shape.guessing) == ("normal", True)
    assert "; learners guess: " in shape.why
    _, shape = Shape.fit(fit, draw_learners(responses, 299), "2pl", "auto")
    assert not shape.guessing
    assert shape.why.endswith("; guessing was not tested: 300 learners are needed, there are 299")


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("shape_of_theta", ["normal", "skewed"])
def test_guessing_is_not_reported_if_c_is_0(shape_of_theta: str) -> None:
    """5 months per shape; guessing is reported in at most one of a hundred months."""
    for seed in range(5):
        rng = np.random.default_rng([18, seed])
        theta = rng.normal(size=800) if shape_of_theta == "normal" else skewed(4, 800, rng)
        _, shape = Shape.fit(fit, answers(theta, *bank(30, rng), rng), "2pl", "auto")
        assert not shape.guessing, shape.why


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize(("curve", "seed"), [("normal ogive", 25), ("complementary log-log", 1)])
def test_curves_that_are_not_logistic_are_not_reported_as_guessing(curve: str, seed: int) -> None:
    """10,000 × 60 answers with c = 0 for which score tests or a 3PL nevertheless indicate guessing."""
    rng = np.random.default_rng([21, seed])
    a = rng.uniform(0.6, 1.9, 60)
    b = np.where(rng.random(60) < 0.6, rng.normal(-0.6, 0.7, 60), rng.normal(1.0, 0.5, 60))
    z = a * (rng.normal(size=(10_000, 1)) - b)
    p = ndtr(z / 1.702) if curve == "normal ogive" else -np.expm1(-np.exp(0.8 * z - 0.37))
    _, shape = Shape.fit(fit, Responses.from_wide((rng.random(p.shape) < p).astype(float)), "2pl", "auto")
    assert "; the items' curve does not fit: " in shape.why
    assert "a complementary log-log curve" in shape.why
    assert not shape.guessing
    assert {one.model for one in shape.compared} <= {"1pl", "2pl", "3pl"}


@WHERE_STATISTICS_CHANGE
def test_theta_stays_normal_with_a_reason_if_learners_are_few() -> None:
    rng = np.random.default_rng(6)
    responses = answers(skewed(2, 900, rng), *bank(30, rng), rng)
    _, shape = Shape.fit(fit, responses, "2pl", "auto")
    assert "900 learners do not determine its shape, 1,000 are needed" in shape.why
    _, forced = Shape.fit(fit, responses, "2pl", "histogram")
    assert (shape.latent, forced.latent) == ("normal", "histogram")
    assert "900 learners do not determine its shape" in forced.why


@WHERE_STATISTICS_CHANGE
def test_sample_drawn_for_comparing_fits_is_always_the_same() -> None:
    rng = np.random.default_rng(7)
    responses = answers(rng.normal(size=500), *bank(10, rng), rng)
    some = draw_learners(responses, 200)
    assert (some.n_persons, some.item_ids, some.n_responses) == (200, responses.item_ids, 2000)
    assert np.array_equal(some.person, draw_learners(responses, 200).person)
    assert draw_learners(responses, 500) is responses


@WHERE_STATISTICS_CHANGE
def test_effective_parameters_of_a_histogram_match_its_gain_if_theta_is_normal() -> None:
    """20 data sets of 1500 learners: 2Δ log L has the mean of χ² with as many degrees of freedom as there are effective
    parameters, with a standard error of about √(2·6/20) = .8."""
    gains, effective_df = [], []
    for seed in range(20):
        rng = np.random.default_rng([11, seed])
        responses = answers(rng.normal(size=1500), *bank(20, rng), rng)
        normal, histogram = (fit_em(responses, latent=latent).convergence for latent in ("normal", "histogram"))
        gains.append(2 * (histogram.loglik - normal.loglik))
        effective_df.append(histogram.n_parameters - normal.n_parameters)
    assert set(effective_df) <= {4, 5, 6, 7, 8}
    assert abs(np.mean(gains) - np.mean(effective_df)) < 3 * 0.8


@WHERE_STATISTICS_CHANGE
@pytest.mark.ci
def test_errors_under_a_histogram_include_the_errors_of_the_weights() -> None:
    """Means of 20 items' ln a over 60 samples: SD and reported error agree within 25 %, which is 2.7 standard errors of
    an SD of 60. With known weights the error was two thirds of the SD."""
    means, reported = [], []
    a, b = bank(20, np.random.default_rng(8))
    for seed in range(60):
        rng = np.random.default_rng([8, seed])
        found = fit_em(answers(skewed(4, 1500, rng), a, b, rng), latent="histogram")
        assert found.convergence.converged, found.convergence.reason
        by_slope = np.zeros(40)
        by_slope[::2] = 1 / (20 * found.a)
        means.append(np.log(found.a).mean())
        reported.append(np.sqrt(by_slope @ found.joint_cov @ by_slope))
    assert np.mean(reported) == pytest.approx(np.std(means, ddof=1), rel=0.25)


@WHERE_STATISTICS_CHANGE
def test_sound_items_are_not_flagged_if_groups_differ_in_the_shape_of_theta() -> None:
    """12 comparisons of a normal and a skewed group of 2000 learners each: 5 % of the items' p-values are below .05,
    with a standard error of 1 %. If both groups were fitted with normal distributions, it would be 8 %."""
    beyond = []
    for seed in range(12):
        rng = np.random.default_rng([10, seed])
        a, b = bank(40, rng)
        theta = np.concatenate([rng.normal(size=2000), skewed(4, 2000, rng) - 0.5])
        groups = ["large"] * 2000 + ["other"] * 2000
        dif = Dif.from_responses("lang", answers(theta, a, b, rng), groups, latent="histogram")
        beyond.append(np.mean(dif.wald.p < 0.05))
    assert np.mean(beyond) < 0.05 + 3 * 0.01


@WHERE_STATISTICS_CHANGE
def test_anchors_are_refused_if_their_covariance_has_a_different_size() -> None:
    one = np.ones(2)
    with pytest.raises(PsychometricsError, match=r"covariance has shape \(1, 2, 2\), there are 2 items"):
        anchor_set_of("s", "1", ("x", "y"), one, one, 0 * one, one, one, 0 * one, (None,) * 2, one > 2, np.eye(2))


# -- edges -------------------------------------------------------------------------------------------
# Histograms of θ from few learners, and from learners with weight zero.

COUNTED = 1000


def skewed_answers(persons: int) -> Floats:
    """Persons × items, θ of χ² with 4 degrees of freedom, mean 0 and SD 1."""
    rng = np.random.default_rng(1)
    a, b = np.exp(rng.normal(0.1, 0.3, 20)), rng.normal(0, 1, 20)
    theta = (rng.chisquare(4, persons) - 4) / np.sqrt(8)
    return (rng.random((persons, 20)) < expit(a * (theta[:, None] - b))).astype(float)


def test_learners_with_weight_zero_do_not_change_a_histogram() -> None:
    answers = skewed_answers(COUNTED + 500)
    weights = np.r_[np.ones(COUNTED), np.zeros(500)]
    weighted = fit_em(Responses.from_wide(answers), latent="histogram", weights=weights)
    without = fit_em(Responses.from_wide(answers[:COUNTED]), latent="histogram")
    assert weighted.n_persons == COUNTED
    # The sums are over the same persons, in chunks of different size: they differ only by rounding.
    assert np.allclose(weighted.a, without.a, rtol=1e-9)
    assert np.allclose(weighted.populations[0].weights, without.populations[0].weights, rtol=1e-6, atol=1e-12)
    assert np.allclose(weighted.a_se, without.a_se, rtol=1e-6)


def test_fit_is_refused_if_all_weights_are_zero() -> None:
    responses = Responses.from_wide(skewed_answers(200))
    with pytest.raises(PsychometricsError, match="weights of all 200 persons are 0"):
        fit_em(responses, latent="histogram", weights=np.zeros(200))


def test_histogram_of_a_group_is_refused_if_all_its_weights_are_zero() -> None:
    responses = Responses.from_wide(skewed_answers(600))
    with pytest.raises(PsychometricsError, match=r"too few for an ability distribution of their own: late \(0\)"):
        fit_em(
            responses,
            latent="histogram",
            groups=["early"] * 400 + ["late"] * 200,
            weights=np.r_[np.ones(400), np.zeros(200)],
        )


def test_requested_histogram_of_few_learners_is_fitted_with_a_warning() -> None:
    calibration, shape = Shape.fit(fit, Responses.from_wide(skewed_answers(50)), "2pl", "histogram")
    assert calibration.convergence.converged
    assert shape.why == "θ is taken as a histogram, as requested; 50 learners do not determine its shape"
    (population,) = calibration.populations
    assert min(population.weights) >= 0
    assert sum(population.weights) == pytest.approx(1.0)
    assert (population.mean, population.sd) == (pytest.approx(0.0, abs=1e-9), pytest.approx(1.0, abs=1e-9))


def test_histogram_is_the_same_if_the_bank_is_too_large_for_a_full_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both algorithms end at the same maximum, with steps below 1e-5 and thus within 1e-3 of the maximum."""
    responses = Responses.from_wide(skewed_answers(1500))
    whole = fit_em(responses, latent="histogram")
    monkeypatch.setattr(standard_errors, "FULL_COVARIANCE_ITEMS", 5)
    by_blocks = fit_em(responses, latent="histogram")
    assert by_blocks.convergence.converged, by_blocks.convergence.reason
    assert by_blocks.joint_cov is None
    np.testing.assert_allclose(by_blocks.a, whole.a, atol=1e-3)
    np.testing.assert_allclose(by_blocks.d, whole.d, atol=1e-3)
    assert np.all(by_blocks.a_se < whole.a_se)  # the blocks count the weights as known
