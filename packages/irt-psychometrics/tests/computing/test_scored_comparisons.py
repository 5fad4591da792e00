"""Scored items linked, compared with published values and between groups: by the expected share of the maximum."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import chi2

import irt_psychometrics as irt
from irt_psychometrics.alignment.common_line import Differences
from irt_psychometrics.core.assumed_errors import assumed_covariances_of_scores, assumed_errors
from irt_psychometrics.core.covariances import item_blocks
from irt_psychometrics.core.item_models import OtherItems, model_of, models_by_max_score
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dif.analysis import Dif
from irt_psychometrics.dif.forms import cells, sittings
from irt_psychometrics.dif.mantel import mantel
from irt_psychometrics.dif.mantel_haenszel import mantel_haenszel
from irt_psychometrics.dif.wald import curve_difference
from irt_psychometrics.drift.change_types import ChangeKind, TimedAnswers, classify_changes
from irt_psychometrics.drift.errors import Comparison, Published
from irt_psychometrics.drift.items import Drift
from irt_psychometrics.drift.proportion_correct import proportions_correct
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.information.functions import (
    Abilities,
    greatest_information,
    item_information,
    losses_of_items,
)
from irt_psychometrics.linking.criteria import AnchorPairs, solve
from irt_psychometrics.linking.linking import link_to_anchors, match
from irt_psychometrics.linking.placement import AnchorLimits
from psychometrics_testbed.linked_months import INTERCEPT, SLOPE, ids
from psychometrics_testbed.made_scored import planned_mixed
from psychometrics_testbed.scored_estimates import ScoredItems, frozen
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

MAX_SCORES = (1, 3, 1, 2, 4, 1, 1, 2, 1, 3)
TRUTH = ScoredItems.draw(np.random.default_rng(1), MAX_SCORES)
THETA = np.linspace(-3, 3, 13)
MOVED = 4


def month(seed: int, n: int = 4000, moved: float = 0.0, truth: ScoredItems = TRUTH) -> Comparison:
    """A month compared with anchors whose published values are the frozen ones."""
    rng = np.random.default_rng(seed)
    anchors = frozen(truth.estimated(rng, n))
    by = moved * (np.arange(truth.size) == MOVED)
    new = truth.moved(by).rescaled(SLOPE, INTERCEPT).estimated(rng, n)
    return Comparison.from_linked_fit(new, link_to_anchors(new, anchors), anchors, Published.from_anchors(anchors))


def shares_by_hand(truth: ScoredItems, theta: np.ndarray) -> np.ndarray:
    """Expected shares of the maximum score, (J, T)."""
    shares = []
    for j, n in enumerate(truth.categories):
        a, d, *t = truth.parameters[:, j]
        k = np.arange(n)
        p = softmax(np.outer(a * theta + d, k) + (np.array(t[:n]) if n > 2 else 0.0), axis=1)
        shares.append(p @ k / (n - 1))
    return np.array(shares)


@WHERE_STATISTICS_CHANGE
def test_curves_and_derivatives_match_expected_shares_and_finite_differences() -> None:
    items = TRUTH.estimated(np.random.default_rng(2), 10**9).items
    np.testing.assert_allclose(items.curve(THETA).T, shares_by_hand(TRUTH, THETA), atol=1e-3)
    (some,) = items.others
    by, step = items.by_further(THETA), 1e-6
    for row in range(len(some.further)):
        up, down = (
            replace(items, others=(replace(some, further=some.further + x * (np.arange(5) == row)[:, None]),))
            for x in (step, -step)
        )
        np.testing.assert_allclose(
            by[some.at, row], (up.curve(THETA) - down.curve(THETA)).T[some.at] / (2 * step), atol=1e-8
        )


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("method", ["stocking-lord", "haebara", "mean-sigma"])
def test_linking_constants_are_exact_if_parameters_are_exact(method) -> None:
    rng = np.random.default_rng(3)
    old, new = (truth.estimated(rng, 10**14) for truth in (TRUTH, TRUTH.rescaled(SLOPE, INTERCEPT)))
    found = link_to_anchors(new, frozen(old), method=method)
    assert (found.slope, found.intercept) == pytest.approx((SLOPE, INTERCEPT), abs=1e-5)
    assert found.anchors_dropped == {}
    np.testing.assert_allclose(found.transform(new).items.curve(THETA), old.items.curve(THETA), atol=1e-5)


@WHERE_STATISTICS_CHANGE
def test_derivatives_of_linking_constants_by_steps_match_finite_differences() -> None:
    rng = np.random.default_rng(4)
    anchors = frozen(TRUTH.estimated(rng, 10**6))
    pairs, _ = match(TRUTH.rescaled(SLOPE, INTERCEPT).estimated(rng, 10**6), anchors, AnchorLimits())
    found = solve(pairs, "stocking-lord", weighted=False)
    for side, derivatives in (("new", found.by_further_new), ("old", found.by_further_old)):
        items = getattr(pairs, side)
        (some,) = items.others
        for row in (1, 2):
            ends = []
            for step in (1e-4, -1e-4):
                further = some.further + step * np.outer(
                    np.arange(len(some.further)) == row, np.arange(len(some.at)) == 0
                )
                moved = replace(items, others=(replace(some, further=further),))
                ends.append(solve(replace(pairs, **{side: moved}), "stocking-lord", weighted=False))
            up, down = ends
            expected = np.array([up.slope - down.slope, up.intercept - down.intercept]) / 2e-4
            assert derivatives[:, some.at[0], row] == pytest.approx(expected, abs=2e-4)


@WHERE_STATISTICS_CHANGE
def test_anchors_are_weighted_by_share_of_the_maximum_instead_of_points() -> None:
    """An item scored {0, 3} has the curve of an item scored 0 and 1 with three times the slope: the same anchor."""
    plain = ScoredItems.draw(np.random.default_rng(5), (1,) * 8)
    old = plain.estimated(np.random.default_rng(7), 2000).items
    new = plain.rescaled(SLOPE, INTERCEPT).estimated(np.random.default_rng(8), 2000).items
    thirds, others = (
        np.where(np.arange(8) == 0, 1 / 3, 1.0),
        OtherItems.from_parameters({0: {"max_score": 3, "t0": 0.0, "t3": 0.0}}),
    )
    as_scored = AnchorPairs(
        *(replace(side, a=side.a * thirds, further_cov=None, others=others) for side in (new, old)),
        ("gpcm", *plain.models[1:]),
    )
    for method in ("stocking-lord", "haebara"):
        one = solve(AnchorPairs(new, old, plain.models), method, weighted=False)
        other = solve(as_scored, method, weighted=False)
        assert (one.slope, one.intercept) == pytest.approx((other.slope, other.intercept), abs=1e-8)


@WHERE_STATISTICS_CHANGE
def test_covariance_of_anchor_differences_matches_the_spread_of_draws() -> None:
    """D = J⁻¹T of scored anchors over 120 draws of both sides around the truth: the error of a variance is .13."""
    rng, draws, covs = np.random.default_rng(9), [], []
    for _ in range(120):
        old, new = (truth.estimated(rng, 3000) for truth in (TRUTH, TRUTH.rescaled(SLOPE, INTERCEPT)))
        at = AnchorPairs(new.items, old.items, new.models).differences(SLOPE, INTERCEPT)
        draws.append(at.d)
        covs.append(item_blocks(at.cov))
    for j in (1, 3, 4):
        own = np.mean(covs, axis=0)[j]
        drawn = np.cov(np.array(draws)[:, j].T)
        scale = np.sqrt(np.outer(own.diagonal(), own.diagonal()))
        np.testing.assert_allclose(drawn / scale, own / scale, atol=0.25)


@WHERE_STATISTICS_CHANGE
def test_covariances_between_scored_anchors_match_the_joint_covariance_of_the_fit() -> None:
    """Compares with finite differences of D in all parameters of a fit, through the joint covariance of all items. The
    covariances of t with different items are left out; they are below .03 of a variance. The other covariances exceed
    .1."""
    rng = np.random.default_rng(12)
    fit = fit_em(TRUTH.answers(rng, rng.normal(size=1000)), model=TRUTH.models, threads=1)
    anchors = frozen(TRUTH.estimated(rng, 10**12))

    def two_numbers(of: Calibration) -> Differences:
        return AnchorPairs(of.items, anchors, of.models).differences(1.0, 0.0)

    step, columns = 1e-5, np.zeros((2 * TRUTH.size, len(fit.joint_cov)))
    for (j, k), position in np.ndenumerate(fit.places_of_parameters):
        if position >= 0:
            ends = []
            for by in (step, -step):
                a, d, further = fit.a.copy(), fit.d.copy(), fit.further.copy()
                (a, d, further[:, max(k - 2, 0)])[min(k, 2)][j] += by
                ends.append(two_numbers(replace(fit, a=a, d=d, further=further)).d.ravel())
            columns[:, position] = (ends[0] - ends[1]) / (2 * step)
    exact, found = columns @ fit.joint_cov @ columns.T, two_numbers(fit).cov[0]
    errors = np.sqrt(exact.diagonal())
    np.testing.assert_allclose(found / np.outer(errors, errors), exact / np.outer(errors, errors), atol=0.03)
    between = ~np.kron(np.eye(TRUTH.size, dtype=bool), np.ones((2, 2), dtype=bool))
    assert np.abs(exact / np.outer(errors, errors))[between].max() > 0.1


@WHERE_STATISTICS_CHANGE
def test_only_the_item_that_moved_as_a_whole_is_flagged() -> None:
    found = Drift.from_comparison(month(10, moved=0.5))
    assert (found.flagged, found.delta_b[MOVED]) == ((ids(MOVED + 1)[MOVED],), pytest.approx(0.5, abs=0.15))
    assert Drift.from_comparison(month(11)).flagged == ()
    theta, w = Grid.symmetric().nodes, np.exp(Grid.symmetric().log_weights())
    moved = TRUTH.moved(0.5 * (np.arange(TRUTH.size) == MOVED))
    area = w @ np.abs(shares_by_hand(moved, theta) - shares_by_hand(TRUTH, theta))[MOVED]
    assert found.wabc[MOVED] == pytest.approx(area, abs=0.02)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("model", ["gpcm", "grm"])
def test_only_the_category_of_the_moved_step_is_named(model) -> None:
    """The third of four steps moves by .8; its curve differs by a wABC of about .09, and the item's share by .04."""
    truth = ScoredItems.draw(np.random.default_rng(1), MAX_SCORES, model)
    rng = np.random.default_rng(15)
    anchors = frozen(truth.estimated(rng, 4000))
    now = truth.with_step_moved(MOVED, 3, 0.8).rescaled(SLOPE, INTERCEPT)
    new = now.estimated(rng, 4000)
    comparison = Comparison.from_linked_fit(
        new, link_to_anchors(new, anchors), anchors, Published.from_anchors(anchors)
    )
    drift = Drift.from_comparison(comparison)
    responses = now.answers(rng, rng.normal(size=4000))
    found = drift.with_categories(responses).categories
    assert (found.item[found.named].tolist(), found.score[found.named].tolist()) == ([MOVED], [3])
    assert set(found.item.tolist()) == set(np.flatnonzero(truth.categories > 2).tolist())
    of_others = comparison.published.with_fits([("pcm", None, None)] * truth.size, comparison.published.further_cov)
    across = replace(drift, comparison=replace(comparison, published=of_others))
    assert across.with_categories(responses).categories.score.size == 0
    unknown = replace(comparison.published, further_cov=None)
    cov, at = replace(comparison, published=unknown).cov_of_sides[:, 1, 2:, 1, 2:], truth.categories > 2
    uncertain = replace(unknown, cov=1e4 * unknown.cov_of_each)
    larger = replace(comparison, published=uncertain).cov_of_sides[:, 1, 2:, 1, 2:]
    assert (np.einsum("jpp->j", larger)[at] > 100 * np.einsum("jpp->j", cov)[at]).all()
    assert (np.einsum("jpp->j", cov)[at] > 5 * np.einsum("jpp->j", comparison.cov_of_sides[:, 1, 2:, 1, 2:])[at]).all()


@pytest.mark.parametrize("model", ["gpcm", "grm"])
def test_assumed_covariances_of_scores_match_the_inverse_of_the_information_of_500_learners(model) -> None:
    """Information by finite differences of P(X = k | θ) in a, b and the parameters of inner scores."""
    truth = ScoredItems.draw(np.random.default_rng(3), (4, 3), model)
    a, b = truth.parameters[0], -truth.parameters[1] / truth.parameters[0]
    own = OtherItems.at_places(model_of(model), np.arange(2), truth.parameters, truth.categories)
    found = assumed_covariances_of_scores(a, b, own, len(truth.parameters))
    theta, w = Grid.symmetric().nodes, np.exp(Grid.symmetric().log_weights())

    def p_of(x: np.ndarray) -> np.ndarray:
        parameters = np.vstack([x[:1], -x[:1] * x[1:2], x[2:]])
        return model_of(model).probabilities(theta, parameters, truth.categories)

    x, step = np.vstack([a, b, truth.parameters[2:]]), 1e-5
    for j, n in enumerate(truth.categories):
        free, by = [0, 1, *range(3, 1 + n)], []
        for k in free:
            moved = np.zeros_like(x)
            moved[k, j] = step
            by.append((p_of(x + moved) - p_of(x - moved))[j, :, :n] / (2 * step))
        information = 500 * np.einsum("q,xqk,yqk,qk->xy", w, by, by, 1 / p_of(x)[j, :, :n])
        np.testing.assert_allclose(found[j][np.ix_(free, free)], np.linalg.inv(information), rtol=1e-3)


def test_tables_of_drift_and_dif_list_the_scores_whose_category_changed() -> None:
    truth = ScoredItems.draw(np.random.default_rng(1), MAX_SCORES, "grm")
    rng = np.random.default_rng(16)
    before, after = (
        items.answers(rng, rng.normal(size=1500)) for items in (truth, truth.with_step_moved(MOVED, 3, 0.7))
    )
    models = dict(zip(before.item_ids, truth.models, strict=True))
    new, old = (irt.fit(x, models) for x in (after, before))
    drift = irt.find_drift(new, old, responses=after)
    expected = ["3" if j == MOVED else "" for j in range(truth.size)]
    assert drift._columns()["categories"] == tuple(expected)
    assert "categories" not in irt.find_drift(new, old)._columns()
    scores = np.vstack([x.score.reshape(1500, -1) for x in (before, after)]).astype(float)
    both = Responses.from_wide(scores, before.item_ids, truth.categories)
    dif = irt.find_dif(both, ["a"] * 1500 + ["b"] * 1500, model=models)
    assert dif._columns()["categories"] == tuple(expected)


@WHERE_STATISTICS_CHANGE
def test_items_of_a_common_slope_are_tested_on_difficulty_alone() -> None:
    pcm = ScoredItems.draw(np.random.default_rng(12), MAX_SCORES, "pcm", "rasch")
    rng = np.random.default_rng(13)
    anchors = frozen(pcm.estimated(rng, 3000))
    new = pcm.moved(0.5 * (np.arange(pcm.size) == MOVED)).rescaled(1.0, INTERCEPT).estimated(rng, 3000)
    found = link_to_anchors(new, anchors)
    assert (found.slope, list(found.anchors_dropped)) == (1.0, [ids(MOVED + 1)[MOVED]])
    comparison = Comparison.from_linked_fit(new, found, anchors, Published.from_anchors(anchors))
    assert not comparison.across_models.any()
    assert Drift.from_comparison(comparison).flagged == (ids(MOVED + 1)[MOVED],)


@WHERE_STATISTICS_CHANGE
def test_months_without_an_items_middle_score_are_compared_by_the_banks_maximum() -> None:
    """No learner got the middle score of an item that otherwise did not change: its curve is nearly the same."""
    comparison = month(14)
    (some,) = comparison.window.others
    column = some.at.tolist().index(3)
    lacking = some.further.copy()
    lacking[1, column] = -np.inf
    window = replace(comparison.window, others=(replace(some, further=lacking),))
    found = Drift.from_comparison(replace(comparison, window=window))
    assert np.isfinite(found.p).all()
    assert np.isfinite(found.wabc).all()


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("j", [MOVED, 3], ids=["most points", "fewer"])
def test_changes_of_scored_items_are_classified_as_drift_or_leak(j: int) -> None:
    rng = np.random.default_rng(15)
    n, theta = 1500, rng.normal(0, 1, 1500)
    published = TRUTH.estimated(rng, 10**8).items
    answers = {
        ChangeKind.EASIER: np.where(
            rng.random(n) < 0.4, MAX_SCORES[j], TRUTH.answers(rng, theta).score.reshape(n, -1)[:, j]
        ),
        ChangeKind.DRIFT: TRUTH.moved(0.8 * np.ones(TRUTH.size)).answers(rng, theta).score.reshape(n, -1)[:, j],
    }
    for kind, own in answers.items():
        responses = TRUTH.answers(rng, theta)
        score = responses.score.reshape(n, -1).copy()
        score[:, j] = own
        unknown = np.full(score.size, np.nan)
        window = TimedAnswers(
            person=responses.person.astype(np.int64), item=responses.item.astype(np.int64), score=score.ravel(),
            log_time=unknown, day=np.zeros(score.size, dtype=np.int64), option=np.full(score.size, -1),
            item_ids=responses.item_ids, key=np.full(TRUTH.size, -1), usual_log_time=unknown[: TRUTH.size],
            usual_log_time_se=unknown[: TRUTH.size], categories=responses.categories,
        )  # fmt: skip
        found = classify_changes(window, [responses.item_ids[j]], published, mean=0.0, sd=1.0)
        change = found[responses.item_ids[j]]
        assert change.kind is kind
        assert set(change.gains) == {"drift", "leak"}
        assert max(change.gains.values()) < 4 * n
        if kind is ChangeKind.EASIER:
            assert change.gains["leak"] > change.gains["drift"]


@WHERE_STATISTICS_CHANGE
def test_items_without_an_estimate_are_compared_by_their_mean_share() -> None:
    rng, z = np.random.default_rng(16), []
    published = TRUTH.estimated(np.random.default_rng(17), 10**8).items
    item = published.item_ids[MOVED]
    for _ in range(60):
        responses = TRUTH.answers(rng, rng.normal(0.2, 1.1, 150))
        found = proportions_correct(responses, [item], published, mean=0.2, sd=1.1)
        z.append(float(found.difference[0] / found.se[0]))
        share = responses.score.reshape(150, -1)[:, MOVED].mean() / MAX_SCORES[MOVED]
        assert found.observed[0] == pytest.approx(share)
    assert np.std(z) == pytest.approx(1.0, abs=0.28)
    moved = TRUTH.moved(0.9 * np.ones(TRUTH.size))
    mixed = TRUTH.answers(rng, rng.normal(0.2, 1.1, 150)).score.reshape(150, -1).copy()
    mixed[:, MOVED] = moved.answers(rng, rng.normal(0.2, 1.1, 150)).score.reshape(150, -1)[:, MOVED]
    responses = Responses.from_wide(mixed.astype(float), published.item_ids, TRUTH.categories)
    assert proportions_correct(responses, [item], published, mean=0.2, sd=1.1).severity == ("high",)


@WHERE_STATISTICS_CHANGE
def test_scored_items_lose_information_if_their_slope_falls() -> None:
    comparison = month(18)
    losses = losses_of_items(comparison, Abilities.normal())
    assert losses.flagged == ()
    people, step = Abilities.normal(), 1e-6
    steep = (shares_by_hand(TRUTH, people.theta + step) - shares_by_hand(TRUTH, people.theta - step)) / (2 * step)
    expected = TRUTH.parameters[0] * np.array(MAX_SCORES) * (steep @ people.weights)  # a² Var(x) = a·m·∂(E/m)/∂θ
    items = TRUTH.estimated(np.random.default_rng(19), 10**10).items
    found = people.weights @ item_information(people.theta, items.curves)
    np.testing.assert_allclose(found, expected, rtol=1e-2)
    assert (greatest_information(items.curves) >= found).all()
    flatter = replace(comparison, window=replace(comparison.window, a=0.6 * comparison.window.a))
    assert set(losses_of_items(flatter, people).flagged) == set(comparison.item_ids)


@WHERE_STATISTICS_CHANGE
def test_assumed_errors_of_scored_items_match_the_inverse_of_their_information() -> None:
    items = TRUTH.estimated(np.random.default_rng(20), 10**10).items
    a_se, b_se, _ = assumed_errors(items.a, items.b, items.c, items.others)
    grid = Grid.symmetric()
    model, w = model_of(TRUTH.models), np.exp(grid.log_weights())
    p, by = (of(grid.nodes, TRUTH.parameters, TRUTH.categories) for of in (model.probabilities, model.by_parameters))
    information = 500 * np.einsum("q,jqk,xjqk,yjqk->jxy", w, p, by[:2], by[:2])
    to_ab = np.array([[np.ones(TRUTH.size), 0 * items.a], [-items.b, -items.a]]).transpose(2, 0, 1)
    cov = np.linalg.inv(to_ab.swapaxes(1, 2) @ information @ to_ab)
    np.testing.assert_allclose([a_se**2, b_se**2], [cov[:, 0, 0], cov[:, 1, 1]], rtol=2e-2)


@pytest.mark.parametrize("model", ["gpcm", "grm"])
def test_four_items_of_few_learners_are_compared_with_themselves(shared, model) -> None:
    """The covariances between these items belong to no joint distribution with the errors of the steps."""
    fit = irt.fit(answers(shared, "science"), model)
    found = irt.find_drift(fit, fit)
    assert (found.link.slope, found.link.intercept) == pytest.approx((1.0, 0.0), abs=1e-6)
    assert found.delta_b == pytest.approx(np.zeros(4), abs=1e-6)
    assert (found.delta_b_se > 0).all()
    assert np.linalg.eigvalsh(found.link.linking.cov)[0] > 0


# --- groups -------------------------------------------------------------------------------------------------------


@WHERE_STATISTICS_CHANGE
def test_slopes_of_expected_scores_match_the_difference_between_both_curves() -> None:
    theta = Grid.symmetric().nodes
    scored = TRUTH.estimated(np.random.default_rng(21), 10**10).items.others
    x = TRUTH.parameters.T.copy()
    x[TRUTH.categories == 2, 2:] = -np.inf
    other = x.copy()
    other[:, 1] -= 0.5 * x[:, 0]
    area, t, slopes = curve_difference(x, other, theta, scored)
    w = np.exp(Grid.symmetric().log_weights())
    gap = shares_by_hand(TRUTH.moved(np.full(TRUTH.size, 0.5)), theta) - shares_by_hand(TRUTH, theta)
    np.testing.assert_allclose(t[:, 0], gap @ w, atol=1e-10)
    np.testing.assert_allclose(area, np.abs(gap) @ w, atol=1e-10)
    np.testing.assert_allclose(slopes[:, :, 1] * (other[:, [1]] - x[:, [1]]), t, atol=1e-7)


@WHERE_STATISTICS_CHANGE
def test_only_the_item_that_is_harder_for_a_group_is_flagged() -> None:
    rng = np.random.default_rng(22)
    n, theta = 700, np.r_[rng.normal(0, 1, 700), rng.normal(-0.5, 1, 700)]
    reference, focal = (
        TRUTH.answers(rng, theta[:n]),
        TRUTH.moved(0.7 * (np.arange(TRUTH.size) == MOVED)).answers(rng, theta[n:]),
    )
    scores = np.vstack([one.score.reshape(n, -1) for one in (reference, focal)]).astype(float)
    responses = Responses.from_wide(scores, reference.item_ids, TRUTH.categories)
    groups, forms = ["a"] * n + ["b"] * n, ["form"] * responses.n_responses
    found = Dif.from_responses("g", responses, groups, forms=forms, model=TRUTH.models, threads=1)
    assert (found.wald.flagged, found.wald.df.tolist()) == ((responses.item_ids[MOVED],), [2] * TRUTH.size)
    assert found.wald.shift[0, MOVED] < -0.05
    of_item = found.within_forms.mantel[0][MOVED]
    assert of_item.smd < 0
    assert of_item.p < 1e-3
    assert found.within_forms.logistic[0][MOVED] is None
    assert found.within_forms.logistic[0][0] is not None


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize(("model", "by"), [("gpcm", 1.2), ("grm", 0.6)])
def test_only_categories_of_the_item_with_a_harder_step_are_named(model, by) -> None:
    """The third of four steps moves; its wABC is .11 and .18. Items split in one or both fits are tested once."""
    truth = ScoredItems.draw(np.random.default_rng(1), MAX_SCORES, model)
    rng, n = np.random.default_rng(24), 3000
    theta = rng.normal(0, 1, n), rng.normal(-0.5, 1, n)
    both = truth.answers(rng, theta[0]), truth.with_step_moved(MOVED, 3, by).answers(rng, theta[1])
    scores = np.vstack([one.score.reshape(n, -1) for one in both]).astype(float)
    responses = Responses.from_wide(scores, both[0].item_ids, truth.categories)
    wald = Dif.from_responses("g", responses, ["a"] * n + ["b"] * n, model=truth.models, threads=1).wald
    found = wald.categories[wald.groups[1]]
    assert set(found.item[found.named].tolist()) == {MOVED}
    assert found.score[found.wabc.argmax()] == 3
    assert found.shift[found.wabc.argmax()] > 0.3
    rows = list(zip(found.item.tolist(), found.score.tolist(), strict=True))
    assert len(rows) == len(set(rows))
    assert set(found.item.tolist()) == set(np.flatnonzero(truth.categories > 2).tolist())
    (again,) = Dif.with_common_q([Dif("g", responses.item_ids, (), 0, wald, None)])
    assert again.wald.categories[wald.groups[1]].q == pytest.approx(found.q)


@WHERE_STATISTICS_CHANGE
def test_mantel_statistic_and_smd_match_correlation_and_mean_difference_in_a_stratum() -> None:
    """χ² is (N − 1) r² with one stratum (Mantel 1963), and Mantel-Haenszel's χ² without continuity correction with two
    scores."""
    rng = np.random.default_rng(23)
    score, group = rng.integers(0, 4, 200), np.repeat([0, 1], 100)
    score[group == 1] = np.minimum(score[group == 1] + (rng.random(100) < 0.3), 3)
    one = Responses.from_wide(score[:, None].astype(float), ["i"], [4])
    taken, _ = sittings(one, ["f"] * 200, group)
    counts = cells(taken, 0, [], 2)
    whole = replace(counts, **{name: getattr(counts, name).sum(axis=0)[None] for name in ("n", "right", "squares")})
    found = mantel(whole, 1)
    r = np.corrcoef(score, group)[0, 1]
    assert (found.chi2, found.p) == pytest.approx((199 * r**2, chi2.sf(199 * r**2, 1)))
    assert found.smd == pytest.approx(score[group == 1].mean() - score[group == 0].mean())
    assert (found.smd / found.se) ** 2 == pytest.approx(found.chi2)

    binary = rng.integers(0, 2, (400, 6)).astype(float)
    both = Responses.from_wide(binary)
    taken, _ = sittings(both, ["f"] * both.n_responses, np.repeat([0, 1], 200))
    counts = cells(taken, 0, range(6), 2)
    n, right = counts.n, counts.right
    several = n.sum(axis=1) > 1
    e = (n[:, 1] * right.sum(axis=1) / np.maximum(n.sum(axis=1), 1))[several]
    gap = abs((right[several, 1] - e).sum())
    corrected, plain = mantel_haenszel(counts, 1).chi2, mantel(counts, 1).chi2
    assert plain == pytest.approx(corrected * gap**2 / max(gap - 0.5, 0.0) ** 2)


# -- against R ---------------------------------------------------------------------------------------
# The em engine on scored items against R mirt: `mirt_scored.json` was made by `scored_reference.R`.

REFERENCE = json.loads(Path(__file__).with_name("mirt_scored.json").read_text())


def answers(shared: Path, name: str) -> Responses:
    if name == "mixed":
        return planned_mixed()
    file, first, least = {"science": ("science", 1, 1), "verbal": ("verbal_aggression_poly", 3, 0)}[name]
    header, *rows = csv.reader((shared / "data" / f"{file}_wide.csv").read_text().splitlines())
    scores = np.array([row[first:] for row in rows], dtype=float) - least
    return Responses.from_wide(scores, header[first:], categories=scores.max(axis=0).astype(int) + 1)


def log_odds(fit: Calibration, j: int, score: int) -> tuple[float, float]:
    """d_k of an item, and its standard error."""
    by = np.zeros(fit.cov.shape[1])
    by[1], t = score, 0.0
    if fit.n_categories[j] > 2:
        by[2 + score], t = 1.0, fit.further[j, score]
    return score * fit.d[j] + t, float(np.sqrt(by @ fit.cov[j] @ by))


@pytest.mark.parametrize("key", ["science_gpcm", "verbal_gpcm", "verbal_pcm", "mixed_gpcm"])
def test_estimates_errors_and_likelihood_match_mirt(shared, key):
    name, model = key.split("_")
    reference, responses = REFERENCE[key], answers(shared, name)
    fit = fit_em(responses, model=models_by_max_score(model, responses.n_categories - 1), prior_on_rare_steps=False)
    assert fit.convergence.converged, fit.convergence.reason
    assert fit.convergence.loglik == pytest.approx(reference["loglik"], abs=1e-4)
    assert fit.convergence.n_parameters == reference["n_est"]
    assert fit.latent_sd**2 == pytest.approx(reference["variance"], abs=1e-4)
    # if the SD is free, mirt stops short: the log-likelihood here is higher by 1e-7
    close = 1e-4 if model == "gpcm" else 2e-4
    for j, (item, known) in enumerate(reference["items"].items()):
        found = {f"d{k}": log_odds(fit, j, k) for k in range(1, fit.n_categories[j])} | {"a": (fit.a[j], fit.a_se[j])}
        for parameter, value in known["estimates"].items():
            assert found[parameter][0] == pytest.approx(value, abs=close), (item, parameter)
            if (error := known["errors"][parameter]) is not None:
                assert found[parameter][1] == pytest.approx(error, rel=0.01), (item, parameter)
    assert model == "gpcm" or fit.convergence.loglik > reference["loglik"]
