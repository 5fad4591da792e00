"""Standard errors of equating by the delta method against 2,000 bootstrap samples."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics import PsychometricsError
from irt_psychometrics.equating import ScoreCounts, equate, equate_by_items

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
    bootstrap = equate(*forms, **how, bootstrap=2000, random_state=1)
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


SETS = 80


@pytest.fixture(scope="module")
def equated() -> np.ndarray:
    """Equivalents and their errors in `SETS` data sets, shape (2, SETS, 16); eight items of 15 are in both forms."""
    rng = np.random.default_rng(5)
    names = [f"q{k:02}" for k in range(22)]
    bank = irt.ItemParameters.from_frame({"item": names, "a": rng.lognormal(0.1, 0.25, 22), "b": rng.normal(0, 1, 22)})
    found = []
    for _ in range(SETS):
        old, new = (
            irt.fit(irt.simulate_responses(bank.select(form), rng.normal(mean, 1, 1000), random_state=rng), threads=1)
            for form, mean in ((names[:15], 0.0), (names[7:], 0.3))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", irt.LinkWarning)  # an anchor may be dropped by chance
            link = irt.link(new, old)
        forms = new.calibration.items, old.calibration.items
        constants = {"slope": link.slope, "intercept": link.intercept}
        found.append(equate_by_items(*forms, **constants, joint_cov=link.joint_cov(*forms)))
    return np.array([[one.equated for one in found], [one.se for one in found]])


@pytest.mark.ci
def test_errors_after_link_are_the_spread_of_equivalents(equated):
    """Compares errors with an SD from 80 sets, which has an error of 8 %. Errors that count forms and link as
    independent are twice as large."""
    equivalents, se = equated[:, :, 3:13]
    ratio = np.sqrt((se**2).mean(axis=0)) / equivalents.std(axis=0, ddof=1)
    assert abs(ratio.mean() - 1) < 3 / np.sqrt(2 * SETS)


def test_joint_covariance_contains_items_of_both_forms_and_constants():
    rng = np.random.default_rng(6)
    names = [f"q{k}" for k in range(9)]
    bank = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 9, "b": rng.normal(size=9)})
    x, y = (irt.fit(irt.simulate_responses(bank, rng.normal(size=800), random_state=rng)) for _ in range(2))
    link = irt.link(x, y)
    new, old = x.calibration.items.select(names[:5]), y.calibration.items.select(names[2:])
    cov = link.joint_cov(new, old)
    ab = np.ravel([[3 * j, 3 * j + 1] for j in range(5)])
    np.testing.assert_allclose(cov[np.ix_(ab, ab)], new.joint_cov)
    assert cov.shape == (38, 38)
    np.testing.assert_allclose(cov, cov.T, atol=1e-15)
    assert np.linalg.eigvalsh(cov).min() > -1e-12
    moved = irt.ScaleLink.from_json(link.to_json())
    np.testing.assert_array_equal(moved.joint_cov(new, old), cov)
    apart = replace(new, cov=new.cov_of_each)  # as of a fit that kept no covariances between items
    assert np.isnan(link.joint_cov(apart, old)[0, 0])
    with pytest.raises(PsychometricsError, match="q0 must be on the form's own side of the link"):
        irt.link(x, y.calibration.items.select(names[1:])).joint_cov(new, y.calibration.items)
