"""Drift through estimation and linking: items that moved are flagged, sound items are not.

A cheap part of benchmarks/bench_drift.py, whose tables are in docs/explanation/drift-evidence.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from irt_psychometrics import Calibration
from irt_psychometrics.core import covariances
from irt_psychometrics.core.moved_items import moved_curves
from irt_psychometrics.drift import Comparison, Drift, Published
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.items import ItemParameters, ItemRow
from irt_psychometrics.linking import link_to_anchors
from irt_psychometrics.responses import Responses
from psychometrics_testbed.drift_worlds import anchor_set
from psychometrics_testbed.made_anchors import with_errors_of
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

ITEMS, MOVED, LEARNERS = 30, 3, 2000
IDS = [f"item{j:02d}" for j in range(ITEMS)]


def fit_answers(rng: np.random.Generator, n: int, a: np.ndarray, b: np.ndarray, mean: float, sd: float) -> Calibration:
    theta = rng.normal(mean, sd, (n, 1))
    right = rng.random((n, ITEMS)) < 1 / (1 + np.exp(-a * (theta - b)))
    return fit_em(Responses.from_wide(right.astype(float), IDS), threads=1)


def simulate_drift(seed: int, size: float, n_old: int, n_new: int) -> tuple[Drift, np.ndarray]:
    """A window of different learners, N(0.5, 1.2²), in which the first three items moved by `size`, up or down."""
    rng = np.random.default_rng([8, seed])
    a, b = np.exp(rng.normal(0, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
    moved = np.where(np.arange(ITEMS) < MOVED, size * rng.choice([-1, 1], ITEMS), 0.0)
    old = fit_answers(rng, n_old, a, b, 0.0, 1.0)
    frozen = anchor_set(old.a, old.b, old.cov_ab)
    new = fit_answers(rng, n_new, a, b + moved, 0.5, 1.2)
    anchors = frozen
    drift = Drift.from_comparison(
        Comparison.from_linked_fit(new, link_to_anchors(new, frozen), anchors, Published.from_anchors(anchors))
    )
    return drift, np.array([level != "none" for level in drift.severity])


@pytest.mark.ci
@WHERE_STATISTICS_CHANGE
@pytest.mark.timeout(300)
def test_items_that_moved_by_half_are_flagged_and_sound_items_are_not() -> None:
    """In the long run 0.91 of 45 moved items are found, with a standard error of 0.04; 0.78 is three of these below.
    0.1 % of 405 sound items are flagged; 1 % is eight standard errors above. Moved items do not bias b of the rest."""
    months = [simulate_drift(seed, 0.5, LEARNERS, LEARNERS) for seed in range(15)]
    flags = np.array([found for _, found in months])
    assert flags[:, :MOVED].mean() >= 0.78
    assert flags[:, MOVED:].mean() <= 0.01
    unmoved = np.array([drift.delta_b[MOVED:].mean() for drift, _ in months])
    assert abs(unmoved.mean()) <= 0.03


@pytest.mark.ci
@WHERE_STATISTICS_CHANGE
@pytest.mark.timeout(300)
def test_sound_months_are_rarely_flagged_if_published_values_are_from_500_learners() -> None:
    """If 5 % of months are flagged, the chance of more than four among 25 is 0.7 %. The share of p < 0.05 among 750
    has a standard error of 1 %, if items of a month are independent."""
    months = [simulate_drift(100 + seed, 0.0, 500, 2000) for seed in range(25)]
    assert sum(found.any() for _, found in months) <= 4
    assert np.mean([drift.p < 0.05 for drift, _ in months]) == pytest.approx(0.045, abs=0.03)


def of_few_answers(seed: int) -> np.ndarray:
    """p of ten of 30 unmoved items, which have a slope of 2 and 200 of the month's 2,000 answers."""
    rng = np.random.default_rng([200, 5, seed])
    few = np.arange(ITEMS) >= 20
    a, b = np.where(few, 2.0, np.exp(rng.normal(0, 0.3, ITEMS))), rng.normal(0, 0.7, ITEMS)
    old = fit_answers(rng, 2000, a, b, 0.0, 1.0)
    theta = rng.normal(0.2, 1.1, (2000, 1))
    answers = (rng.random((2000, ITEMS)) < 1 / (1 + np.exp(-a * (theta - b)))).astype(float)
    for j in np.flatnonzero(few):
        answers[rng.permutation(2000)[200:], j] = np.nan
    every = anchor_set(old.a, old.b, old.cov_ab)
    anchors = with_errors_of(every, old)
    published = Published.from_anchors(anchors)
    new = fit_em(Responses.from_wide(answers, IDS), threads=1)
    of_20 = anchor_set(old.a[:20], old.b[:20], old.cov_ab[:20])
    linking = link_to_anchors(new, of_20)
    drift = Drift.from_comparison(Comparison.from_linked_fit(new, linking, anchors, published))
    return drift.p[np.isin(drift.item_ids, np.array(IDS)[few])]


@pytest.mark.ci
@WHERE_STATISTICS_CHANGE
@pytest.mark.timeout(300)
def test_items_with_few_answers_have_the_nominal_error_rate() -> None:
    """5 % of 300 tests have p < 0.05, with a standard error of 1.3 %; with a prior on these slopes 17 %."""
    p = np.concatenate([of_few_answers(seed) for seed in range(30)])
    assert p.size >= 295
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.04)


# -- moved items -------------------------------------------------------------------------------------
# Items whose parameters are moved by draws of their errors.

DRAWS = 4_000


def items() -> ItemParameters:
    """A 2PL item and a 3PL item."""
    cov = covariances.from_errors(np.array([0.1, 0.15]), np.array([0.12, 0.1]), np.array([-0.01, 0.01]))
    further_cov = np.array([[[0.0, 0.0, 0.0]], [[0.01, 0.01, 0.25]]])
    a, b, c = np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 0.2]])
    return ItemParameters(("one", "guessed"), a, b, c, cov, further_cov)


def test_moved_parameters_have_the_covariance_of_their_errors() -> None:
    known = items()
    moved = [(one.a, one.d, one.c) for one in moved_curves(known, DRAWS)]
    a, d, c = np.moveaxis(np.array(moved), 1, 0)
    assert np.all(c[:, 0] == 0)
    for j in range(2):
        by = np.array([[1, 0, 0], [-known.b[j], -known.a[j], 0], [0, 0, 1]])
        expected = by @ known.cov_of_all[j] @ by.T
        rows = [a[:, j], d[:, j], logit(c[:, j])] if j else [a[:, j], d[:, j]]
        found = np.cov(rows)
        assert np.mean(rows, axis=1) == pytest.approx([known.a[j], known.d[j], logit(0.2)][: len(rows)], abs=0.04)
        size = np.sqrt(np.diag(expected))[: len(rows)]
        # 4,000 draws: a correlation is off by .016
        assert np.abs(found - expected[: len(rows), : len(rows)]).max() < 0.08 * np.outer(size, size).max()


def test_draws_are_the_same_at_each_call() -> None:
    first, again = (next(moved_curves(items(), 3)) for _ in range(2))
    assert np.array_equal(first.a, again.a)
    assert not np.array_equal(first.a, items().a)


def test_parameters_of_scores_are_moved_and_missing_scores_stay_missing() -> None:
    further = {"max_score": 3.0, "t0": 0.0, "t1": 0.4, "t3": 0.0}
    known = ItemParameters.from_rows(["scored", "plain"], [ItemRow(0.9, 0.2, further=further), ItemRow(1.2, 0.3)])
    further_cov = np.zeros((2, 4, 6))
    further_cov[0, 1, 3] = 0.09
    known = replace(known, cov=np.tile(np.diag([0.04, 0.02]), (2, 1, 1)), further_cov=further_cov)
    t = np.array([one.others[0].further[:, 0] for one in moved_curves(known, 200)])
    assert np.all(t[:, [0, 3]] == 0)
    assert np.all(np.isneginf(t[:, 2]))
    assert np.std(t[:, 1]) == pytest.approx(0.3, rel=0.2)


def test_items_without_known_errors_are_not_moved() -> None:
    known = items()
    some = replace(known, cov=np.where(np.array([True, False])[:, None, None], np.nan, known.cov))
    (one,) = moved_curves(some, 1)
    assert one.a[0] == known.a[0]
    assert one.a[1] != known.a[1]


@pytest.mark.parametrize("error", [0.0, np.nan])
def test_moved_curves_are_empty_if_no_item_has_errors(error: float) -> None:
    known = items()
    assert [*moved_curves(replace(known, cov=np.full((2, 2, 2), error), further_cov=None), 3)] == []
