"""Standard errors of equating by the delta method against 2,000 bootstrap samples."""

import json
from pathlib import Path

import numpy as np
import pytest

from irt_psychometrics.equating import ScoreCounts, equate

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "equating.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("method", "adjustment"),
    [
        ("linear", "tucker"),
        ("linear", "levine"),
        ("linear", "levine-true-score"),
        ("linear", "frequency-estimation"),
        ("linear", "chained"),
        ("circle-arc", "tucker"),
        ("equipercentile", "chained"),
        ("equipercentile", "frequency-estimation"),
        ("kernel", "frequency-estimation"),
    ],
)
def test_delta_errors_of_common_items_are_those_of_bootstrap(method, adjustment):
    counts = REFERENCE["designs"]
    forms = ScoreCounts(counts["external new"]), ScoreCounts(counts["external old"])
    how = {"method": method, "adjustment": adjustment, "internal": False}
    if method in ("equipercentile", "kernel"):
        forms = tuple(form.presmoothed(4, 4, 2) for form in forms)
    delta = equate(*forms, **how)
    if delta.bandwidths:
        how["bandwidths"] = tuple(delta.bandwidths.values())
    bootstrap = equate(*forms, **how, bootstrap=2000, seed=1)
    below = forms[0].probability.sum(axis=1).cumsum()
    middle = slice(np.searchsorted(below, 0.05), np.searchsorted(below, 0.95) + 1)
    ratio = delta.se[middle] / bootstrap.se[middle]
    assert abs(ratio.mean() - 1) < 0.02  # one bootstrap SD from 2,000 samples has an error of 1.6 %
    assert (np.abs(ratio - 1) < 0.07).all()


def test_delta_errors_stay_finite_if_learners_cannot_have_many_pairs_of_scores():
    """Scores below the anchor's are impossible, and their smoothed shares have relative errors above e⁷⁰⁰."""
    rng = np.random.default_rng(2)
    theta = rng.normal(0, 1, 1500)[:, None]
    right = rng.random((1500, 20)) < 1 / (1 + np.exp(-1.3 * (theta - np.linspace(-2, 2, 20))))
    form = ScoreCounts.from_scores(right.sum(axis=1), right[:, ::2].sum(axis=1), max_score=20, max_second=10)
    smooth = form.presmoothed(6, 4, 3)
    for adjustment in ("frequency-estimation", "chained"):
        how = {"method": "equipercentile", "adjustment": adjustment}
        delta, bootstrap = equate(smooth, smooth, **how).se[3:18], equate(smooth, smooth, **how, bootstrap=300).se[3:18]
        np.testing.assert_allclose(delta, bootstrap, rtol=0.25)
