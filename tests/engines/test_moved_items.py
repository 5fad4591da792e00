"""Items whose parameters are moved by draws of their errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from irt_assets.psychometrics.core import covariances
from irt_assets.psychometrics.core.items import ItemParameters, ItemRow
from irt_assets.psychometrics.core.moved_items import moved_curves

DRAWS = 4_000


def items() -> ItemParameters:
    """A 2PL item, and another with c."""
    cov = covariances.of_errors(np.array([0.1, 0.15]), np.array([0.12, 0.1]), np.array([-0.01, 0.01]))
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
    known = ItemParameters.of_rows(["scored", "plain"], [ItemRow(0.9, 0.2, further=further), ItemRow(1.2, 0.3)])
    further_cov = np.zeros((2, 4, 6))
    further_cov[0, 1, 3] = 0.09
    known = replace(known, cov=np.tile(np.diag([0.04, 0.02]), (2, 1, 1)), further_cov=further_cov)
    t = np.array([one.others[0].further[:, 0] for one in moved_curves(known, 200)])
    assert np.all(t[:, [0, 3]] == 0)
    assert np.all(np.isneginf(t[:, 2]))
    assert np.std(t[:, 1]) == pytest.approx(0.3, rel=0.2)


def test_items_without_known_errors_stay() -> None:
    known = items()
    some = replace(known, cov=np.where(np.array([True, False])[:, None, None], np.nan, known.cov))
    (one,) = moved_curves(some, 1)
    assert one.a[0] == known.a[0]
    assert one.a[1] != known.a[1]


@pytest.mark.parametrize("error", [0.0, np.nan])
def test_nothing_is_drawn_if_no_item_has_errors(error: float) -> None:
    known = items()
    assert [*moved_curves(replace(known, cov=np.full((2, 2, 2), error), further_cov=None), 3)] == []
