"""The graded response model: fits against R mirt, derivatives and scores against direct computation, and recovery."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt
from irt_psychometrics.core.item_models import CountedScores, ItemCurves, OtherItems
from irt_psychometrics.core.model_families import GPCM, GRM
from irt_psychometrics.estimation import standard_errors
from irt_psychometrics.itemfit import person_fit
from irt_psychometrics.new_items import BankPrior, PersonPosteriors, estimate_new_items
from irt_psychometrics.scoring import score_kernels
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

NODES = np.linspace(-3, 3, 13)
CATEGORIES = np.array([4, 4, 3, 2])
PARAMETERS = np.array(
    [
        [1.0, 0.7, 1.3, 0.9],
        [0.3, -0.2, 0.5, 0.1],
        [0.0, -np.inf, 0.0, 0.0],
        [0.2, 0.0, -0.3, 0.0],
        [-0.5, 0.4, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
    ]
)
"""Items scored 0 … 3, 1 … 3, 0 … 2 and 0 … 1."""
FREE = GRM.free(CATEGORIES, np.array([[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]], dtype=bool))
MIRT_SCIENCE_SE = {
    "comfort": [0.1881942, 0.4904602, 0.2224658, 0.1585512],
    "work": [0.1816953, 0.2391973, 0.1428797, 0.2029853],
    "future": [0.4881679, 0.7363283, 0.3599703, 0.3250131],
    "benefit": [0.1831796, 0.2763642, 0.1404266, 0.168504],
}
"""Errors of a and d of each threshold by mirt 1.47, `mirt(Science, 1, "graded", SE.type = "Oakes", TOL = 1e-8)`."""
MIRT_SCOLD = (2.015107, 0.4067672, -1.661624), (0.2452513, 0.1835173, 0.2153821)
"""S1DoScold of the verbal aggression data by the same call: a, d of both thresholds, and their errors."""


def numbers(path, drop: tuple[str, ...]) -> irt.Responses:
    frame = pd.read_csv(path).drop(columns=[*drop])
    return irt.Responses.from_wide(
        (frame - frame.min().min()).to_numpy(float), [*frame], max_score=int(np.ptp(frame.to_numpy()))
    )


def thresholds(fit: irt.Fit, item: str) -> tuple[np.ndarray, np.ndarray]:
    """An item's a and mirt's d of each threshold, with their errors by the delta method from b_k = −d_k/a."""
    table = fit.items.to_frame("pandas").set_index("item").loc[item]
    c, j = fit.calibration, fit.item_ids.index(item)
    m = int(c.n_categories[j]) - 1
    own = c.parameters[: 3 + m, j]

    def values(x: np.ndarray) -> np.ndarray:
        return np.array([x[0], *(-x[0] * GRM.steps(x)[0])])

    by = np.array([(values(own + h) - values(own - h)) / 2e-6 for h in 1e-6 * np.eye(own.size)]).T
    found = np.array([table["a"], *(-table["a"] * table[[f"b{k}" for k in range(1, m + 1)]])], dtype=float)
    return found, np.sqrt(np.diag(by @ c.cov[j][: own.size, : own.size] @ by.T))


def drawn(seed: int, learners: int, items: int, *, mean: float = 0.0, moved: int | None = None, truth=None, theta=None):
    """Answers scored 0 … 3, and the true parameters. The b of the item `moved` is .5 higher."""
    rng = np.random.default_rng(seed)
    if truth is None:
        a = np.exp(rng.normal(0.3, 0.25, items))
        w = np.log(rng.uniform(0.6, 1.6, (2, items)) * a)
        truth = np.vstack([a, -a * rng.normal(0, 0.7, items), np.zeros(items), w, np.zeros(items)])
    now = truth.copy()
    if moved is not None:
        now[1, moved] -= 0.5 * now[0, moved]
    theta = rng.normal(mean, 1, learners) if theta is None else theta
    p = GRM.probabilities(theta, now, np.full(items, 4))
    x = (rng.random((items, learners, 1)) > np.cumsum(p, axis=2)).sum(axis=2).T
    return irt.Responses.from_wide(x.astype(float), [f"i{k}" for k in range(items)], max_score=3), truth


@pytest.fixture(scope="module")
def world():
    x, truth = drawn(1, 1500, 12)
    return x, truth, irt.fit(x, "grm")


# -- the curves ----------------------------------------------------------------------------------------------------


def test_probabilities_are_differences_of_logistic_curves() -> None:
    """P(X ≥ k) = 1/(1 + exp(−a(θ − b_k))) with thresholds whose mean is b (Samejima 1969)."""
    p = GRM.probabilities(NODES, PARAMETERS, CATEGORIES)
    steps, _ = GRM.steps(PARAMETERS[:, 0])
    at_least = 1 / (1 + np.exp(-PARAMETERS[0, 0] * (NODES[:, None] - steps)))
    np.testing.assert_allclose(p[0][:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:], at_least, rtol=1e-12)
    np.testing.assert_allclose(steps.mean(), -PARAMETERS[1, 0] / PARAMETERS[0, 0])
    np.testing.assert_allclose(p.sum(axis=2), 1, rtol=1e-12)
    assert not p[1, :, 0].any()
    np.testing.assert_allclose(p[3, :, 1], 1 / (1 + np.exp(-0.9 * NODES - 0.1)))


def test_derivatives_agree_with_differences() -> None:
    has = np.isfinite(GRM.log_probabilities(NODES, PARAMETERS, CATEGORIES))

    def logs(theta=NODES, parameters=PARAMETERS):
        return np.where(has, GRM.log_probabilities(theta, parameters, CATEGORIES), 0.0)

    by = GRM.by_parameters(NODES, PARAMETERS, CATEGORIES)
    for k, free in enumerate(FREE):
        step = np.zeros_like(PARAMETERS)
        step[k] = 1e-5
        slope = (logs(parameters=PARAMETERS + step) - logs(parameters=PARAMETERS - step)) / 2e-5
        np.testing.assert_allclose(by[k, free], slope[free], atol=1e-9)
    slope = (logs(NODES + 1e-5) - logs(NODES - 1e-5)) / 2e-5
    np.testing.assert_allclose(GRM.by_theta(NODES, PARAMETERS, CATEGORIES), slope, atol=1e-9)


@pytest.mark.parametrize("model", [GRM, GPCM], ids=lambda model: model.name)
def test_log_odds_of_other_programs_give_the_parameters(model) -> None:
    """Log odds at θ = 0 by probabilities, against the parameters; derivatives against differences."""
    for j, (n, free) in enumerate(zip(CATEGORIES, FREE.T, strict=True)):
        own = PARAMETERS[: 2 + n, j]
        p = model.probabilities(np.zeros(1), own[:, None], np.array([n]))[0, 0]
        has = p > 0
        at_least = p[::-1].cumsum()[::-1]
        with np.errstate(divide="ignore"):
            odds = at_least / (1 - at_least) if model is GRM else p / p[has][0]
            log_odds = np.where(has, np.log(odds), np.nan)
        log_odds[np.flatnonzero(has)[0]] = 0.0
        values, by = model.from_log_odds(log_odds)
        np.testing.assert_allclose(values, own[1:], atol=1e-12)
        inner = np.r_[True, free[2 : 2 + n]]
        for k in np.flatnonzero(has)[1:]:
            step = 1e-6 * np.eye(n)[k]
            moved = (
                model.from_log_odds(log_odds + step)[0][inner] - model.from_log_odds(log_odds - step)[0][inner]
            ) / 2e-6
            np.testing.assert_allclose(by[inner, k], moved, atol=1e-8)


def test_errors_of_steps_follow_from_their_derivatives() -> None:
    own = PARAMETERS[:, 0]
    by = np.array([(GRM.steps(own + h)[0] - GRM.steps(own - h)[0]) / 2e-6 for h in 1e-6 * np.eye(6)]).T
    np.testing.assert_allclose(GRM.steps(own)[1][:, [0, 1, 3, 4]], by[:, [0, 1, 3, 4]], atol=1e-8)


def test_variance_of_the_score_function_follows_from_errors_of_all_parameters() -> None:
    """The compiled derivatives of ∂ log P/∂θ, against differences, for every score of the items of three scores."""
    others = (OtherItems(GRM, np.arange(3), PARAMETERS[2:, :3], CATEGORIES[:3]),)
    a, b = PARAMETERS[0, :3], -PARAMETERS[1, :3] / PARAMETERS[0, :3]
    item, score = (np.array(x) for x in zip(*[(0, k) for k in range(4)], *[(2, k) for k in range(3)], strict=True))
    theta, rng = np.linspace(-1, 1, item.size), np.random.default_rng(3)
    roots = rng.normal(0, 0.1, (3, 6, 6)) * FREE.T[:3, :, None]
    cov = roots @ roots.swapaxes(1, 2)
    rows = ItemCurves(a, -a * b, np.zeros(3), others).score_rows
    out = np.empty((2, item.size))
    score_kernels.variances_of_scores(
        (item.astype(np.int32), score.astype(np.int8), theta), a, b, rows, CATEGORIES[:3], cov[:, :2, :2].copy(),
        cov[:, 2:].copy(), out,
    )  # fmt: skip
    for r, (j, k) in enumerate(zip(item, score, strict=True)):

        def slope(x, j=j, k=k, r=r):
            own = np.array([x[0], -x[0] * x[1], *x[2:]])[:, None]
            return GRM.by_theta(theta[r : r + 1], own, CATEGORIES[j : j + 1])[0, 0, k]

        x = np.array([a[j], b[j], *PARAMETERS[2:, j]])
        by = np.array([(slope(x + h) - slope(x - h)) / 2e-5 for h in 1e-5 * np.eye(6)]) * FREE[:, j]
        assert out[1, r] == pytest.approx(by @ cov[j] @ by, rel=1e-6)


# -- fits ----------------------------------------------------------------------------------------------------------


def test_science_agrees_with_mirt(shared) -> None:
    published = json.loads((shared / "data" / "reference_values.json").read_text())["published"]["science_grm"]
    fit = irt.fit(numbers(shared / "data" / "science_wide.csv", ("person",)), "grm")
    assert fit.calibration.convergence.loglik == pytest.approx(-1608.8694, abs=1e-4)
    assert fit.n_parameters == 16
    for j, (item, errors) in enumerate(MIRT_SCIENCE_SE.items()):
        found, se = thresholds(fit, item)
        np.testing.assert_allclose(found, [published["a"][j], *published["d"][j]], atol=published["tolerance"])
        np.testing.assert_allclose(se, errors, rtol=1e-4)


def test_verbal_aggression_agrees_with_mirt(shared) -> None:
    x = numbers(shared / "data" / "verbal_aggression_poly_wide.csv", ("person", "gender", "anger"))
    fit = irt.fit(x, "grm")
    assert fit.calibration.convergence.loglik == pytest.approx(-6285.8175, abs=1e-3)
    found, se = thresholds(fit, "S1DoScold")
    np.testing.assert_allclose(found, MIRT_SCOLD[0], atol=1e-5)
    np.testing.assert_allclose(se, MIRT_SCOLD[1], rtol=1e-4)


def test_intervals_contain_the_truth() -> None:
    """Pooled over a, b and both widths of 12 items in 12 samples. The binomial SE of the coverage is .9 %."""
    z = []
    for seed in range(12):
        x, truth = drawn(100 + seed, 1000, 12)
        fit = irt.fit(x, "grm").calibration
        assert fit.convergence.converged
        se = np.sqrt(np.einsum("jkk->kj", fit.cov))[[0, 1, 3, 4]]
        z.append((fit.parameters - truth)[[0, 1, 3, 4]] / se)
    assert 0.92 < (np.abs(z) < 1.96).mean() < 0.98


def test_robust_errors_of_equal_weights_are_close_to_those_of_the_information(world) -> None:
    """Both estimate the same errors if the model holds; with 1,500 persons they differ by a few percent."""
    x, _, fit = world
    robust = irt.fit(x, "grm", sampling_weights=np.full(x.n_persons, 2.0))
    np.testing.assert_allclose(robust.items.a_se, fit.items.a_se, rtol=0.15)


def test_errors_of_an_items_own_parameters_are_close_to_the_joint_ones(world, monkeypatch) -> None:
    """Only blocks are inverted if there are many parameters. They miss the errors that items share."""
    x, _, fit = world
    monkeypatch.setattr(standard_errors, "FULL_COVARIANCE_PARAMETERS", 10)
    found = irt.fit(x, "grm").items
    assert (found.a_se < 1.001 * fit.items.a_se).all()
    assert (found.a_se > 0.8 * fit.items.a_se).all()


def test_score_that_nobody_has_gets_no_threshold(world) -> None:
    """The item keeps its scores, and an answer with this score counts as the next lower one."""
    x, _, _ = world
    score = np.where((x.item == 2) & (x.score == 2), 1, x.score).astype(np.int8)
    fit = irt.fit(replace(x, score=score), "grm")
    assert fit.converged
    (some,) = fit.calibration.curves.others
    assert CountedScores.from_curves(fit.calibration.curves).table[2].tolist() == [0, 1, 1, 3]
    assert some.model.probabilities(NODES, fit.calibration.parameters, fit.calibration.n_categories)[2, :, 2].max() == 0
    assert np.isnan(fit.items.to_frame("pandas").loc[2, "b1"])


def test_graded_and_partial_credit_items_fit_together(world) -> None:
    x, _, alone = world
    models = {item: "grm" if k % 2 else "gpcm" for k, item in enumerate(x.item_ids)}
    fit = irt.fit(x, models)
    assert fit.converged
    assert fit.log_likelihood < alone.log_likelihood  # all items are graded
    odd = slice(1, None, 2)
    np.testing.assert_allclose(fit.calibration.a[odd], alone.calibration.a[odd], rtol=0.05)


def test_comparison_does_not_take_one_family_for_a_case_of_the_other(world) -> None:
    x, _, fit = world
    found = irt.compare(fit, irt.fit(x, "gpcm"))
    assert "Vuong" in repr(found)


@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_shape_of_theta_is_chosen_for_graded_items(shape: str) -> None:
    """χ²₄ has a skewness of 1.4. For normal θ a wrong choice has a probability of .01."""
    rng = np.random.default_rng(8)
    theta = rng.normal(0, 1, 1500) if shape == "normal" else (rng.chisquare(4, 1500) - 4) / np.sqrt(8)
    x, _ = drawn(8, 1500, 12, theta=theta)
    fit = irt.fit(x, "grm", latent="auto")
    assert fit.shape.latent == ("normal" if shape == "normal" else "histogram")
    assert fit.converged
    if shape == "skewed":
        assert fit.shape.normality.skewness_z > 5


# -- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["map", "ml", "wle", "jeffreys"])
def test_scores_are_roots_of_their_equations(world, method: str) -> None:
    """Against the sign changes of each equation on 40,001 nodes, with derivatives by differences."""
    x, _, fit = world
    c, theta = fit.calibration, np.linspace(-5, 5, 40_001)
    step = theta[1] - theta[0]
    p = GRM.probabilities(theta, c.parameters, c.n_categories)
    slopes = GRM.by_theta(theta, c.parameters, c.n_categories)
    first = p * slopes
    second = np.gradient(first, step, axis=1)
    information = (p * slopes**2).sum(axis=(0, 2))
    more = {
        "map": -theta,
        "ml": 0.0 * theta,
        "wle": (slopes * second).sum(axis=(0, 2)) / (2 * information),
        "jeffreys": np.gradient(information, step) / (2 * information),
    }[method]
    found, scores = fit.score(x, method=method), x.score.reshape(x.n_persons, -1)
    for i in range(5):
        equation = slopes[np.arange(12), :, scores[i]].sum(axis=0) + more
        (at,) = np.flatnonzero(np.diff(np.sign(equation)) < 0)
        root = theta[at] + step * equation[at] / (equation[at] - equation[at + 1])
        assert found.theta[i] == pytest.approx(root, abs=1e-5)


def test_person_fit_is_standard_normal_for_answers_by_the_model() -> None:
    """lz* of 60 items at the true parameters; mean and SD have errors of .02 and .016 with 2,000 persons."""
    x, truth = drawn(5, 2000, 60)
    others = (OtherItems(GRM, np.arange(60), truth[2:], np.full(60, 4)),)
    items = irt.ItemParameters(
        x.item_ids, truth[0], -truth[1] / truth[0], np.zeros(60), np.zeros((60, 2, 2)), others=others
    )
    found = person_fit(x, items)
    assert abs(found.lz.mean()) < 0.08
    assert abs(found.lz.std() - 1) < 0.06
    assert abs(found.outfit.mean() - 1) < 0.02


def test_distances_of_thresholds_in_a_bank_are_estimated(world) -> None:
    """Of 24 distances, uniform on [.6, 1.6]; the mean of their logarithms has an error of .06, their SD 15 %."""
    _, _, fit = world
    grid = np.log(np.linspace(0.6, 1.6, 10_001))
    found = BankPrior.from_items(fit).distance
    assert found.mean == pytest.approx(grid.mean(), abs=0.18)
    assert found.sd == pytest.approx(grid.std(), rel=0.45)


def test_errors_of_new_items_are_as_large_as_the_errors_made(world) -> None:
    """z of ln a, b and both distances of 30 new items; the RMS of 120 z has an error of .065, and 3 are allowed."""
    x, truth, fit = world
    rng = np.random.default_rng(11)
    theta = rng.normal(0, 1, 600)
    a, b, distances = np.exp(rng.normal(0.3, 0.25, 30)), rng.normal(0, 0.7, 30), rng.uniform(0.6, 1.6, (2, 30))
    new = np.vstack([a, -a * b, np.zeros(30), np.log(distances * a), np.zeros(30)])
    scores = [
        (rng.random((n, 600, 1)) > np.cumsum(GRM.probabilities(theta, of, np.full(n, 4)), axis=2)).sum(axis=2)
        for n, of in ((12, truth), (30, new))
    ]
    others = (OtherItems(GRM, np.arange(12), truth[2:], np.full(12, 4)),)
    bank = irt.ItemParameters(
        x.item_ids, truth[0], -truth[1] / truth[0], np.zeros(12), np.zeros((12, 2, 2)), others=others
    )
    answers = irt.Responses.from_wide(scores[0].T.astype(float), x.item_ids, max_score=3)
    item, person = (index.ravel() for index in np.indices((30, 600)))
    found = estimate_new_items(
        [f"n{k}" for k in range(30)], item, person, scores[1].ravel(), PersonPosteriors.from_responses(answers, bank),
        BankPrior.from_items(fit), models="grm", max_scores=[3] * 30,
    )  # fmt: skip
    assert found.converged.all()
    items, w = found.items, np.log(distances * a)
    z = [(np.log(items.a) - np.log(a)) / found.ln_a_se, (items.b - b) / items.b_se]
    errors = np.sqrt(items.cov_of_all[:, [3, 4], [3, 4]].T)
    z += [*((items.others[0].further[1:3] - w) / errors)]
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=0.2)


# -- links, drift and tables ---------------------------------------------------------------------------------------


def test_link_and_drift_name_the_item_that_moved(world) -> None:
    _, truth, fit = world
    later, _ = drawn(7, 1500, 12, mean=0.4, moved=3, truth=truth)
    new = irt.fit(later, "grm")
    with pytest.warns(irt.LinkWarning, match="moved against the others: i3"):
        link = irt.link(new, fit)
    assert abs(link.slope - 1) < 3 * link.linking.slope_se
    assert abs(link.intercept - 0.4) < 3 * link.linking.intercept_se
    found = irt.find_drift(new, fit).to_frame("pandas").set_index("item")
    assert found.loc["i3", "severity"] != "none"
    assert (found.drop("i3")["severity"] == "none").all()


def test_parameters_come_back_from_a_table(world) -> None:
    _, _, fit = world
    items = fit.items.parameters
    assert irt.ItemParameters.from_json(items.to_json()) == items
    back = irt.ItemParameters.from_frame(items.to_frame("pandas"))
    np.testing.assert_allclose(back.curves.score_probabilities(NODES), items.curves.score_probabilities(NODES))
    np.testing.assert_allclose(back.further_cov, items.further_cov)


def test_metric_d_moves_the_thresholds_of_graded_items_with_the_slope() -> None:
    one, other = (
        irt.ItemParameters.from_frame({"item": ["q"], "model": ["graded"], "a": [a], "b1": [-0.5], "b2": [1.5]} | more)
        for a, more in ((1.7, {}), (1.0, {"D": [1.7]}))
    )
    np.testing.assert_allclose(one.curves.score_probabilities(NODES), other.curves.score_probabilities(NODES))
