"""The nominal model and curves of options: fits against R mirt, derivatives against differences, and recovery.

`nominal_reference.R` made `mirt_nominal.json`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt
from irt_psychometrics.core.item_models import CountedScores, ItemCurves, OtherItems
from irt_psychometrics.core.model_families import GPCM
from irt_psychometrics.core.models import Flag
from irt_psychometrics.core.nominal_model import NOMINAL
from irt_psychometrics.itemfit import OptionCurves, fit_options, person_fit
from irt_psychometrics.scoring import ScoreScale, ScoreTable, score_kernels
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

NODES = np.linspace(-3, 3, 13)
MIRT = json.loads(Path(__file__).with_name("mirt_nominal.json").read_text())
CATEGORIES = np.array([4, 4, 3, 2])
ABSENT = -np.inf
PARAMETERS = np.array(
    [
        [1.0, 0.7, 1.3, 0.9],
        [0.3, -0.2, 0.5, 0.1],
        [0.0, ABSENT, 0.0, 0.0],
        [0.0, ABSENT, 0.0, 0.0],
        [1.4, 1.0, 0.3, 1.0],
        [0.5, 0.0, -0.4, 0.0],
        [1.8, 2.6, 2.0, 0.0],
        [-0.2, 0.4, 0.0, 0.0],
        [3.0, 3.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
    ]
)
"""Items scored 0 … 3, 1 … 3, 0 … 2 and 0 … 1."""
FREE = NOMINAL.free(CATEGORIES, np.array([[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]], dtype=bool))


def true_parameters(seed: int, items: int) -> np.ndarray:
    """Parameters of items scored 0 … 3. Some inner scores are worth less than the score below."""
    rng = np.random.default_rng(seed)
    a, parameters = np.exp(rng.normal(-0.3, 0.25, items)), np.zeros((10, items))
    parameters[:2] = a, -a * rng.normal(0, 0.7, items)
    parameters[4], parameters[6] = 1 + rng.normal(0, 0.4, items), 2 + rng.normal(0, 0.4, items)
    parameters[5], parameters[7], parameters[8] = rng.normal(0.4, 0.4, items), rng.normal(0.4, 0.4, items), 3
    return parameters


def drawn(seed: int, truth: np.ndarray, learners: int, mean: float = 0.0) -> irt.Responses:
    rng, items = np.random.default_rng(seed), truth.shape[1]
    p = NOMINAL.probabilities(rng.normal(mean, 1, learners), truth, np.full(items, len(truth) // 2 - 1))
    x = (rng.random((items, learners, 1)) > np.cumsum(p, axis=2)).sum(axis=2).T
    return irt.Responses.from_wide(x.astype(float), [f"i{k}" for k in range(items)], max_score=len(truth) // 2 - 2)


def chosen(slopes: np.ndarray, intercepts: np.ndarray, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Options A, B, … chosen by persons with these θ."""
    logs = np.outer(theta, slopes) + intercepts
    p = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    return np.array(list("ABCDE"))[(rng.random((len(theta), 1)) > np.cumsum(p, axis=1)).sum(axis=1)]


@pytest.fixture(scope="module")
def world():
    truth = true_parameters(1, 12)
    x = drawn(2, truth, 1500)
    return x, truth, irt.fit(x, "nominal")


@pytest.fixture(scope="module")
def choices(shared) -> irt.Responses:
    chosen = pd.read_csv(shared / "data" / "sat12_raw_choices.csv", dtype=str).drop(columns="person")
    key = pd.read_csv(shared / "data" / "sat12_key.csv", dtype=str).set_index("item")["key"].to_dict()
    return irt.Responses.from_wide(chosen.replace("8", None), key=key)


@pytest.fixture(scope="module")
def sat12(choices) -> OptionCurves:
    return fit_options(choices)


# -- the curves ----------------------------------------------------------------------------------------------------


def test_probabilities_follow_the_formula() -> None:
    """P(k) is proportional to exp(s_k(aθ + d) + t_k) over the scores that the item has."""
    p = NOMINAL.probabilities(NODES, PARAMETERS, CATEGORIES)
    own = PARAMETERS[:, 1]
    logs = np.outer(NODES * own[0] + own[1], own[[4, 6, 8]]) + own[[5, 7, 9]]
    np.testing.assert_allclose(p[1, :, 1:], np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True), rtol=1e-12)
    assert not p[1, :, 0].any()
    np.testing.assert_allclose(p[3, :, 1], 1 / (1 + np.exp(-0.9 * NODES - 0.1)))


def test_scores_worth_their_own_points_are_partial_credit() -> None:
    t = np.array([[0.0], [0.4], [-0.3], [0.0]])
    further = np.column_stack([np.arange(4.0), t[:, 0]]).reshape(-1, 1)
    line = np.array([[0.8], [0.3]])
    np.testing.assert_allclose(
        NOMINAL.probabilities(NODES, np.vstack([line, further]), np.array([4])),
        GPCM.probabilities(NODES, np.vstack([line, t]), np.array([4])),
        rtol=1e-12,
    )


def test_derivatives_agree_with_differences() -> None:
    has = np.isfinite(NOMINAL.log_probabilities(NODES, PARAMETERS, CATEGORIES))

    def logs(theta=NODES, parameters=PARAMETERS):
        return np.where(has, NOMINAL.log_probabilities(theta, parameters, CATEGORIES), 0.0)

    by = NOMINAL.by_parameters(NODES, PARAMETERS, CATEGORIES)
    for k, free in enumerate(FREE):
        step = np.zeros_like(PARAMETERS)
        step[k] = 1e-5
        slope = (logs(parameters=PARAMETERS + step) - logs(parameters=PARAMETERS - step)) / 2e-5
        np.testing.assert_allclose(by[k, free], slope[free], atol=1e-9)
    slope = (logs(NODES + 1e-5) - logs(NODES - 1e-5)) / 2e-5
    np.testing.assert_allclose(NOMINAL.by_theta(NODES, PARAMETERS, CATEGORIES), slope, atol=1e-9)


def test_change_of_scale_moves_a_and_d_alone() -> None:
    moved = NOMINAL.transform_parameters(PARAMETERS, 1.4, -0.3)
    np.testing.assert_allclose(
        NOMINAL.probabilities(1.4 * NODES - 0.3, moved, CATEGORIES),
        NOMINAL.probabilities(NODES, PARAMETERS, CATEGORIES),
        atol=1e-14,
    )
    np.testing.assert_array_equal(moved[2:], PARAMETERS[2:])


def test_variance_of_the_score_function_follows_from_errors_of_all_parameters() -> None:
    """The compiled derivatives of ∂ log P/∂θ, against differences, for every score of the items of three scores."""
    others = (OtherItems(NOMINAL, np.arange(3), PARAMETERS[2:, :3], CATEGORIES[:3]),)
    a, b = PARAMETERS[0, :3], -PARAMETERS[1, :3] / PARAMETERS[0, :3]
    item, score = (np.array(x) for x in zip(*[(0, k) for k in range(4)], *[(2, k) for k in range(3)], strict=True))
    theta, rng = np.linspace(-1, 1, item.size), np.random.default_rng(3)
    roots = rng.normal(0, 0.1, (3, 10, 10)) * FREE.T[:3, :, None]
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
            return NOMINAL.by_theta(theta[r : r + 1], own, CATEGORIES[j : j + 1])[0, 0, k]

        x = np.array([a[j], b[j], *PARAMETERS[2:, j]])
        by = np.array([(slope(x + h) - slope(x - h)) / 2e-5 for h in 1e-5 * np.eye(10)]) * FREE[:, j]
        assert out[1, r] == pytest.approx(by @ cov[j] @ by, rel=1e-6)


# -- fits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "drop"),
    [
        ("science", "science_wide.csv", ("person",)),
        ("verbal", "verbal_aggression_poly_wide.csv", ("person", "gender", "anger")),
    ],
)
def test_fit_agrees_with_mirt(shared, name: str, file: str, drop: tuple[str, ...]) -> None:
    """mirt's EM stops at steps of 1e-7, which may be 1e-4 from the maximum in a parameter and 1e-5 in P."""
    mirt, frame = MIRT[name], pd.read_csv(shared / "data" / file).drop(columns=[*drop])
    scores = frame - frame.min().min()
    x = irt.Responses.from_wide(scores.to_numpy(float), [*frame], max_score=int(scores.max().max()))
    fit = irt.fit(x, "nominal")
    assert fit.log_likelihood == pytest.approx(mirt["loglik"], abs=1e-4)
    assert fit.n_parameters == mirt["n_est"]
    curves = fit.calibration.curves.score_probabilities(NODES)
    np.testing.assert_allclose(curves, [mirt["curves"][item] for item in x.item_ids], atol=1e-4)
    np.testing.assert_allclose(fit.items.a, [*mirt["a"].values()], rtol=1e-3)
    np.testing.assert_allclose(fit.items.a_se, [*mirt["a_se"].values()], rtol=1e-3)


def test_science_agrees_with_the_published_value(shared) -> None:
    """mirt's default tolerance stops at −1608.455."""
    frame = pd.read_csv(shared / "data" / "science_wide.csv").drop(columns="person")
    fit = irt.fit(irt.Responses.from_wide((frame - 1).to_numpy(float), [*frame], max_score=3), "nominal")
    assert fit.log_likelihood == pytest.approx(-1608.455, abs=5e-3)
    assert fit.n_parameters == 24


def test_intervals_contain_the_truth() -> None:
    """Pooled over a, d, and s and t of both inner scores of 12 items in 8 samples. The binomial SE is .9 %."""
    z = []
    for seed in range(8):
        truth = true_parameters(20 + seed, 12)
        fit = irt.fit(drawn(40 + seed, truth, 1500), "nominal").calibration
        assert fit.convergence.converged
        se = np.sqrt(np.einsum("jkk->kj", fit.cov))
        z.append(((fit.parameters - truth) / np.where(se > 0, se, np.inf))[[0, 1, 4, 5, 6, 7]])
    assert 0.92 < (np.abs(z) < 1.96).mean() < 0.98


def test_score_that_nobody_has_gets_no_parameters(world) -> None:
    x, _, _ = world
    score = np.where((x.item == 2) & (x.score == 2), 1, x.score).astype(np.int8)
    fit = irt.fit(replace(x, score=score), "nominal").calibration
    assert fit.convergence.converged
    assert CountedScores.from_curves(fit.curves).table[2].tolist() == [0, 1, 1, 3]
    assert not fit.curves.score_probabilities(NODES)[2, 2].any()
    assert sorted(fit.further_of(2)) == sorted(
        ["max_score", *(f"{name}{k}{se}" for name in "st" for k in (0, 1, 3) for se in ("", "_se"))]
    )


def test_lowest_and_highest_score_alike_stop_at_the_bound() -> None:
    """The item's scores 0 and 2 have the same slope, so a is 0 and s of score 1 is infinite."""
    rng, theta = np.random.default_rng(8), np.random.default_rng(9).normal(size=1500)
    options = [chosen(np.array([0, 0.8, 1.6]), np.array([0, 0.5, 0.2]), theta, rng) for _ in range(7)]
    options.append(chosen(np.array([0, 1.2, 0]), np.array([0, 0.5, 0.2]), theta, rng))
    scores = np.searchsorted(list("ABC"), np.column_stack(options)).astype(float)
    with pytest.warns(irt.ItemWarning, match="i8: the estimate stopped at a bound"):
        fit = irt.fit(irt.Responses.from_wide(scores, max_score=2), "nominal").calibration
    assert [flags == (Flag.AT_BOUND,) for flags in fit.flags] == [False] * 7 + [True]
    assert np.isnan(fit.a_se[7])
    assert np.isfinite(fit.a_se[:7]).all()


def test_nominal_items_fit_beside_items_of_other_models(world) -> None:
    """The other models are special cases or close to the truth, so the nominal items' a hardly moves."""
    x, _, alone = world
    models = {item: ("nominal", "gpcm", "grm")[k % 3] for k, item in enumerate(x.item_ids)}
    fit = irt.fit(x, models)
    assert fit.converged
    assert fit.log_likelihood < alone.log_likelihood
    np.testing.assert_allclose(fit.items.a[::3], alone.items.a[::3], rtol=0.15)


def test_partial_credit_is_compared_as_a_special_case(world) -> None:
    x, _, fit = world
    found = irt.compare(irt.fit(x, "gpcm"), fit)
    assert (found.test, found.df) == ("likelihood ratio", 24)
    assert found.p < 1e-6  # s differs from k by .4 on average


# -- scores, links and tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["map", "ml", "wle"])
def test_scores_are_the_best_roots_of_their_equations(world, method: str) -> None:
    """Against the highest sign change of each equation's integral on 20,001 nodes."""
    x, _, fit = world
    c, theta = fit.calibration, np.linspace(-5, 5, 20_001)
    step = theta[1] - theta[0]
    p = NOMINAL.probabilities(theta, c.parameters, c.n_categories)
    slopes = NOMINAL.by_theta(theta, c.parameters, c.n_categories)
    second = np.gradient(p * slopes, step, axis=1)
    information = (p * slopes**2).sum(axis=(0, 2))
    more = {
        "map": -theta,
        "ml": 0.0 * theta,
        "wle": (slopes * second).sum(axis=(0, 2)) / (2 * information),
    }[method]
    found, scores = fit.score(x, method=method), x.score.reshape(x.n_persons, -1)
    for i in np.flatnonzero(np.abs(found.theta) < 3)[:5]:
        equation = slopes[np.arange(12), :, scores[i]].sum(axis=0) + more
        at = np.flatnonzero(np.diff(np.sign(equation)) < 0)
        best = at[np.argmax(np.cumsum(equation)[at])]
        root = theta[best] + step * equation[best] / (equation[best] - equation[best + 1])
        assert found.theta[i] == pytest.approx(root, abs=1e-5)


def test_persons_with_all_best_scores_have_an_infinite_ml_score() -> None:
    """Score 1 of the last item is worth more than the highest one, so persons need this score."""
    truth = true_parameters(1, 3)
    truth[4, 2] = 5.0
    others = (OtherItems(NOMINAL, np.arange(3), truth[2:], np.full(3, 4)),)
    x = irt.Responses.from_wide(np.array([[3.0, 3, 1], [3, 3, 3], [0, 0, 0]]), max_score=3)
    theta = irt.scoring.estimate_abilities(x, *truth[:2], np.zeros(3), others=others, method="ml").theta
    assert theta[0] == np.inf
    assert np.isfinite(theta[1])
    assert theta[2] == -np.inf


@pytest.mark.parametrize("model", ["gpcm", "grm", "nominal"])
def test_item_with_fewer_scores_than_the_others_is_scored_alone_as_among_them(model: str) -> None:
    table = {"item": ["p", "q"], "model": [model] * 2, "a": [1.0, 0.8], "b": [0.0, 0.2], "max_score": [3, 2]}
    names = {"gpcm": "t", "grm": "w", "nominal": "st"}[model]
    values = {"s": ([0, 1.2, 1.9, 3], [0, 0.7, 2, None])}
    for name in names:
        first, second = values.get(name, ([0, 0.3, 0.1, 0], [0, 0.2, 0, None]))
        table |= {f"{name}{k}": [first[k], second[k]] for k in range(4)}
    both = irt.ItemParameters.from_frame(table)
    found = []
    for items, scores in ((both, [[np.nan, 0.0], [np.nan, 1], [np.nan, 2]]), (both.select(["q"]), [[0.0], [1], [2]])):
        c, most = items.curves, {"p": 3, "q": 2}
        x = irt.Responses.from_wide(np.array(scores), items.item_ids, max_score={i: most[i] for i in items.item_ids})
        found.append(irt.scoring.estimate_abilities(x, c.a, c.d, c.c, others=c.others, method="wle").theta)
    np.testing.assert_allclose(found[0], found[1], atol=1e-7)


def test_person_fit_is_standard_normal_for_answers_by_the_model() -> None:
    """lz* of 60 items at the true parameters; mean and SD have errors of .02 and .016 with 2,000 persons."""
    truth = true_parameters(5, 60)
    x = drawn(6, truth, 2000)
    others = (OtherItems(NOMINAL, np.arange(60), truth[2:], np.full(60, 4)),)
    items = irt.ItemParameters(
        x.item_ids, truth[0], -truth[1] / truth[0], np.zeros(60), np.zeros((60, 2, 2)), others=others
    )
    found = person_fit(x, items)
    assert abs(found.lz.mean()) < 0.08
    assert abs(found.lz.std() - 1) < 0.06
    assert abs(found.outfit.mean() - 1) < 0.02


def test_link_and_drift_name_the_item_that_moved(world) -> None:
    _, truth, fit = world
    now = truth.copy()
    now[1, 3] -= 0.6 * now[0, 3]
    new = irt.fit(drawn(7, now, 1500, mean=0.4), "nominal")
    with pytest.warns(irt.LinkWarning) as warned:
        link, drift = irt.link(new, fit), irt.find_drift(new, fit)
    assert any("moved against the others: i3" in str(each.message) for each in warned)
    assert abs(link.slope - 1) < 3 * link.linking.slope_se
    assert abs(link.intercept - 0.4) < 3 * link.linking.intercept_se
    found = drift.to_frame("pandas").set_index("item")
    assert found.loc["i3", "severity"] != "none"
    assert (found.drop("i3")["severity"] == "none").all()


def test_parameters_come_back_from_a_table(world) -> None:
    _, _, fit = world
    items = fit.items.parameters
    assert irt.ItemParameters.from_json(items.to_json()) == items
    back = irt.ItemParameters.from_frame(items.to_frame("pandas"))
    np.testing.assert_allclose(back.curves.score_probabilities(NODES), items.curves.score_probabilities(NODES))
    np.testing.assert_allclose(back.further_cov, items.further_cov)
    of_mirt = irt.ItemParameters.from_frame(items.to_program("mirt", "pandas"))
    np.testing.assert_allclose(of_mirt.curves.score_probabilities(NODES), items.curves.score_probabilities(NODES))


def test_table_of_mirt_gives_the_curves_of_its_formula() -> None:
    """log P(k) = ak_k·a1·θ + d_k up to a constant, with any ak of the first and of the last category."""
    ak, d = np.array([1.0, 0.2, 2.5]), np.array([0.1, 0.6, -0.4])
    columns = {f"ak{k}": [x] for k, x in enumerate(ak)} | {f"d{k}": [x] for k, x in enumerate(d)}
    items = irt.ItemParameters.from_frame({"item": ["q"], "a1": [0.9]} | columns)
    logs = 0.9 * np.outer(NODES, ak) + d
    expected = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(items.curves.score_probabilities(NODES)[0].T, expected, rtol=1e-10)


# -- options -------------------------------------------------------------------------------------------------------


def test_option_curves_agree_with_mirt(choices) -> None:
    """Ten items whose options differ enough in slope for mirt to converge. mirt's steps end at 1e-7."""
    mirt = MIRT["sat12"]
    some = fit_options(choices.of_items(np.isin(choices.item_ids, [*mirt["options"]])))
    assert some.estimates.convergence.loglik == pytest.approx(mirt["loglik"], abs=1e-3)
    assert some.estimates.convergence.n_parameters == mirt["n_est"]
    found = pd.DataFrame(some.probabilities(NODES).T, index=pd.MultiIndex.from_arrays([some.item_ids, some.options]))
    for item, options in mirt["options"].items():
        np.testing.assert_allclose(found.loc[item].loc[options], mirt["curves"][item], atol=1e-3)


def test_all_options_of_a_test_converge(sat12) -> None:
    """mirt stops at −18,851.08 after 20,000 iterations, without convergence."""
    assert sat12.estimates.convergence.converged
    assert sat12.estimates.convergence.loglik > -18851.08


def test_slopes_and_intercepts_of_options_are_recovered() -> None:
    """3,000 persons, 20 items of four options; 95 % intervals of 160 values contain 143 or more."""
    rng, theta = np.random.default_rng(4), np.random.default_rng(5).normal(size=3000)
    slopes, intercepts = rng.normal(0, 0.5, (20, 4)), rng.normal(0, 0.5, (20, 4))
    slopes[:, 0] += 1.5
    slopes, intercepts = (x - x.mean(axis=1, keepdims=True) for x in (slopes, intercepts))
    table = {f"q{k}": chosen(slopes[k], intercepts[k], theta, rng) for k in range(20)}
    fit = fit_options(irt.Responses.from_wide(table, key=dict.fromkeys(table, "A")))
    place = [(int(item[1:]), "ABCD".index(option)) for item, option in zip(fit.item_ids, fit.options, strict=True)]
    true = np.array([(slopes[at], intercepts[at]) for at in place]).T
    z = (np.array([fit.slope, fit.intercept]) - true) / np.array([fit.slope_se, fit.intercept_se])
    assert (np.abs(z) < 1.96).sum() >= 143  # 152 expected, SD of independent values 2.8
    np.testing.assert_allclose([x.sum() for x in np.split(fit.slope, 20)], 0, atol=1e-12)


def test_information_of_distractors_is_what_the_key_does_not_have(sat12) -> None:
    """Against the variances of both score functions, with derivatives by differences."""
    step, rows = 1e-5, np.array([item == "item_1" for item in sat12.item_ids])
    p, up, down = (sat12.probabilities(NODES + h)[:, rows] for h in (0, step, -step))
    slope = (up - down) / (2 * step)
    right = sat12.is_key[rows]
    of_key, change = p[:, right].sum(axis=1), slope[:, right].sum(axis=1)
    expected = (slope**2 / p).sum(axis=1) - change**2 / (of_key * (1 - of_key))
    np.testing.assert_allclose(sat12.distractor_information(NODES)[:, 0], expected, atol=1e-8)
    known = change**2 / (of_key * (1 - of_key))
    np.testing.assert_allclose(sat12.key_information(NODES)[:, 0], known, atol=1e-8)
    assert sat12.distractor_information(NODES).min() > -1e-12


def test_two_options_have_no_information_besides_right_and_wrong(sat12) -> None:
    of_item = list(dict.fromkeys(sat12.item_ids)).index("item_11")
    np.testing.assert_allclose(sat12.distractor_information(NODES)[:, of_item], 0, atol=1e-12)


def test_options_come_back_from_json(sat12) -> None:
    assert OptionCurves.from_json(sat12.to_json()) == sat12


def test_answers_without_a_choice_are_left_out() -> None:
    rng, theta = np.random.default_rng(4), np.random.default_rng(5).normal(size=600)
    table = {f"q{k}": chosen(np.array([1, -0.5, -0.5]), np.zeros(3), theta, rng).astype(object) for k in range(5)}
    table["q0"][:100] = None
    fit = fit_options(irt.Responses.from_wide(table, key=dict.fromkeys(table, "A")))
    assert fit.n[np.array(fit.item_ids) == "q0"].sum() == 500


def test_options_are_refused_where_scores_are_needed(sat12, world) -> None:
    _, _, fit = world
    with pytest.raises(irt.PsychometricsError, match="options have no order, so there are no scores, sum scores"):
        ScoreTable.from_items(sat12, ScoreScale(10, 50))
    with pytest.raises(irt.PsychometricsError, match="options have no order"):
        irt.find_drift(fit, sat12)
    with pytest.raises(irt.PsychometricsError, match="at least two chosen options: make the responses with a key"):
        fit_options(world[0])
