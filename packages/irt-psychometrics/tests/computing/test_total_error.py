"""The error of θ including errors of item parameters: brute force, formulas, and coverage with estimated items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from irt_psychometrics.core.item_models import ItemCurves, OtherItems
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.model_families import GPCM
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.scoring.abilities import Scores, eap, estimate_abilities
from irt_psychometrics.scoring.total_error import ParameterErrors
from psychometrics_testbed.linked_months import calibration, errors

NOTHING = np.zeros((2, 2))


def draw_answers(probability: np.ndarray, rng: np.random.Generator) -> Responses:
    return Responses.from_wide((rng.random(probability.shape) < probability).astype(float))


def draw_items(rng: np.random.Generator, j: int, c: float = 0.0) -> ItemParameters:
    """Items with large, unequal errors of (a, b), and of logit c if c > 0."""
    a, b = rng.lognormal(0, 0.3, j), rng.normal(0, 1, j)
    root = rng.normal(0, 0.08, (j, 3, 3)) * np.array([1, 1, 3])[:, None]
    cov = root @ root.transpose(0, 2, 1)
    ids = tuple(f"i{k}" for k in range(j))
    return ItemParameters(ids, a, b, np.full(j, c), cov[:, :2, :2], cov[:, 2:] * (c > 0))


@pytest.mark.parametrize("c", [0.0, 0.2])
def test_total_error_matches_the_spread_of_theta_over_drawn_parameters(c):
    rng = np.random.default_rng(11)
    items = draw_items(rng, 60, c)
    theta = np.linspace(-1.5, 1.5, 7)
    responses = draw_answers(items.curve(theta), rng)
    # the mode: the formula is exact for it, up to second order; EAP moves similarly
    scores = estimate_abilities(responses, items.a, items.d, items.c, method="map")
    errors_of = ParameterErrors(items, np.full(60, -1), [], NOTHING)
    total = errors_of.total_se(Scores(scores.theta, np.zeros(7)), responses, 1.0)

    roots = np.linalg.cholesky(items.cov_of_all + 1e-12 * np.eye(3))
    moved = []
    for _ in range(1500):
        da, db, dc = np.einsum("jxy,jy->xj", roots, 0.3 * rng.standard_normal((60, 3)))
        a, b = items.a + da, items.b + db
        guessing = 1 / (1 + np.exp(-(np.log(c / (1 - c)) + dc))) if c else np.zeros(60)
        moved.append(estimate_abilities(responses, a, -a * b, guessing, method="map").theta)
    # 1,500 draws: errors of 1.8 %; for a 3PL the draws follow observed, the formula expected information
    np.testing.assert_allclose(np.std(moved, axis=0) / 0.3, total, rtol=0.08 if c == 0 else 0.25)


def test_total_error_matches_the_spread_of_theta_over_drawn_steps_of_scored_items():
    """Half of the items are scored 0 to 2 and have errors of a, b and t₁; the rest are scored 0 and 1."""
    rng = np.random.default_rng(12)
    j, scored = 60, np.arange(0, 60, 2)
    root = rng.normal(0, 0.06, (j, 3, 3))
    own = root @ root.transpose(0, 2, 1)
    cov = np.zeros((j, 5, 5))
    kept = np.array([0, 1, 3])  # t₀ and t₂ are fixed
    cov[:, kept[:, None], kept] = own
    cov[1::2, 2:], cov[1::2, :, 2:] = 0.0, 0.0
    a, b, t = rng.lognormal(-0.4, 0.3, j), rng.normal(0, 1, j), rng.normal(0.3, 0.4, j)

    def others(t1):
        steps = np.stack([0 * t1, t1, 0 * t1])[:, scored]
        return (OtherItems(GPCM, scored, steps, np.full(scored.size, 3)),)

    names = tuple(f"i{k}" for k in range(j))
    items = ItemParameters(names, a, b, np.zeros(j), cov[:, :2, :2], cov[:, 2:], others(t))
    theta, x = np.linspace(-1, 1, 5), np.empty((5, j))
    for k in range(j):
        steps = np.array([0.0, t[k], 0.0]) if k % 2 == 0 else np.zeros(2)
        p = softmax(np.multiply.outer(a[k] * (theta - b[k]), np.arange(steps.size)) + steps, axis=1)
        x[:, k] = (rng.random((5, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    responses = Responses.from_wide(x, names, np.where(np.arange(j) % 2 == 0, 3, 2))
    scores = estimate_abilities(responses, a, -a * b, np.zeros(j), others=others(t), method="map")
    errors_of = ParameterErrors(items, np.full(j, -1), [], NOTHING)
    total = errors_of.total_se(Scores(scores.theta, np.zeros(5)), responses, 1.0)
    moved = []
    for _ in range(300):
        da, db, dt = np.einsum("jxy,yj->xj", root, 0.3 * rng.standard_normal((3, j)))
        drawn = a + da, -(a + da) * (b + db), np.zeros(j)
        moved.append(estimate_abilities(responses, *drawn, others=others(t + dt), method="map").theta)
    np.testing.assert_allclose(np.std(moved, axis=0) / 0.3, total, rtol=0.15)  # 300 draws: 4 % each
    unknown = replace(items, further_cov=np.where((np.arange(j) == 0)[:, None, None], np.nan, cov[:, 2:]))
    assert np.isnan(replace(errors_of, items=unknown).total_se(scores, responses, 1.0)).all()


def test_common_errors_of_a_fits_unit_and_origin_are_added_to_the_error_of_theta():
    rng = np.random.default_rng(5)
    a, b = rng.lognormal(0, 0.3, 80), rng.normal(0, 1, 80)
    gamma = np.array([[0.02**2, 0.3 * 0.02 * 0.05], [0.3 * 0.02 * 0.05, 0.05**2]])
    by = np.zeros((80, 2, 2))
    by[:, 0, 0], by[:, 1, 0], by[:, 1, 1] = -a, b, 1.0
    own = errors(a, b, 2000)
    joint = (by.reshape(-1, 2) @ gamma @ by.reshape(-1, 2).T).reshape(80, 2, 80, 2)
    joint[np.arange(80), :, np.arange(80), :] += own
    blocks = joint[np.arange(80), :, np.arange(80), :]
    fit = calibration(a, b, blocks, joint_ab=joint.reshape(160, 160))
    found = ParameterErrors.common_to(fit)
    np.testing.assert_allclose(found, gamma, rtol=1e-8, atol=1e-12)

    theta = np.array([-1.0, 0.0, 1.5])
    responses = draw_answers(fit.items.curve(theta), rng)
    scores = eap(responses, fit.a, fit.d, fit.c)
    with_own = ParameterErrors(replace(fit.items, cov=own), np.full(80, -1), [], NOTHING)
    whole = ParameterErrors(fit.items, np.zeros(80, dtype=np.int64), [found], NOTHING)
    added = whole.total_se(scores, responses, 1.0) ** 2 - with_own.total_se(scores, responses, 1.0) ** 2
    at = np.stack([scores.theta, np.ones(3)])
    shrunk = (1 - scores.se**2) ** 2  # the prior does not move with the items
    np.testing.assert_allclose(added, shrunk * np.einsum("xn,xy,yn->n", at, gamma, at), rtol=0.05)


def test_covariance_of_linear_functions_matches_the_full_covariance_of_the_items():
    """Items of two fits, whose errors of the scale are correlated, and an item with independent errors."""
    rng = np.random.default_rng(8)
    items, origin = draw_items(rng, 7, c=0.2), np.array([0, 1, 0, 1, -1, 0, 1])
    shared = np.array([[0.01, 0.002], [0.002, 0.02]])
    common = [shared + np.diag([0.01, 0.03]), shared + np.diag([0.02, 0.01])]
    gamma = np.block([[common[0], shared], [shared, common[1]]])
    full = np.zeros((7, 3, 7, 3))
    for i in range(7):
        for j in range(7):
            if i != j and min(origin[i], origin[j]) >= 0:
                left, right = (np.array([[-items.a[k], 0], [items.b[k], 1], [0, 0]]) for k in (i, j))
                between = gamma[2 * origin[i] : 2 * origin[i] + 2, 2 * origin[j] : 2 * origin[j] + 2]
                full[i, :, j] = left @ between @ right.T
        full[i, :, i] = items.cov_of_all[i]
    by = rng.normal(size=(2, 7, 3))
    errors_of = ParameterErrors(items, origin, common, shared)
    expected = np.einsum("xip,ipjq,yjq->xy", by, full, by)
    np.testing.assert_allclose(errors_of.covariance(by), expected, rtol=1e-10)
    unknown = replace(
        errors_of, items=replace(items, cov=np.where(np.arange(7)[:, None, None] == 2, np.nan, items.cov))
    )
    assert np.isnan(unknown.covariance(by)).all()
    by[:, 2] = 0.0
    np.testing.assert_allclose(unknown.covariance(by), errors_of.covariance(by), rtol=1e-12)


def test_errors_that_several_fits_share_count_once():
    rng = np.random.default_rng(6)
    items = draw_items(rng, 40)
    responses = draw_answers(items.curve(np.zeros(3)), rng)
    scores = eap(responses, items.a, items.d, items.c)
    gamma = np.diag([0.0, 0.01])
    halves = np.arange(40) % 2
    one = ParameterErrors(items, np.zeros(40, dtype=np.int64), [gamma], NOTHING).total_se(scores, responses, 1.0)
    same = ParameterErrors(items, halves, [gamma, gamma], gamma).total_se(scores, responses, 1.0)
    separate = ParameterErrors(items, halves, [gamma, gamma], NOTHING).total_se(scores, responses, 1.0)
    np.testing.assert_allclose(same, one, rtol=1e-12)
    assert (separate < one).all()
    assert (one > scores.se).all()


def test_total_error_is_unknown_if_an_answered_items_errors_are_unknown():
    """Answers to items without parameters do not matter."""
    items = draw_items(np.random.default_rng(7), 4)
    unknown = replace(
        items,
        a=np.where(np.arange(4) == 3, np.nan, items.a),
        cov=np.where((np.arange(4) == 2)[:, None, None], np.nan, items.cov),
    )
    responses = Responses.from_wide(np.array([[1, 0, np.nan, 1], [1, 0, 1, np.nan], [np.nan, np.nan, np.nan, 1.0]]))
    scores = eap(responses, unknown.a, unknown.d, unknown.c)
    errors_ = ParameterErrors(unknown, np.full(4, -1), [], NOTHING)
    total = errors_.total_se(scores, responses, 1.0)
    assert total[0] > scores.se[0]
    assert np.isnan(total[1])
    assert total[2] == scores.se[2] == 1.0
    turned = Responses(responses.person, 3 - responses.item, responses.score, 3, responses.item_ids[::-1])
    order = np.lexsort((turned.item, turned.person))
    turned = replace(turned, item=turned.item[order], score=turned.score[order])
    names = tuple(unknown.item_ids[int(k)] for k in (3, 2, 1, 0))
    np.testing.assert_allclose(errors_.among(names).total_se(scores, turned, 1.0), total, rtol=1e-12)


def test_rasch_fits_have_common_errors_of_the_origin_but_not_of_the_unit():
    """A fit without joint covariance has no common errors."""
    rng = np.random.default_rng(8)
    theta, b = rng.normal(0, 1, 1500), np.linspace(-1.5, 1.5, 20)
    responses = draw_answers(ItemCurves(np.ones(20), -b, np.zeros(20)).probability(theta), rng)
    fit = fit_em(responses, model="rasch")
    found = ParameterErrors.common_to(fit)
    assert np.abs(found[0]).max() == 0.0
    # the error of the mean of 1,500 learners with 20 answers each: 1/√1500 and somewhat more
    assert 1500**-0.5 < found[1, 1] ** 0.5 < 1.3 * 1500**-0.5
    assert ParameterErrors.common_to(replace(fit, joint_cov=None)) is None


def coverage(seed: int, learners: int, answers: tuple[int, ...], fits: int) -> dict[int, tuple[float, float]]:
    """Share of 95 % intervals that contain the true θ, with `se` and with `se_total`, by number of answers."""
    rng = np.random.default_rng(seed)
    held: dict[int, list[tuple[float, float]]] = {n: [] for n in answers}
    for _ in range(fits):
        a, b = rng.lognormal(0, 0.3, 200), rng.normal(0, 1, 200)
        curves = ItemCurves(a, -a * b, np.zeros(200))
        fit = fit_em(draw_answers(curves.probability(rng.normal(0, 1, learners)), rng), model="2pl")
        gamma = ParameterErrors.common_to(fit)
        for n in answers:
            theta = rng.normal(0, 1, 300)
            item = np.tile(rng.permutation(200)[: min(n, 200)], max(n // 200, 1)).astype(np.int32)
            p = curves.probability(theta)[:, item]
            x = (rng.random(p.shape) < p).astype(np.int8)
            person = np.repeat(np.arange(300, dtype=np.int32), item.size)
            responses = Responses(person, np.tile(item, 300), x.ravel(), 300, fit.item_ids)
            scores = eap(responses, fit.a, fit.d, fit.c)
            errors_ = ParameterErrors(fit.items, np.zeros(200, dtype=np.int64), [gamma], NOTHING)
            off = np.abs(scores.theta - theta)
            total = errors_.total_se(scores, responses, 1.0)
            held[n].append((float(np.mean(off < 1.96 * scores.se)), float(np.mean(off < 1.96 * total))))
    return {n: tuple(np.mean(shares, axis=0).tolist()) for n, shares in held.items()}


def test_intervals_contain_the_true_theta_if_a_thousand_learners_calibrated_the_items():
    """10 fits, 3,000 θ: Monte Carlo error about .009, because errors within a fit are correlated."""
    measured, total = coverage(21, 1000, (1000,), 10)[1000]
    assert 0.925 < total < 0.975
    assert total - measured > 0.01  # the errors of the items


@pytest.mark.long
@pytest.mark.parametrize("learners", [1000, 5000])
def test_intervals_contain_the_true_theta_in_the_long_run(learners):
    """200 fits, 60,000 θ a row: Monte Carlo error .002."""
    for _, total in coverage(22, learners, (50, 200, 1000), 200).values():
        assert 0.94 < total < 0.96
